"""The contours of an RT Structure Set as a label map on the grid of the images that they were drawn on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.read.dicom_object import STRUCTURE_SET, damage_refused, read_object
from careloop.imaging.volume import LabelMap, Segment, Source, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
ON_A_SLICE = 0.1  # a contour this near to a slice, as a part of the distance between slices, was drawn on it
SNAP = 5  # decimals of a voxel: points meant to lie on a voxel's centre or edge do, whatever decimal strings rounded


@dataclass(frozen=True)
class _Structure:
    """A region's name, colour and code, and its closed contours as points (n, 3) in mm, LPS."""

    name: str
    contours: tuple[NDArray[np.float64], ...]
    colour: tuple[int, int, int] | None = None
    type: tuple[str, str, str] | None = None


def read_contours(path: Path, volume: Volume, *, structures: Collection[str] | None = None) -> LabelMap:
    """Read an RT Structure Set (PS3.3 A.19 and C.8.8.6) onto the grid of `volume`.

    A voxel belongs to a structure where its centre lies inside its contours by the even-odd rule, so that a contour
    inside another one is a hole and the two lines of a keyhole cancel; a centre on a contour counts on one side only,
    so that neighbours that share a line neither overlap nor leave a gap. `structures` chooses by name, and gives the
    order of the labels 1, 2, ...; points and open contours enclose nothing and are passed over.

    Raises InputError where contours were drawn in another frame of reference, are not parallel to the slices, lie
    between or beyond them or on every other slice only, and where structures overlap (a label map holds one label a
    voxel: read them one by one with `structures`).
    """
    dataset = read_object(path, kinds=(STRUCTURE_SET,))
    with damage_refused(path):
        found = _structures(dataset, volume, path.name)
    chosen = _chosen(found, structures, path.name)
    labels = np.zeros(volume.voxels.shape[:3], dtype=np.uint8 if len(chosen) < 256 else np.uint16)
    to_index: NDArray[np.float64] = np.linalg.inv(volume.affine).astype(np.float64)
    for number, structure in enumerate(chosen, start=1):
        for slice_, mask in _masks(structure, to_index, labels.shape).items():
            if (taken := labels[slice_][mask]).any():
                other = chosen[int(taken.max()) - 1].name
                raise InputError(
                    f"structures '{other}' and '{structure.name}' overlap, and a label map holds one label a voxel; "
                    "read them one by one with `structures`"
                )
            labels[slice_][mask] = number
    segments = tuple(Segment(n, s.name, type=s.type, colour=s.colour) for n, s in enumerate(chosen, start=1))
    source = Source(
        files=(str(path),),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=volume.source.frame_of_reference,
        instances=(str(dataset.get("SOPInstanceUID", "")),),
        patient_id=str(dataset.get("PatientID", "")),
    )
    return LabelMap(labels, volume.affine, segments, made_by=path.name, source=source)


