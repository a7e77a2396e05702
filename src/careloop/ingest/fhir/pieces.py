"""Files to pieces of JSON with bounded memory: unpacked, as UTF-8, and cut at lines or at the entries of a bundle."""

from __future__ import annotations

import codecs
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from careloop.ingest.delivery import BATCH_ROWS
from careloop.ingest.fhir.cutting import Cut, Cutter

READ_BYTES = 16 << 20  # decoded at once, too: more would cost memory and gain no speed
_SHOWN_BYTES = 1000
# A document with a scan in it may be some ten MB; a piece above this is rather a file without its line ends.
MAX_PIECE_BYTES = 256 << 20
Chunks = Iterator[bytes]
_NOT_READ = msgspec.json.Decoder(msgspec.Raw)


class DamagedError(Exception):
    """A file ends early or cannot be unpacked any further; `rest` is what was left over."""

    def __init__(self, reason: str, rest: bytes = b"") -> None:
        super().__init__(reason)
        self.reason, self.rest = reason, rest


@dataclass(frozen=True)
class Run:
    """Some pieces in their order: lines, entries of a bundle, or whole documents (`kind`), with their numbers."""

    kind: str
    raws: list[bytes]
    numbers: Sequence[int]


def opener(path: Path, member: str | None = None) -> Callable[[], Chunks]:
    """Return what reads a file, or a member of a zip file, from its beginning: chunks of UTF-8 text.

    Reading ends with DamagedError where the file does not go on as it should.
    """
    return lambda: _as_utf8(_unpacked(_chunks(path, member)))


def _chunks(path: Path, member: str | None) -> Chunks:
    try:
        with zipfile.ZipFile(path) if member else closing(io.BytesIO()) as archive:
            with archive.open(member) if isinstance(archive, zipfile.ZipFile) and member else path.open("rb") as file:
                yield from _read(file)  # type: ignore[arg-type]
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        raise DamagedError("file ends early or is damaged") from None


def _read(file: BinaryIO) -> Chunks:
    while chunk := file.read(READ_BYTES):
        yield chunk


def _unpacked(chunks: Chunks) -> Chunks:
    """Yield the chunks, unpacked if they are gzip (of one or several members)."""
    first = next(chunks, b"")
    if not first.startswith(b"\x1f\x8b"):
        yield first
        yield from chunks
        return
    gunzip = zlib.decompressobj(wbits=31)
    waiting = first
    while True:
        try:
            while waiting and not gunzip.eof:
                yield gunzip.decompress(waiting, READ_BYTES)
                waiting = gunzip.unconsumed_tail
        except zlib.error:
            raise DamagedError("file is damaged") from None
        if gunzip.eof:
            waiting = (gunzip.unused_data or next(chunks, b"")).lstrip(b"\0")
            if not waiting.startswith(b"\x1f"):
                return
            gunzip = zlib.decompressobj(wbits=31)
        else:
            waiting = next(chunks, b"")
            if not waiting:
                raise DamagedError("file ends early")


def _as_utf8(chunks: Chunks) -> Chunks:
    """Yield the chunks without byte order mark, recoded if they are UTF-16."""
    first = next(chunks, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        yield decoder.decode(first).encode()
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    else:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from chunks


def runs(chunks: Chunks, *, lines: bool) -> Iterator[Run]:
    """Yield the pieces of a file in runs, as they come.

    `lines`: the file's name says that it has a resource a line; else its beginning decides.
    """
    first = b""
    while len(first) < 1 << 10 and (chunk := next(chunks, b"")):
        first += chunk
    yield from _lines(first, chunks) if lines or _has_lines(first) else _documents(first, chunks)


def _has_lines(first: bytes) -> bool:
    head, _, rest = first.partition(b"\n")
    try:
        _NOT_READ.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return head.lstrip().startswith(b"{") and rest.lstrip().startswith(b"{")


def _lines(first: bytes, chunks: Chunks) -> Iterator[Run]:
    """Yield runs of lines that are not blank."""
    rest, number = b"", 1
    damage: DamagedError | None = None
    chunk: bytes | None = first
    while chunk is not None:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield from _numbered(lines, number)
        number += len(lines)
        if len(rest) > MAX_PIECE_BYTES:
            raise DamagedError(f"line is longer than {MAX_PIECE_BYTES >> 20} MB", rest[:_SHOWN_BYTES])
        try:
            chunk = next(chunks, None)
        except DamagedError as error:
            chunk, damage = None, error
    if damage is not None:
        raise DamagedError(damage.reason, rest)
    yield from _numbered([rest], number)


def _numbered(lines: list[bytes], first: int) -> Iterator[Run]:
    numbers: Sequence[int] = range(first, first + len(lines))
    if not all(map(bytes.strip, lines)):
        numbers = [number for number, line in zip(numbers, lines, strict=True) if line.strip()]
        lines = [line for line in lines if line.strip()]
    for start in range(0, len(lines), BATCH_ROWS):
        yield Run("line", lines[start : start + BATCH_ROWS], numbers[start : start + BATCH_ROWS])


def _documents(first: bytes, chunks: Chunks) -> Iterator[Run]:
    """Yield runs of the entries of bundles and of other documents, cut out of a file as it streams."""
    cutter = Cutter()
    counts = {"entry": 0, "document": 0}
    damage: DamagedError | None = None
    chunk: bytes | None = first
    while chunk is not None:
        yield from _grouped(cutter.feed(chunk), counts)
        if cutter.open_bytes > MAX_PIECE_BYTES:
            raise DamagedError(f"resource is longer than {MAX_PIECE_BYTES >> 20} MB")
        try:
            chunk = next(chunks, None)
        except DamagedError as error:
            chunk, damage = None, error
    yield from _grouped(cutter.finish(), counts)
    if damage is not None or cutter.is_open:
        raise DamagedError(damage.reason if damage else "file ends early", cutter.rest())


def _grouped(cuts: Iterator[Cut], counts: dict[str, int]) -> Iterator[Run]:
    for kind, group in itertools.groupby(cuts, key=lambda cut: cut.kind):
        raws = [cut.raw for cut in group]
        yield Run(kind, raws, list(range(counts[kind] + 1, counts[kind] + len(raws) + 1)))
        counts[kind] += len(raws)
