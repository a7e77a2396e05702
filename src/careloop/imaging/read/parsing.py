"""One DICOM file's header parsed up to its pixels, whatever its transfer syntax, and where the pixels begin."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.read.layout import BIG_ENDIAN, DEFLATED, PIXEL_KEYWORDS, PixelPlace
from careloop.imaging.read.limits import LIMIT_BYTES
from careloop.ingest.dicom.tree import is_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

HEAD_BYTES = 1 << 16  # read at once: holds the whole header of most files, and some of the pixel data
_SEEN_BYTES = 4096  # of the pixel data: offset table of some frames and the first codestream's own header
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@dataclass(frozen=True)
class Parsed:
    """A header, its transfer syntax (deduced where a file does not say), its pixels' place, and the file's length.

    The length is that of the inflated data set for a deflated file, whose places count from its start.
    """

    header: Dataset
    transfer_syntax: str
    place: PixelPlace | None
    file_bytes: int


def parse_file(name: str, files: Files, tags: tuple[int, ...]) -> Parsed | None:
    """Return the elements `tags` of a file, or None where it is no DICOM file or a DICOMDIR.

    Raises:
        UnreadableError: the file cannot be opened or its header is malformed.
    """
    with files.open(name) as (file, size):
        head = file.read(HEAD_BYTES)
        if not is_dicom(head):
            return None
        if _is_deflated(head):
            data = inflated(head + file.read())
            return replace(_parse(io.BytesIO(data), data, len(data), tags), transfer_syntax=DEFLATED)
        parsed = _parse_head(head, size, tags)
        if parsed is None:
            whole = io.BufferedReader(file) if isinstance(file, io.FileIO) else file
            whole.seek(0)
            parsed = _parse(whole, b"", size, tags)
    return None if _is_directory(parsed.header) else parsed


def _parse_head(head: bytes, size: int, tags: tuple[int, ...]) -> Parsed | None:
    """The header, where all of it is in the first bytes of a file of `size` bytes; else None."""
    try:
        parsed = _parse(io.BytesIO(head), head, size, tags)
    except UnreadableError:
        if len(head) == size:
            raise
        return None
    return None if parsed.place is None and len(head) < size else parsed


def _parse(file: IO[bytes], seen: bytes, size: int, tags: tuple[int, ...]) -> Parsed:
    from pydicom.filereader import read_partial

    found: list[tuple[int, str | None, int, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXEL_KEYWORDS:
            found.append((int(tag), vr, length, file.tell()))
            return True
        return False

    try:
        header = read_partial(file, stop_when=at_pixels, force=True, specific_tags=list(tags))  # type: ignore[arg-type]
    except MemoryError:
        raise UnreadableError("its header is malformed (an element of impossible length)") from None
    except Exception:  # pydicom has no common exception for a malformed file
        raise UnreadableError("its header is cut off or malformed") from None
    syntax = str(header.file_meta.get("TransferSyntaxUID", "") or "")
    if not syntax:
        implicit, little = header.original_encoding
        syntax = _IMPLICIT if implicit else _EXPLICIT if little else BIG_ENDIAN
    return Parsed(header, syntax, _place(found, file, seen), size)


def _place(found: list[tuple[int, str | None, int, int]], file: IO[bytes], seen: bytes) -> PixelPlace | None:
    if not found:
        return None
    tag, vr, length, offset = found[-1]
    if seen:
        head = seen[offset : offset + _SEEN_BYTES]
    else:
        file.seek(offset)
        head = file.read(_SEEN_BYTES)
    return PixelPlace(PIXEL_KEYWORDS[tag], vr or "OW", offset, length, head)


def _is_directory(header: Dataset) -> bool:
    uid = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    return uid == "1.2.840.10008.1.3.10" or 0x00041220 in header  # DirectoryRecordSequence


def _is_deflated(head: bytes) -> bool:
    meta = _meta_end(head)
    return head[128:132] == b"DICM" and DEFLATED.encode() in head[132:meta]


def _meta_end(head: bytes) -> int:
    """Where the file meta information ends: its group length (0002,0000) is its first element (PS3.10 section 7.1)."""
    if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return 132
    return 144 + int.from_bytes(head[140:144], "little")


def inflated(data: bytes) -> bytes:
    """Return a deflated file with its data set inflated (PS3.5 A.5), as explicit VR little endian without preamble.

    Raises:
        UnreadableError: the data are damaged, or would inflate beyond the limit of size.
    """
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(data[_meta_end(data) :], LIMIT_BYTES)
    except (zlib.error, MemoryError):
        raise UnreadableError("its deflated data are damaged") from None
    if not inflate.eof:
        raise UnreadableError("its deflated data are cut off or above the limit of size")
    return plain
