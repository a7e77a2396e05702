"""C-CDA files as sources of events: documents, plain, gzipped or zipped, some hundred files to a source."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import IO

from careloop import InputError
from careloop.ingest.ccda.batches import KnownBy, Setting, Work
from careloop.ingest.ccda.documents import RefusedError
from careloop.ingest.ccda.header import Numbers
from careloop.ingest.delivery import Batch, Source
from careloop.ingest.zones import zone_named

_NAMES = re.compile(r".*\.(xml|cda|ccd|ccda)(\.gz)?|.*\.zip", re.IGNORECASE)
FILES_AT_ONCE = 500  # files to a source, the piece that is resumed as a whole
BYTES_AT_ONCE = 256 << 20
_READ_BYTES = 1 << 18
# The parser reads a token again from its beginning with each piece of it: pieces grow to where that costs little.
_MAX_READ_BYTES = 1 << 20
Opened = tuple[str, Path]


def ccda_sources(
    path: Path,
    *,
    origin: str = "ccda",
    patient_identifier: str | None = None,
    time_zone: str = "UTC",
    known_by: KnownBy = "document",
) -> list[Source]:
    """Return the C-CDA documents (R1.1, R2.1, 3.0) at `path`, a file or a folder that is searched, as sources.

    Read are `.xml`, `.cda`, `.ccd` and `.ccda`, each plain or as `.gz`, and such files within `.zip`. Small files share
    a source, 500 at a time. Subjects are the plain number of the hospital whose OID is `patient_identifier`, by which
    other formats know them; else `origin:<root>|<extension>` of the patient's first id.

    Events: the patient; problems, allergies, medications, immunizations, results, vital signs, social and family
    history, procedures, encounters and notes; the narrative of sections without entries. Each entry is known by its id,
    within its patient and kind, so that the same entry in two documents is one; entries without id belong to their
    document, and a newer version (setId; effectiveTime, then versionNumber) or replacement takes their place.

    `known_time` is the time of the nearest author below the document, else the document's effectiveTime, or with
    `known_by="event"` the end of what `time` stands for. Times without offset are local to `time_zone`.

    Raises:
        InputError: no such path, no C-CDA file there, another kind of file, or no such time zone.
    """
    zone = zone_named(time_zone)
    if known_by not in {"document", "event"}:
        raise InputError(f"known_by must be document or event, got {known_by}")
    setting = Setting(Numbers(origin, patient_identifier), zone, known_by)
    return [_source(group, setting) for group in _grouped(_found(Path(path)))]


def _source(group: list[Opened], setting: Setting) -> Source:
    name = group[0][0] if len(group) == 1 else f"{group[0][0]} to {group[-1][0]} ({len(group)} files)"
    return Source(name, tuple(file for _, file in group), partial(_batches, group, setting))


def _found(path: Path) -> list[Opened]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        found = [(file.relative_to(path).as_posix(), file) for file in files if _NAMES.fullmatch(file.name)]
        if not found:
            raise InputError(f"{path}: no C-CDA file (.xml, plain or .gz, or .zip of these) in this folder")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path")
    if not _NAMES.fullmatch(path.name):
        raise InputError(f"{path}: not a C-CDA file; give .xml, plain or .gz, or a .zip of these")
    return [(path.name, path)]


def _grouped(found: list[Opened]) -> Iterator[list[Opened]]:
    """Yield neighbouring files that are read as one source; zip files alone, as they are groups already."""
    group: list[Opened] = []
    size = 0
    for opened in found:
        is_zip = opened[1].suffix.lower() == ".zip"
        bytes_ = opened[1].stat().st_size
        if group and (is_zip or len(group) >= FILES_AT_ONCE or size + bytes_ > BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        if is_zip:
            yield [opened]
        else:
            group.append(opened)
            size += bytes_
    if group:
        yield group


def _batches(group: list[Opened], setting: Setting) -> Iterator[Batch]:
    work = Work(setting)
    for name, chunks in _documents(group):
        work.add(name, chunks)
        if work.is_full:
            yield work.batch()
            work = Work(setting)
    yield work.batch()


def _documents(group: list[Opened]) -> Iterator[tuple[str, Iterator[bytes]]]:
    for name, file in group:
        if file.suffix.lower() != ".zip":
            yield name, _chunks(file, None)
            continue
        try:
            with zipfile.ZipFile(file) as archive:
                members = sorted(member for member in archive.namelist() if _is_document(member))
                for member in members:
                    yield f"{name}/{member}", _chunks(file, archive, member)
        except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            yield name, _damaged()


def _is_document(member: str) -> bool:
    return _NAMES.fullmatch(member) is not None and not member.lower().endswith(".zip")


def _damaged() -> Iterator[bytes]:
    raise RefusedError("file ends early or is damaged")
    yield b""


def _chunks(file: Path, archive: zipfile.ZipFile | None, member: str = "") -> Iterator[bytes]:
    """Yield a file, unpacked, in growing pieces.

    Raises:
        RefusedError: it is damaged or encrypted.
    """
    try:
        with closing(archive.open(member) if archive is not None else file.open("rb")) as opened:
            yield from _unpacked(opened)
    except (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error):
        raise RefusedError("file ends early or is damaged") from None


def _unpacked(opened: IO[bytes]) -> Iterator[bytes]:
    is_gzip = opened.read(2) == b"\x1f\x8b"
    opened.seek(0)
    size = _READ_BYTES
    with gzip.GzipFile(fileobj=opened) if is_gzip else nullcontext(opened) as file:
        while chunk := file.read(size):
            yield chunk
            size = min(2 * size, _MAX_READ_BYTES)
