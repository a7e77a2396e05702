"""Where the pixels of one DICOM file lie and how they are stored, known from its header alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.read.codestream import Codestream, read_codestream
from careloop.imaging.read.elements import raw_text, whole
from careloop.imaging.read.files import UnreadableError
from careloop.imaging.read.limits import check_size

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
UNDEFINED_LENGTH = 0xFFFFFFFF
NATIVE = {
    "1.2.840.10008.1.2": "implicit VR little endian",
    "1.2.840.10008.1.2.1": "explicit VR little endian",
    "1.2.840.10008.1.2.2": "explicit VR big endian",
    "1.2.840.10008.1.2.1.99": "deflated explicit VR little endian",
}
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
_RLE_MOST = 64  # a run of 128 equal bytes is stored in 2 (PS3.5 G.3)
GREY = {"MONOCHROME1", "MONOCHROME2"}
_ONE_SAMPLE = {*GREY, "PALETTE COLOR"}


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """The pixel data element in its file (in what a deflated file inflates to): where its value begins, and how long.

    `head` is the beginning of the value, as much of it as was read with the header.
    """

    keyword: str
    vr: str
    offset: int
    length: int
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How a file stores its pixels (Image Pixel module, PS3.3 C.7.6.3); sizes in bits, `frames` at least 1.

    `codestream` is what the first encoded frame says of itself, `lut_bits` the bits of a modality LUT's output (0: the
    file has none), and `rescaled` whether the file itself states slope and intercept.
    """

    place: PixelPlace
    transfer_syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    padding: int | None = None
    lut_bits: int = 0
    rescaled: bool = False
    codestream: Codestream | None = None

    @property
    def encapsulated(self) -> bool:
        """True for compressed frames in items (PS3.5 A.4)."""
        return self.transfer_syntax not in NATIVE

    @property
    def is_color(self) -> bool:
        """True where voxels become red, green and blue."""
        return self.photometric not in GREY

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, not compressed; a last part of a byte (of bits) counts whole."""
        subsampled = not self.encapsulated and self.photometric == "YBR_FULL_422"
        samples = 2 if subsampled else self.samples
        return (self.rows * self.columns * samples * self.bits_allocated + 7) // 8

    @property
    def stored_bytes(self) -> int:
        """Bytes of all frames, not compressed (frames of single bits follow each other without a gap)."""
        if self.bits_allocated == 1:
            return (self.rows * self.columns * self.samples * self.frames + 7) // 8
        return self.frame_bytes * self.frames

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of stored values in memory: the smallest whole-number type of this machine that holds them."""
        if self.place.keyword != "PixelData":
            return np.dtype(np.float32 if self.place.keyword == "FloatPixelData" else np.float64)
        bits = self.lut_bits or self.bits_allocated
        return np.dtype(f"{'i' if self.signed and not self.lut_bits else 'u'}{max(1, (bits + 7) // 8)}")


def read_layout(header: Dataset, place: PixelPlace, transfer_syntax: str, file_bytes: int) -> PixelLayout:
    """Return the layout of a header's pixels, checked against the length of the file.

    Raises:
        UnreadableError: an element is missing or contradicts another, the file is too short for its pixels, or the
            image is above the limit of size.
    """
    frames_text = raw_text(header, "NumberOfFrames")
    frames = whole(header, "NumberOfFrames") if frames_text else 1
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    bits = whole(header, "BitsAllocated")
    if not rows or not columns or not bits or frames is None or frames < 1:
        raise UnreadableError("no valid Rows, Columns, BitsAllocated or NumberOfFrames")
    stored = whole(header, "BitsStored") or bits
    high = whole(header, "HighBit")
    samples = whole(header, "SamplesPerPixel") or 1
    lut = header.get_item(0x00283000)
    layout = PixelLayout(
        place=replace(place, head=b""),
        transfer_syntax=transfer_syntax,
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        planar=whole(header, "PlanarConfiguration") or 0,
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=stored - 1 if high is None else high,
        signed=whole(header, "PixelRepresentation") == 1,
        photometric=raw_text(header, "PhotometricInterpretation") or ("MONOCHROME2" if samples == 1 else "RGB"),
        padding=whole(header, "PixelPaddingValue"),
        lut_bits=0 if lut is None or samples != 1 else _lut_bits(header),
        rescaled=bool(raw_text(header, "RescaleSlope")),
        codestream=None if transfer_syntax in NATIVE else read_codestream(_first_fragment(place.head)),
    )
    _check(layout, file_bytes)
    return layout


