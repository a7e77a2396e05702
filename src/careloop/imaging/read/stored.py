"""The stored values of one DICOM file's frames, of any transfer syntax, read or decoded frame by frame."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.read.codestream import Codestream, read_codestream
from careloop.imaging.read.files import Files, UnreadableError, short_name
from careloop.imaging.read.layout import (
    BIG_ENDIAN,
    DEFLATED,
    JPEG_2000,
    RLE,
    UNDEFINED_LENGTH,
    PixelLayout,
    check_codestream,
)
from careloop.imaging.read.parsing import inflated

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"  # PS3.5 section 7.5, little endian
_USUAL_HEADER_BYTES = 1 << 16  # of a codestream; one with large application segments is looked through as a whole
CUT_OFF = "its pixel data are cut off"
Room = Sequence["NDArray[Any]"]


def stored_frames(
    name: str, layout: PixelLayout, frames: Sequence[int], *, files: Files, rooms: Room, signed: bool | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the wanted frames of one file in their order, as stored values.

    Grey frames are (rows, columns) of `layout.dtype` (before a modality LUT), bits outside of those stored (overlays)
    removed; colour frames are (rows, columns, 3), red, green and blue. `rooms` holds an array for each frame: frames
    that are not compressed are read straight into one of fitting type and yielded in it. `signed` overrides the header
    for a JPEG 2000 codestream of another sign.

    Raises:
        UnreadableError: pixel data cut off, no codec for them, or a frame that no codec can decode.
    """
    try:
        with _pixel_file(name, layout, files) as file:
            if not layout.encapsulated and _is_plain(layout):
                yield from _plain_frames(file, layout, frames, rooms)
                return
            file.seek(layout.place.offset)
            size = layout.place.length
            data = file.read() if size == UNDEFINED_LENGTH else file.read(size)
        yield from _decoded_frames(name, layout, frames, data, files=files, signed=signed)
    except UnreadableError as error:
        raise UnreadableError(f"{short_name(name)}: {error}") from None


@contextmanager
def _pixel_file(name: str, layout: PixelLayout, files: Files) -> Iterator[IO[bytes]]:
    with files.open(name) as (file, _):
        if layout.transfer_syntax == DEFLATED:
            yield io.BytesIO(inflated(file, layout.place.offset + layout.stored_bytes))
        else:
            yield file


def _is_plain(layout: PixelLayout) -> bool:
    """True for grey values of whole bytes in file order, which need no unpacking."""
    swapped = layout.transfer_syntax == BIG_ENDIAN and layout.bits_allocated == 8 and layout.place.vr == "OW"
    return layout.samples == 1 and not layout.is_color and layout.bits_allocated % 8 == 0 and not swapped


def _plain_frames(file: IO[bytes], layout: PixelLayout, frames: Sequence[int], rooms: Room) -> Iterator[NDArray[Any]]:
    stored = _stored_dtype(layout)
    for frame, room in zip(frames, rooms, strict=True):
        fits = room.dtype == stored and room.flags.c_contiguous
        values = room if fits else np.empty((layout.rows, layout.columns), stored)
        file.seek(layout.place.offset + frame * layout.frame_bytes)
        _read_into(file, values)
        if (layout.transfer_syntax == BIG_ENDIAN) == (sys.byteorder == "little"):
            values.byteswap(inplace=True)
        yield without_other_bits(values, layout)


def _stored_dtype(layout: PixelLayout) -> np.dtype[Any]:
    """`layout.dtype` before a modality LUT."""
    if layout.place.keyword != "PixelData":
        return layout.dtype
    return np.dtype(f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}")


def _read_into(file: IO[bytes], values: NDArray[Any]) -> None:
    view = memoryview(values.view(np.uint8).reshape(-1))  # type: ignore[arg-type]
    at = 0
    while at < len(view):
        count = file.readinto(view[at:])  # type: ignore[attr-defined]
        if not count:
            raise UnreadableError(CUT_OFF)
        at += count


