"""DICOM segmentations (label map, binary, fractional) as one label map in checked geometry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.read.dicom_object import LABEL_MAP, SEGMENTATION, damage_refused, read_object
from careloop.imaging.read.limits import check_size
from careloop.imaging.read.segment_descriptions import made_by, segments_of
from careloop.imaging.volume import LabelMap, Segment, Source, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

# Positions are decimal strings, and writers round: frames this near to a slice, as a part of the distance between
# slices, lie on it.
ON_A_SLICE = 0.05
IN_PLANE_MM = 1e-2
ANGLE = 1e-4  # largest difference of direction cosines that is one orientation


@dataclass(frozen=True)
class _Frames:
    """Where each frame lies, which segment it holds (0 in a label map), and the directions and spacing they share."""

    positions: NDArray[np.float64]
    segments: tuple[int, ...]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    slice_distance_mm: float | None


def read_segmentation(path: Path, *, volume: Volume | None = None, segments: Collection[int] | None = None) -> LabelMap:
    """Read a DICOM segmentation (PS3.3 A.51): of type LABELMAP, BINARY or FRACTIONAL.

    Slices are sorted along the normal of the frames (row direction cross column direction), and slices without a frame
    are empty. On the grid of `volume` where one is given; else on the smallest grid that holds all frames, which for a
    file without empty frames may have fewer slices than its images. Of a fractional segmentation those voxels are
    taken that have at least half of its maximum, and where several segments do, the one with the highest value.
    `segments` chooses segments by number.

    Raises InputError where frames do not fit on one grid, where binary segments overlap (a label map holds one label
    a voxel: read them one by one with `segments`), and where the file is no segmentation or is damaged.
    """
    dataset = _opened(path)
    with damage_refused(path):
        return _label_map(dataset, path, volume, segments)


def _label_map(dataset: Dataset, path: Path, volume: Volume | None, segments: Collection[int] | None) -> LabelMap:
    described = segments_of(dataset)
    chosen = _chosen(described, segments)
    frames = _frames(dataset, path.name)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if volume is None:
        affine, slices, place = _own_grid(frames, path.name)
    else:
        affine, slices, place = _grid_of(frames, volume, (rows, columns), path.name)
    check_size(path.name, slices * rows * columns * 2)
    labels = _filled(dataset, frames, place, (slices, rows, columns), chosen=set(chosen))
    source = Source(
        files=(str(path),),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        instances=(str(dataset.SOPInstanceUID),),
        patient_id=str(dataset.get("PatientID", "")),
    )
    kept = tuple(described[number] for number in chosen)
    return LabelMap(labels, affine, kept, made_by=made_by(dataset) or path.name, source=source)


def _opened(path: Path) -> Dataset:
    dataset = read_object(path, kinds=(SEGMENTATION, LABEL_MAP))
    with damage_refused(path):
        if "PixelData" not in dataset or not dataset.get("SegmentSequence") or not dataset.get("NumberOfFrames"):
            raise InputError(f"{path.name} has no pixel data, no segments or no frames; it may have been cut short")
    return dataset


def _chosen(described: dict[int, Segment], segments: Collection[int] | None) -> list[int]:
    unknown = sorted(set(segments or ()) - set(described))
    if unknown:
        raise InputError(f"segments must be among {sorted(described)}, got {unknown}")
    return sorted(described if segments is None else set(segments))


def _frames(dataset: Dataset, name: str) -> _Frames:
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(groups) != int(dataset.NumberOfFrames):
        raise InputError(f"{name} must say the place of each of its {dataset.NumberOfFrames} frames, got {len(groups)}")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    positions = _numbers(groups, shared, ("PlanePositionSequence", "ImagePositionPatient"), name=name)
    orientations = _numbers(groups, shared, ("PlaneOrientationSequence", "ImageOrientationPatient"), name=name)
    spacings = _numbers(groups, shared, ("PixelMeasuresSequence", "PixelSpacing"), name=name)
    if np.abs(orientations - orientations[0]).max() > ANGLE or np.ptp(spacings, axis=0).max() > IN_PLANE_MM:
        raise InputError(f"the frames of {name} must share orientation and pixel spacing, got several")
    measures = _functional(groups[0], shared, "PixelMeasuresSequence")
    assert measures is not None  # its spacing was read above
    distance = measures.get("SpacingBetweenSlices")
    if not distance and len(np.unique(positions, axis=0)) == 1:
        distance = measures.get("SliceThickness")
    return _Frames(
        positions=positions,
        segments=tuple(_segment_of(g, shared, dataset.SegmentationType) for g in groups),
        orientation=orientations[0].reshape(2, 3),
        spacing_mm=(float(spacings[0][0]), float(spacings[0][1])),
        slice_distance_mm=float(distance) if distance else None,
    )


def _numbers(
    groups: Sequence[Dataset], shared: Dataset | None, place: tuple[str, str], *, name: str
) -> NDArray[np.float64]:
    """What each frame has at `place` (macro, attribute), in its own functional groups or the shared ones."""
    macro, keyword = place
    values = []
    for group in groups:
        item = _functional(group, shared, macro)
        value = None if item is None else item.get(keyword)
        if value is None:
            raise InputError(f"{name} does not say where all its frames lie in the patient, so labels cannot be placed")
        values.append([float(number) for number in value])
    return np.array(values, dtype=np.float64)


def _functional(group: Dataset, shared: Dataset | None, keyword: str) -> Dataset | None:
    for place in (group, shared):
        if place is not None and place.get(keyword):
            return place.get(keyword)[0]
    return None


def _segment_of(group: Dataset, shared: Dataset | None, kind: str) -> int:
    if kind == "LABELMAP":
        return 0
    item = _functional(group, shared, "SegmentIdentificationSequence")
    if item is None or not item.get("ReferencedSegmentNumber"):
        raise InputError("each frame of a binary or fractional segmentation must name its segment, got one without")
    return int(item.ReferencedSegmentNumber)


def _own_grid(frames: _Frames, name: str) -> tuple[NDArray[np.float64], int, NDArray[np.intp]]:
    """Affine and number of slices of the smallest grid that holds all frames, and the slice of each frame."""
    normal = np.cross(frames.orientation[0], frames.orientation[1])
    along = frames.positions @ normal
    order = np.argsort(along, kind="stable")
    first, last = frames.positions[order[0]], frames.positions[order[-1]]
    length = along[order[-1]] - along[order[0]]
    gaps = np.diff(along[order])
    gaps = gaps[gaps > IN_PLANE_MM]
    distance = _slice_distance(gaps, frames.slice_distance_mm)
    steps = max(round(length / distance), 1)
    step = (last - first) / steps if length > IN_PLANE_MM else normal * distance
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = frames.orientation[1] * frames.spacing_mm[0]
    affine[:3, 2] = frames.orientation[0] * frames.spacing_mm[1]
    affine[:3, 3] = first
    place = _places(frames, affine, name)
    return affine, int(place.max()) + 1, place


def _slice_distance(gaps: NDArray[np.float64], said_mm: float | None) -> float:
    """Distance between slices: what the header says where the gaps between frames are multiples of it."""
    if not len(gaps):
        return said_mm or 1.0
    multiples = gaps / said_mm if said_mm else np.zeros(1)
    fits = bool((multiples > 0.5).all() and np.abs(multiples - np.rint(multiples)).max() <= ON_A_SLICE)
    return said_mm if said_mm and fits else float(gaps.min())


def _grid_of(
    frames: _Frames, volume: Volume, shape: tuple[int, int], name: str
) -> tuple[NDArray[np.float64], int, NDArray[np.intp]]:
    """Affine and number of slices of `volume`, and the slice of each frame on it."""
    own = np.stack([frames.orientation[1] * frames.spacing_mm[0], frames.orientation[0] * frames.spacing_mm[1]], axis=1)
    slices = volume.voxels.shape[0]
    off = np.abs(own - volume.affine[:3, 1:3]) * max(shape)
    if shape != volume.voxels.shape[1:3] or off.max() > IN_PLANE_MM * 2:
        raise InputError(
            f"{name} must lie on the grid of the volume, got another orientation, spacing or size of plane"
        )
    place = _places(frames, volume.affine, name)
    if place.min() < 0 or place.max() >= slices:
        raise InputError(f"{name} has frames outside the {slices} slices of the volume; read it without the volume")
    return volume.affine, slices, place


def _places(frames: _Frames, affine: NDArray[np.float64], name: str) -> NDArray[np.intp]:
    step = affine[:3, 0]
    offset = frames.positions - affine[:3, 3]
    exact = offset @ step / (step @ step)
    place = np.rint(exact).astype(np.intp)
    off = np.linalg.norm(offset - place[:, None] * step, axis=1)
    if off.max() > ON_A_SLICE * np.linalg.norm(step):
        raise InputError(
            f"the frames of {name} must lie on evenly spaced slices, got frame {int(off.argmax()) + 1} "
            f"{off.max():.3g} mm beside one"
        )
    return place


def _filled(
    dataset: Dataset, frames: _Frames, place: NDArray[np.intp], shape: tuple[int, int, int], *, chosen: set[int]
) -> NDArray[np.unsignedinteger]:
    wide = max(chosen, default=0) > 255
    labels = np.zeros(shape, dtype=np.uint16 if wide else np.uint8)
    if dataset.SegmentationType == "LABELMAP":
        if len(set(place.tolist())) < len(place):
            raise InputError("a label map segmentation must have one frame a slice, got several at one place")
        keep = np.isin(np.arange(65536), list(chosen))
        for slice_, pixels in zip(place, _pixels(dataset), strict=True):
            labels[slice_] = np.where(keep[pixels], pixels, 0)
        return labels
    # What the strongest segment of each voxel has, out of `full`; below half of it a voxel belongs to none.
    strongest = np.zeros(shape, dtype=np.uint8)
    full = int(dataset.get("MaximumFractionalValue", 1)) if dataset.SegmentationType == "FRACTIONAL" else 1
    for slice_, segment, pixels in zip(place, frames.segments, _pixels(dataset), strict=True):
        if segment not in chosen:
            continue
        if dataset.SegmentationType == "BINARY" and (pixels.astype(bool) & (labels[slice_] > 0)).any():
            other = int(labels[slice_][pixels.astype(bool) & (labels[slice_] > 0)][0])
            raise InputError(
                f"segments {other} and {segment} overlap, and a label map holds one label a voxel; "
                "read them one by one with `segments`"
            )
        better = (pixels > strongest[slice_]) & (pixels.astype(np.uint16) * 2 >= full)
        labels[slice_][better] = segment
        strongest[slice_][better] = pixels[better]
    return labels


def _pixels(dataset: Dataset) -> Iterator[NDArray[np.unsignedinteger]]:
    if int(dataset.BitsAllocated) == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return _single_bits(dataset)
    from pydicom.pixels import get_decoder, iter_pixels

    # Never GDCM, which pydicom would take for RLE: it ends the process on some malformed streams.
    syntax = dataset.file_meta.TransferSyntaxUID
    able = get_decoder(syntax).available_plugins if syntax.is_encapsulated else ()
    plugin = next((name for name in ("pylibjpeg", "pyjpegls", "pydicom") if name in able), "")
    return iter_pixels(dataset, decoding_plugin=plugin)


def _single_bits(dataset: Dataset) -> Iterator[NDArray[np.unsignedinteger]]:
    """Frames of one bit a pixel, packed without regard to frames (PS3.5 section 8.1.1 and annex D).

    pydicom 3.0's `iter_pixels` takes each frame to begin with a byte.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    for frame in range(int(dataset.NumberOfFrames)):
        start, end = frame * rows * columns, (frame + 1) * rows * columns
        bits = np.unpackbits(packed[start // 8 : -(-end // 8)], bitorder="little")
        yield bits[start % 8 : start % 8 + rows * columns].reshape(rows, columns)