def inside(points: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie inside closed polygons by the even-odd rule.

    `points` are polygons as (n, 2) of (row, column), where whole numbers are the centres of pixels. Each edge flips
    all pixels to its right in the rows that it crosses; rows are crossed at their centre, the upper end of an edge
    counted and the lower one not, so that a corner is never counted twice.
    """
    rows, columns = shape
    flips = np.zeros((rows, columns + 1), dtype=np.uint8)
    for polygon in points:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        down = (start[:, 0] <= end[:, 0])[:, None]  # an edge gives the same numbers in both directions
        upper, lower = np.where(down, start, end), np.where(down, end, start)
        first = np.clip(np.ceil(upper[:, 0]), 0, rows).astype(np.intp)
        count = np.clip(np.ceil(lower[:, 0]), 0, rows).astype(np.intp) - first
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        height = lower[edge, 0] - upper[edge, 0]
        crossing = upper[edge, 1] + (row - upper[edge, 0]) / height * (lower[edge, 1] - upper[edge, 1])
        column = np.clip(np.ceil(np.round(crossing, SNAP)), 0, columns).astype(np.intp)
        np.bitwise_xor.at(flips, (row, column), 1)
    return np.bitwise_xor.accumulate(flips[:, :columns], axis=1).astype(bool)


def _structures(dataset: Dataset, volume: Volume, name: str) -> list[_Structure]:
    if not volume.placed:
        raise InputError("contours need images with a place in the patient, got a volume without")
    regions = {int(item.ROINumber): item for item in dataset.get("StructureSetROISequence") or []}
    codes = _codes(dataset)
    found = []
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number not in regions:
            raise InputError(f"{name} has contours of a region that it does not name (number {number})")
        drawn_in, ours = regions[number].get("ReferencedFrameOfReferenceUID"), volume.source.frame_of_reference
        if drawn_in and ours and drawn_in != ours:
            raise InputError(
                f"the contours of {name} must be drawn in the frame of reference of the images, got another"
            )
        contours = tuple(
            _points(contour, name)
            for contour in item.get("ContourSequence") or []
            if str(contour.get("ContourGeometricType", "")) in CLOSED
        )
        colour = item.get("ROIDisplayColor")
        rgb = (int(colour[0]), int(colour[1]), int(colour[2])) if colour is not None and len(colour) == 3 else None
        if contours:
            label = str(regions[number].get("ROIName") or f"region {number}")
            found.append(_Structure(label, contours, rgb, codes.get(number)))
    return found


def _points(contour: Dataset, name: str) -> NDArray[np.float64]:
    try:
        points = np.array([float(value) for value in contour.get("ContourData") or []]).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has a contour whose numbers are not points of three coordinates") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise InputError(f"{name} has a closed contour of {len(points)} points, or points that are no numbers")
    return points


def _codes(dataset: Dataset) -> dict[int, tuple[str, str, str]]:
    """What each region is, where the observations give a code (PS3.3 C.8.8.8)."""
    codes = {}
    for item in dataset.get("RTROIObservationsSequence") or []:
        if item.get("RTROIIdentificationCodeSequence") and item.get("ReferencedROINumber") is not None:
            code = item.RTROIIdentificationCodeSequence[0]
            scheme, value, meaning = (
                str(code.get(key, "")) for key in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
            )
            codes[int(item.ReferencedROINumber)] = (scheme, value, meaning)
    return codes


def _chosen(found: list[_Structure], structures: Collection[str] | None, name: str) -> list[_Structure]:
    by_name = {structure.name: structure for structure in found}
    if structures is None:
        chosen = found
    else:
        unknown = sorted(set(structures) - set(by_name))
        if unknown:
            raise InputError(f"structures must be among {sorted(by_name)} in {name}, got {unknown}")
        chosen = [by_name[wanted] for wanted in structures]
    if not chosen:
        raise InputError(f"{name} has no closed contours")
    return chosen


def _masks(
    structure: _Structure, to_index: NDArray[np.float64], shape: tuple[int, ...]
) -> dict[int, NDArray[np.bool_]]:
    """The mask of each slice on which the structure has contours."""
    slices: dict[int, list[NDArray[np.float64]]] = {}
    for points in structure.contours:
        index = np.round(points @ to_index[:3, :3].T + to_index[:3, 3], SNAP)
        slice_ = round(float(index[:, 0].mean()))
        off = float(np.abs(index[:, 0] - slice_).max())
        if off > ON_A_SLICE:
            raise InputError(
                f"contours must lie on the slices of the images, got one of '{structure.name}' {off:.2g} slices beside "
                f"slice {slice_}; give the images that it was drawn on"
            )
        if not 0 <= slice_ < shape[0]:
            raise InputError(f"'{structure.name}' has contours beyond the {shape[0]} slices of the images")
        slices.setdefault(slice_, []).append(index[:, 1:])
    gaps = np.diff(sorted(slices))
    if len(gaps) and gaps.min() > 1:
        raise InputError(
            f"'{structure.name}' has contours on no two neighbouring slices, so what lies between is unknown; "
            "give the images that it was drawn on"
        )
    return {slice_: inside(polygons, (shape[1], shape[2])) for slice_, polygons in slices.items()}
