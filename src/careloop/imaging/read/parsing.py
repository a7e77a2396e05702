"""One DICOM file's header parsed up to its pixels, whatever its transfer syntax, and where the pixels begin."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from careloop.imaging.read.elements import raw_text
from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.read.layout import BIG_ENDIAN, DEFLATED, PIXEL_KEYWORDS, PixelPlace
from careloop.ingest.dicom.tree import is_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

HEAD_BYTES = 1 << 16  # read at once: holds the whole header of most files, and some of the pixel data
MOST_HEADER_BYTES = 64 << 20  # of a deflated file: real ones are a thousand times smaller
_SEEN_BYTES = 4096  # of the pixel data: offset table of some frames and the first codestream's own header
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@dataclass(frozen=True)
class Parsed:
    """A header, its transfer syntax (deduced where a file does not say), its pixels' place, and the file's length.

    Of a deflated file, places count from the start of the inflated data set, and the length is what its header states
    (how much there is shows when the pixels are inflated).
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
        parsed = None if DEFLATED.encode() in head else _parse_head(head, size, tags)
        if parsed is None:
            file.seek(0)
            whole = io.BufferedReader(file) if isinstance(file, io.FileIO) else file
            parsed = _parse_whole(whole, size, tags)
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


def _parse_whole(file: IO[bytes], size: int, tags: tuple[int, ...]) -> Parsed:
    """The header of a file that is deflated, or whose header is longer than its head."""
    if _deflated_from(file) is None:
        return _parse(file, b"", size, tags)
    for most in (HEAD_BYTES, MOST_HEADER_BYTES):
        data = inflated(file, most)
        parsed = replace(_parse(io.BytesIO(data), data, len(data), tags), transfer_syntax=DEFLATED)
        if parsed.place is not None:
            return replace(parsed, file_bytes=parsed.place.offset + parsed.place.length)
    return parsed


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
    uid = raw_text(header.file_meta, "MediaStorageSOPClassUID")
    return uid == "1.2.840.10008.1.3.10" or 0x00041220 in header  # DirectoryRecordSequence


def _deflated_from(file: IO[bytes]) -> int | None:
    """Where the deflated part of a file begins; None where it is not deflated. The position of the file is kept."""
    from pydicom.filereader import read_dataset

    start = file.tell()
    try:
        file.seek(start + (132 if file.read(132)[128:] == b"DICM" else 0))
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)  # type: ignore[arg-type]
        return file.tell() if str(meta.get("TransferSyntaxUID", "")) == DEFLATED else None
    except Exception:  # pydicom has no common exception for a malformed file; parsing it will say so
        return None
    finally:
        file.seek(start)


def inflated(file: IO[bytes], most: int) -> bytes:
    """Return the beginning of a deflated file's data set (PS3.5 A.5), which is explicit VR little endian.

    At most `most` bytes are returned, and less where there are less. Raises UnreadableError where they are damaged.
    """
    file.seek(_deflated_from(file) or 0)
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        return inflate.decompress(file.read(), most)
    except zlib.error:
        raise UnreadableError("its deflated data are damaged") from None