def _first_fragment(head: bytes) -> bytes:
    """What is there of the first item after the offset table (PS3.5 A.4)."""
    table = int.from_bytes(head[4:8], "little")
    return head[8 + table + 8 :]


def _lut_bits(header: Dataset) -> int:
    try:
        bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
    except Exception:  # pydicom raises whatever a malformed sequence leads to
        raise UnreadableError("its modality LUT is malformed") from None
    if not 8 <= bits <= 16:
        raise UnreadableError(f"its modality LUT must have 8 to 16 bits, got {bits}")
    return 8 if bits == 8 else 16


def _check(layout: PixelLayout, file_bytes: int) -> None:
    bits = layout.bits_allocated
    if layout.place.keyword == "PixelData":
        if bits not in {1, 8, 16, 32} or not 1 <= layout.bits_stored <= bits:
            raise UnreadableError(f"{layout.bits_stored} bits stored in {bits} cannot be read")
        if not layout.bits_stored - 1 <= layout.high_bit < bits:
            raise UnreadableError(f"its high bit {layout.high_bit} does not fit {layout.bits_stored} bits in {bits}")
    elif bits != (32 if layout.place.keyword == "FloatPixelData" else 64):
        raise UnreadableError(f"{layout.place.keyword} cannot have {bits} bits")
    if layout.samples not in {1, 3} or (layout.samples == 1) != (layout.photometric in _ONE_SAMPLE):
        raise UnreadableError(f"{layout.samples} samples of {layout.photometric or 'no colour space'} cannot be read")
    try:
        check_size("the file", layout.rows * layout.columns * layout.samples * layout.frames * max(bits // 8, 1))
    except InputError:
        raise UnreadableError("its image is above the limit of size") from None
    _check_length(layout, file_bytes - layout.place.offset)


def _check_length(layout: PixelLayout, available: int) -> None:
    """Compare what the header promises with what the file can hold, before anything is allocated for it."""
    length = layout.place.length
    if not layout.encapsulated:
        if length == UNDEFINED_LENGTH:
            raise UnreadableError("pixels that are not compressed have no stated length")
        if min(length, available) < layout.stored_bytes:
            held = min(length, available)
            raise UnreadableError(f"its pixel data are cut off: {held:,} of {layout.stored_bytes:,} bytes")
        return
    if available < 16 + 8 * layout.frames:  # an item's tag and length for the table and for each frame
        raise UnreadableError("its pixel data are cut off: too short for its frames")
    if layout.transfer_syntax == RLE and available * _RLE_MOST < layout.stored_bytes:
        raise UnreadableError("its pixel data are cut off: run lengths that short cannot hold its frames")
    check_codestream(layout, layout.codestream)


def check_codestream(layout: PixelLayout, stream: Codestream | None) -> None:
    """Raise UnreadableError where an encoded frame is of another size than the header says."""
    if stream is not None and (stream.rows, stream.columns) != (layout.rows, layout.columns):
        said = f"{layout.rows} x {layout.columns}"
        raise UnreadableError(f"its header says {said}, its codestream {stream.rows} x {stream.columns}")
    if stream is not None and stream.samples != layout.samples:
        raise UnreadableError(f"its header says {layout.samples} samples a pixel, its codestream {stream.samples}")
