"""The files of a folder, a single file, or the members of zip archives, opened by one name each and read in memory."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO

from careloop import InputError
from careloop.imaging.read.limits import check_size

MAX_MEMBERS = 1_000_000  # of one archive: more than any study has, and its directory alone would fill memory
_MEMBER = re.compile(r"(.*?\.zip)!(.*)", re.IGNORECASE | re.DOTALL)


class UnreadableError(Exception):
    """A file that cannot be used; the message says why in a few words."""


def file_names(path: Path) -> Iterator[str]:
    """Yield the name of every file below a folder (or of the file) in sorted order, and of every member of a zip.

    A member is named `ZIP!MEMBER`. Links to folders are not followed. An archive that cannot be opened is yielded as
    a file, whose opening says why.

    Raises:
        InputError: no such path.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    for file in _files_below(path):
        if file.suffix.lower() == ".zip":
            yield from _member_names(file)
        else:
            yield str(file)


def _files_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted(file for file in found if file.is_file())


def _member_names(file: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        yield str(file)
        return
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{file}: a zip may have at most {MAX_MEMBERS:,} members, got {len(members):,}; unpack it")
    for name in sorted({member.filename for member in members if not member.is_dir()}):
        yield f"{file}!{name}"


def short_name(name: str) -> str:
    """A file's or member's name without its folders, for messages."""
    return PurePosixPath(name.replace("\\", "/")).name


class Files:
    """Opens files and zip members by name; archives stay open until it is closed. Several threads may share one."""

    def __init__(self) -> None:
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._lock = Lock()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a file for reading and seeking; give it and its length (of a member: what the archive states).

        Raises:
            UnreadableError: it cannot be opened, leads out of its archive, is encrypted, above the limit of size, or
                breaks while it is read.
        """
        match = _MEMBER.fullmatch(name)
        try:
            if match is None or not Path(match[1]).is_file():
                with Path(name).open("rb", buffering=0) as file:
                    yield file, os.fstat(file.fileno()).st_size
            else:
                member = self._member(match[1], match[2])
                with self._archives[match[1]].open(member) as file:
                    yield file, member.file_size
        except (zipfile.BadZipFile, zlib.error, EOFError):
            raise UnreadableError("the zip file or its member is damaged or cut off") from None
        except OSError:
            raise UnreadableError("cannot be opened or read (no permission, or a damaged disk)") from None
        except (RuntimeError, NotImplementedError):
            raise UnreadableError("the member is encrypted or packed by an unknown method") from None

    def _member(self, archive_name: str, name: str) -> zipfile.ZipInfo:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name[:2]:
            raise UnreadableError("its name leads out of the archive")
        with self._lock:
            archive = self._archives.get(archive_name)
            if archive is None:
                archive = self._archives[archive_name] = zipfile.ZipFile(archive_name)
        try:
            member = archive.getinfo(name)
            check_size(f"{archive_name}!{name}", member.file_size)
        except KeyError:
            raise UnreadableError("no such member of the archive") from None
        except InputError:
            raise UnreadableError("unpacked it would be above the limit of size") from None
        return member
