"""The voxels of one stack, decoded slice by slice straight into one array in physical units."""

from __future__ import annotations

import logging
import math
import mmap
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.read.layout import JPEG_2000, PixelLayout
from careloop.imaging.read.limits import check_size
from careloop.imaging.read.sign import settled_sign
from careloop.imaging.read.stored import stored_frames, with_modality_lut
from careloop.imaging.slices import SliceHeader

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]  # what is done, how much, of how much
PIXELS = "pixel data"
SIGN_FRAMES = 5  # looked at where header and codestream disagree about the sign
FRAMES_AT_ONCE = 32  # of one multi-frame file, so that several threads have work
_WHOLE_NUMBERS = ("u1", "i1", "i2", "u2", "i4", "u4", "i8")  # signed first from 16 bits: differences stay right
_LARGE_BLOCK_BYTES = 16 << 20  # some 4 slices of 1024 x 1024; glibc takes notice up to 32 MiB
_MAPPED_BYTES = 4 << 20  # from here numpy asks for huge pages
FLOAT32_BITS = 24  # whole numbers that float32 holds exactly


@dataclass(frozen=True)
class Scale:
    """Physical value = slope x stored value + intercept, for one slice."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_whole(self) -> bool:
        """True where whole numbers stay whole."""
        return self.slope.is_integer() and self.intercept.is_integer()


@dataclass(frozen=True)
class _Job:
    """Frames of one file, and which slices of the stack they are."""

    file: str
    frames: tuple[int, ...]
    places: tuple[int, ...]


@dataclass
class _Reading:
    """What all threads that read one stack share; `signed` overrides headers where JPEG 2000 contradicts them."""

    files: Files
    layouts: Mapping[str, PixelLayout]
    scales: Sequence[Scale]
    inverted: bool
    signed: bool | None = None


def read_voxels(
    slices: Sequence[SliceHeader],
    layouts: Mapping[str, PixelLayout],
    scales: Sequence[Scale],
    *,
    where: str,
    inverted: bool,
    progress: Progress | None = None,
) -> tuple[NDArray[np.generic], tuple[Finding, ...]]:
    """Return the voxels (slices, rows, columns) or (slices, rows, columns, 3), and what was found in decoding.

    Whole-number slopes and intercepts give the leanest whole-number type that holds every value (int16 for CT), others
    float32 (float64 from 25 bits). `layouts` are by file, `scales` by slice. `inverted` turns the grey values of
    MONOCHROME1 slices round within their range, so that high is bright (PS3.3 C.7.6.3.1.2).

    Raises:
        RefusedSeriesError: a slice whose pixels are cut off or cannot be decoded; slices of different kinds.
        InputError: the volume is above the limit of size.
    """
    kinds = {(layouts[s.file].is_color, layouts[s.file].place.keyword, s.rows, s.columns) for s in slices}
    if len(kinds) > 1:
        message = "slices differ in size, or are in part in colour or in floating point"
        raise RefusedSeriesError(where, [Finding(PIXELS, "refused", message)])
    _keep_freed_memory()
    with Files() as files, _quiet():
        reading = _Reading(files, layouts, scales, inverted)
        try:
            found = _settle_sign(slices, reading)
            if any(finding.verdict == "refused" for finding in found):
                raise RefusedSeriesError(where, found)
            if next(iter(kinds))[0]:
                return _color(slices, reading, where, progress), tuple(found)
            return _grey(slices, reading, where, progress), tuple(found)
        except UnreadableError as error:
            raise RefusedSeriesError(where, [Finding(PIXELS, "refused", str(error))]) from None


def _keep_freed_memory() -> None:
    """Let the C library keep what the decoding of one slice frees for the next one: 1.3 times as fast in all for RLE.

    glibc gives freed memory back to the system, which zeroes it again for each slice, until a larger block than those
    was freed once (mallopt(3), M_MMAP_THRESHOLD). Nothing is written to this block, so that it takes no memory.
    """
    block = bytes(_LARGE_BLOCK_BYTES)
    del block


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom from writing to the log what is found and reported here anyway."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(level)


def _settle_sign(slices: Sequence[SliceHeader], reading: _Reading) -> list[Finding]:
    doubtful = [s for s in slices if _is_doubtful(reading.layouts[s.file])]
    if not doubtful:
        return []
    chosen = [doubtful[i] for i in np.linspace(0, len(doubtful) - 1, min(SIGN_FRAMES, len(doubtful))).astype(int)]

    def both_ways(header: SliceHeader) -> tuple[NDArray[Any], NDArray[Any]]:
        layout = reading.layouts[header.file]
        room = [np.empty(0)]
        read = [
            next(stored_frames(header.file, layout, [header.frame], files=reading.files, rooms=room, signed=signed))
            for signed in (False, True)
        ]
        return read[0], read[1]

    reading.signed, finding = settled_sign(map(both_ways, chosen), header=doubtful[0].signed)
    return [finding]


def _is_doubtful(layout: PixelLayout) -> bool:
    stream = layout.codestream
    in_question = layout.transfer_syntax in JPEG_2000 and layout.samples == 1 and not layout.is_color
    return in_question and stream is not None and stream.signed is not None and stream.signed != layout.signed


def _jobs(slices: Sequence[SliceHeader], layouts: Mapping[str, PixelLayout]) -> list[_Job]:
    """Slices by file, in the order of frames; a long multi-frame file that is not compressed in several parts."""
    of_file: dict[str, list[tuple[int, int]]] = {}
    for place, header in enumerate(slices):
        of_file.setdefault(header.file, []).append((header.frame, place))
    jobs = []
    for file, pairs in of_file.items():
        ordered = sorted(pairs)
        step = len(ordered) if layouts[file].encapsulated else FRAMES_AT_ONCE
        parts = [ordered[at : at + step] for at in range(0, len(ordered), step)]
        jobs += [_Job(file, tuple(f for f, _ in part), tuple(p for _, p in part)) for part in parts]
    return jobs


def _grey(
    slices: Sequence[SliceHeader], reading: _Reading, where: str, progress: Progress | None
) -> NDArray[np.generic]:
    layouts = [reading.layouts[s.file] for s in slices]
    shape = (len(slices), slices[0].rows, slices[0].columns)
    stored = np.result_type(*{_effective_dtype(layout, reading.signed) for layout in layouts})
    if stored.kind == "f" or not all(scale.is_whole for scale in reading.scales):
        wide = stored.itemsize > 4 or max(layout.bits_stored for layout in layouts) > FLOAT32_BITS
        kept = stored.kind == "f" and all(scale == Scale() for scale in reading.scales)
        out = _empty(shape, stored if kept else np.dtype(np.float64 if wide else np.float32), where)
        _fill(slices, reading, out, _as_float, progress)
        return out
    out = _empty(shape, stored, where)
    low, high = _fill(slices, reading, out, _in_place, progress)
    final = _leanest(low, high, stored)
    if final.itemsize == stored.itemsize:
        return out.view(final)
    out = _empty(shape, final, where)
    _fill(slices, reading, out, _as_whole, progress)
    return out


def _effective_dtype(layout: PixelLayout, signed: bool | None) -> np.dtype[Any]:
    """The type of a file's stored values, with the settled sign where header and codestream disagree."""
    if signed is None or not _is_doubtful(layout):
        return layout.dtype
    return np.dtype(f"{'i' if signed else 'u'}{layout.dtype.itemsize}")


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    check_size(where, size)
    if size < _MAPPED_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    try:
        # numpy asks for huge pages, and on a machine whose memory is in pieces the kernel then takes longer to find
        # them than the whole series takes to read.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return np.frombuffer(pages, dtype).reshape(shape)
    except OSError:
        raise InputError(f"{where} needs {size / (1 << 30):.1f} GiB of memory, which are not free") from None


