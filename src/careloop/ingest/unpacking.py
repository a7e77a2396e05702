"""Files, plain, gzipped or in a zip file, as chunks of UTF-8 text with bounded memory."""

from __future__ import annotations

import codecs
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

READ_BYTES = 16 << 20  # decoded at once, too: more would cost memory and gain no speed
# A document with a scan in it may be some ten MB; a piece above this is rather a file without its line ends.
MAX_PIECE_BYTES = 256 << 20
Chunks = Iterator[bytes]


class DamagedError(Exception):
    """A file ends early or cannot be unpacked any further; `rest` is what was left over."""

    def __init__(self, reason: str, rest: bytes = b"") -> None:
        super().__init__(reason)
        self.reason, self.rest = reason, rest


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