def without_other_bits(values: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Keep the stored bits of each value, in place: those above and below may be overlays or anything (PS3.5 8.1.1)."""
    above = layout.bits_allocated - 1 - layout.high_bit
    others = layout.bits_allocated - layout.bits_stored
    if values.dtype.kind in "iu" and others:
        if above:
            np.left_shift(values, above, out=values)
        np.right_shift(values, others, out=values)
    return values


def _decoded_frames(
    name: str, layout: PixelLayout, frames: Sequence[int], data: bytes, *, files: Files, signed: bool | None
) -> Iterator[NDArray[Any]]:
    """Frames that pydicom decodes with its plugins."""
    palette = _header(name, files) if layout.photometric == "PALETTE COLOR" else None
    encoded = _encoded_frames(data, layout) if layout.encapsulated else None
    for frame in frames:
        if encoded is None:
            values = _decode(data, layout, index=frame)
        else:
            said = _checked_codestream(encoded[frame], layout)
            values = _decode(encoded[frame], layout, index=0)
            if said is not None and layout.transfer_syntax in JPEG_2000 and layout.samples == 1:
                values = _with_sign(values, said.precision, layout.signed if signed is None else signed)
        yield values if palette is None else _colored(values, palette)


def _decode(data: bytes, layout: PixelLayout, *, index: int) -> NDArray[Any]:
    from pydicom.pixels import get_decoder

    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1 if layout.encapsulated else layout.frames,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "photometric_interpretation": layout.photometric,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": layout.place.keyword,
        "pixel_vr": layout.place.vr,
    }
    if layout.samples > 1:
        options["planar_configuration"] = layout.planar
    if layout.transfer_syntax in JPEG_2000:
        options["apply_j2k_sign_correction"] = False
    try:
        decoder = get_decoder(layout.transfer_syntax)
        try:
            values, said = decoder.as_array(data, index=index, decoding_plugin=_quickest(decoder), **options)
        except RuntimeError:  # then by any other codec
            values, said = decoder.as_array(data, index=index, **options)
    except NotImplementedError:
        raise UnreadableError(f"no codec is known for transfer syntax {layout.transfer_syntax}") from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a malformed codestream leads to; a codec's panic in Rust is no Exception
        reason = " ".join(str(error).split())[:150]
        raise UnreadableError(f"its pixel data cannot be decoded ({layout.transfer_syntax}): {reason}") from None
    if layout.samples == 3 and said["photometric_interpretation"] != "RGB":
        raise UnreadableError(f"its colours ({said['photometric_interpretation']}) cannot be turned to RGB")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _quickest(decoder: Decoder) -> str:
    """The plugin that is quicker than pydicom's first choice (by 1.2 to 8 times, measured here), if it is installed."""
    return next((name for name in ("pylibjpeg", "pyjpegls") if name in decoder.available_plugins), "")


def _checked_codestream(frame: bytes, layout: PixelLayout) -> Codestream | None:
    """What an encapsulated frame says of itself (RLE says nothing), checked before a codec allocates for it."""
    if layout.transfer_syntax == RLE:
        return None
    start, end = _fragments(frame)[0]
    said = read_codestream(frame[start : min(end, start + _USUAL_HEADER_BYTES)]) or read_codestream(frame[start:end])
    if said is None:
        raise UnreadableError("a frame is no codestream of its transfer syntax")
    check_codestream(layout, said)
    return said


def _with_sign(values: NDArray[Any], precision: int, signed: bool) -> NDArray[Any]:
    """The codestream's bits read as signed or unsigned numbers, whatever the codec made of them."""
    size = values.dtype.itemsize
    others = 8 * size - precision
    values = values.view(f"{'i' if signed else 'u'}{size}")
    return values if others <= 0 else (values << others) >> others


def _colored(indices: NDArray[Any], header: Dataset) -> NDArray[Any]:
    from pydicom.pixels import apply_color_lut

    try:
        return apply_color_lut(indices, header)[..., :3]
    except Exception:  # pydicom raises whatever a malformed palette leads to
        raise UnreadableError("its palette is missing or malformed") from None


def with_modality_lut(values: NDArray[Any], name: str, files: Files) -> NDArray[Any]:
    """Return the values after the file's modality LUT (PS3.3 C.11.1.1.1)."""
    from pydicom.pixels import apply_modality_lut

    try:
        return apply_modality_lut(values, _header(name, files))
    except Exception:  # pydicom raises whatever a malformed table leads to
        raise UnreadableError("its modality LUT is malformed") from None


def _header(name: str, files: Files) -> Dataset:
    """All of a file's header: for the few files whose tables are needed."""
    import pydicom

    with files.open(name) as (file, _):
        return pydicom.dcmread(io.BytesIO(file.read()), stop_before_pixels=True, force=True)


def _encoded_frames(data: bytes, layout: PixelLayout) -> list[bytes]:
    """Each frame as encapsulated pixel data of its own: one item a frame, or as the offset table has it."""
    from pydicom.encaps import generate_frames

    fragments = _fragments(data)
    if layout.frames == 1 and fragments:
        return [data]
    if len(fragments) == layout.frames:
        return [_encapsulated(data[start:end]) for start, end in fragments]
    try:
        found = [_encapsulated(stream) for stream in generate_frames(data, number_of_frames=layout.frames)]
    except Exception:  # pydicom raises whatever a malformed offset table leads to
        found = []
    if len(found) < layout.frames:
        raise UnreadableError(f"{CUT_OFF}: {len(fragments)} fragments for {layout.frames} frames")
    return found


def _encapsulated(stream: bytes) -> bytes:
    """One frame as the only item behind an empty offset table."""
    return b"".join((_ITEM, bytes(4), _ITEM, len(stream).to_bytes(4, "little"), stream))


def _fragments(data: bytes) -> list[tuple[int, int]]:
    """Where the items after the offset table begin and end (PS3.5 A.4); UnreadableError where one is cut off."""
    fragments, at = [], 0
    while at + 8 <= len(data) and data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            raise UnreadableError(CUT_OFF)
        fragments.append((at + 8, end))
        at = end
    if data[at : at + 4] not in {_SEQUENCE_END, b""}:
        raise UnreadableError("its pixel data are no sequence of items")
    return fragments[1:]