def _leanest(low: int, high: int, stored: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest type for values from `low` to `high`, none smaller than that of the stored values."""
    for name in _WHOLE_NUMBERS:
        dtype = np.dtype(name)
        limits = np.iinfo(dtype)
        if dtype.itemsize >= stored.itemsize and limits.min <= low and high <= limits.max:
            return dtype
    return np.dtype(np.float64)


# Takes (values, scale, out): puts the physical values of one slice into `out`, which may be `values` itself.
_Convert = Callable[["NDArray[Any]", Scale, "NDArray[Any]"], None]


def _as_float(values: NDArray[Any], scale: Scale, out: NDArray[Any]) -> None:
    if scale == Scale():
        out[...] = values
        return
    exact = np.multiply(values, scale.slope, dtype=np.float64)
    exact += scale.intercept
    out[...] = exact


def _as_whole(values: NDArray[Any], scale: Scale, out: NDArray[Any]) -> None:
    if out.dtype.kind == "f":
        _as_float(values, scale, out)
    else:
        out[...] = values.astype(np.int64) * int(scale.slope) + int(scale.intercept)


def _in_place(values: NDArray[Any], scale: Scale, out: NDArray[Any]) -> None:
    """Whole numbers modulo the size of `out`: exact wherever the results fit, which `_fill` returns the limits for."""
    if values is not out:
        out[...] = values
    plain = out.view(f"u{out.dtype.itemsize}")
    modulus = 1 << (8 * out.dtype.itemsize)
    if scale.slope != 1:
        np.multiply(plain, plain.dtype.type(int(scale.slope) % modulus), out=plain)
    if scale.intercept:
        np.add(plain, plain.dtype.type(int(scale.intercept) % modulus), out=plain)


def _fill(
    slices: Sequence[SliceHeader],
    reading: _Reading,
    out: NDArray[Any],
    convert: _Convert,
    progress: Progress | None,
) -> tuple[int, int]:
    """Read every slice into its place of `out`; return the least and greatest physical value (0 for floats)."""
    limits: list[tuple[int, int]] = []

    def work(job: _Job) -> int:
        for place, room, values in _job_frames(job, reading, out):
            scale = reading.scales[place]
            if convert is _in_place:
                ends = [int(scale.slope) * int(v) + int(scale.intercept) for v in (values.min(), values.max())]
                limits.append((min(ends), max(ends)))
            convert(values, scale, room)
        return len(job.places)

    done = 0
    threads = 1 if any(layout.encapsulated for layout in reading.layouts.values()) else _cores()  # codecs hold the GIL
    for count in _each(work, _jobs(slices, reading.layouts), threads=threads):
        done += count
        if progress:
            progress("slices read", done, len(slices))
    return (min(low for low, _ in limits), max(high for _, high in limits)) if limits else (0, 0)


def _job_frames(job: _Job, reading: _Reading, out: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Each frame's place, its room in `out`, and its values after modality LUT and inversion (in that room or not)."""
    layout = reading.layouts[job.file]
    signed = reading.signed if _is_doubtful(layout) else None
    rooms = [out[place] for place in job.places]
    frames = stored_frames(job.file, layout, job.frames, files=reading.files, rooms=rooms, signed=signed)
    for place, room, stored in zip(job.places, rooms, frames, strict=True):
        values = with_modality_lut(stored, job.file, reading.files) if layout.lut_bits else stored
        if reading.inverted and layout.photometric == "MONOCHROME1":
            _invert(values, layout)
        yield place, room, values


def _invert(values: NDArray[Any], layout: PixelLayout) -> None:
    """Turn values round within the range that their bits have, in place."""
    if values.dtype.kind == "i":
        np.invert(values, out=values)  # -1 - value
    elif values.dtype.kind == "u":
        bits = 8 * values.dtype.itemsize if layout.lut_bits else layout.bits_stored
        np.subtract(values.dtype.type((1 << bits) - 1), values, out=values)


def _color(
    slices: Sequence[SliceHeader], reading: _Reading, where: str, progress: Progress | None
) -> NDArray[np.generic]:
    """(slices, rows, columns, 3) of the type that the first frame has: of 8 or 16 bits."""
    out: NDArray[Any] | None = None
    done = 0
    for job in _jobs(slices, reading.layouts):
        layout = reading.layouts[job.file]
        rooms = [np.empty(0)] * len(job.frames)
        frames = stored_frames(job.file, layout, job.frames, files=reading.files, rooms=rooms)
        for place, values in zip(job.places, frames, strict=True):
            if out is None:
                out = _empty((len(slices), *values.shape), values.dtype, where)
            if values.shape != out.shape[1:] or values.dtype != out.dtype:
                raise UnreadableError("its frames in colour differ in size or type")
            out[place] = values
            done += 1
        if progress:
            progress("slices read", done, len(slices))
    assert out is not None
    return out


def _cores() -> int:
    """Cores that this process may use, at most 4: more threads do not read faster from one disk."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 4)


def _each(work: Callable[[_Job], int], jobs: Sequence[_Job], *, threads: int) -> Iterator[int]:
    """Do all jobs and yield the number of slices of each; stops at the first that fails."""
    if threads == 1 or len(jobs) == 1:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(work, jobs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
