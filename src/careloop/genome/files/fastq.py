"""Short reads in FASTQ, plain or gzip, one file or two with the mates of each pair at the same place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

from careloop import InputError
from careloop.genome.files.packed import UNREADABLE, open_packed

_BASES = re.compile(rb"[ACGTUNMRWSYKVHDB.]*", re.IGNORECASE)
_NAME = re.compile(r"[!-?A-~]{1,254}")  # SAM specification section 1.4
_MAX_LINE = 2**20  # short reads; a line of a megabyte is another kind of file


class Read(NamedTuple):
    """A read as sequenced: `name` without `/1` or comment, bases in upper case, qualities with the offset of 33."""

    name: str
    bases: str
    qualities: str


def read_fragments(paths: tuple[Path, ...]) -> Iterator[tuple[Read, ...]]:
    """Yield the reads of each fragment: one, or two where two files are given.

    Source: Cock et al. 2010, The Sanger FASTQ file format (four lines a read).

    Raises:
        InputError: a file that cannot be read or ends early, a read that is not FASTQ (named by its line), or mates
            that do not belong together.
    """
    if len(paths) == 1:
        yield from ((read,) for read in read_fastq(paths[0]))
        return
    if len(paths) != 2:
        raise InputError(f"reads must come in one FASTQ file or in two of pairs; got {len(paths)}")
    for number, (first, second) in enumerate(zip_longest(*map(read_fastq, paths)), start=1):
        if first is None or second is None:
            short = paths[0] if first is None else paths[1]
            raise InputError(
                f"{short}: both files of pairs must have as many reads; this one ends after {number - 1:,}"
            )
        if first.name != second.name:
            raise InputError(
                f"{paths[1]}: mates must have one name and the same place; read {number:,} has another name"
            )
        yield first, second


def read_fastq(path: Path) -> Iterator[Read]:
    """Yield the reads of one file.

    Raises:
        InputError: as `read_fragments`.
    """
    try:
        with closing(open_packed(path)) as file:
            number = 0
            while lines := _four_lines(file):
                yield _read(lines, path, number + 1)
                number += 4
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UNREADABLE:
        raise InputError(f"{path}: file ends early or is not readable; copy or make it again") from None


def _four_lines(file: BinaryIO) -> list[bytes]:
    """The next read's lines without their ends; none at the end of the file, fewer where it is cut off."""
    lines = [line.rstrip(b"\r\n") for _ in range(4) if (line := file.readline(_MAX_LINE))]
    return lines if any(lines) else []


def _read(lines: list[bytes], path: Path, number: int) -> Read:
    if len(lines) < 4:
        raise InputError(f"{path}: a read has four lines; the file ends within that of line {number:,}; copy it again")
    title, bases, plus, qualities = lines
    good = title[:1] == b"@" and plus[:1] == b"+" and len(bases) == len(qualities) and _BASES.fullmatch(bases)
    if not good or (qualities and not 33 <= min(qualities) <= max(qualities) <= 126):
        raise InputError(
            f"{path}: a read is @name, bases, + and as many qualities (offset 33); that of line {number:,} is not"
        )
    name = title[1:].split(None, 1)[0].decode("ascii", errors="replace") if title[1:].strip() else ""
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{path}: a read's name is 1 to 254 printed characters; that of line {number:,} is not")
    upper = bases.decode("ascii").upper().replace(".", "N").replace("U", "T")
    return Read(name[:-2] if name.endswith(("/1", "/2")) else name, upper, qualities.decode("ascii"))
