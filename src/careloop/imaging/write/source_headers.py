"""The headers of the DICOM images that a result was made from, so that it is filed with them and in their geometry."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.read.files import Files
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

IDENTIFIED_BY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Type 2 attributes of patient and study that every object must have, empty where unknown (PS3.3 C.7.1 and C.7.2).
FILLED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
# How far a header may place a slice from the volume's affine, as a part of the distance between slices: what checks of
# geometry let pass is far below it, a wrong order of slices far above.
OFF_PLACE = 0.25


@dataclass(frozen=True)
class SourceHeaders:
    """Headers in slice order; one for all slices where they are frames of one file, `frames` being their numbers."""

    headers: tuple[Dataset, ...]
    frames: tuple[int, ...] = ()


def source_headers(volume: Volume, *, what: str) -> SourceHeaders:
    """Read the headers of the DICOM files behind `volume`, one a slice or one for all, checked against its geometry.

    Raises InputError where the volume came from something else, where a file is gone, or where slices and files do
    not match. `what` names the object to be written.
    """
    files = tuple(dict.fromkeys(volume.source.files))
    if not files or not volume.source.study:
        raise InputError(f"{what} needs DICOM images as its source, got a volume without any; write NIfTI instead")
    headers = tuple(_read_headers(files, what))
    slices = volume.voxels.shape[0]
    if len(headers) == 1 and int(headers[0].get("NumberOfFrames") or 1) > 1:
        frames = volume.source.frames or tuple(range(1, slices + 1))
        found = SourceHeaders((_only_frames(headers[0], frames),), frames)
    else:
        found = SourceHeaders(_with_one_orientation(headers))
        frames = ()
    if len(frames or headers) != slices:
        raise InputError(
            f"{what} needs one image a slice, got {len(frames or headers)} for {slices} slices of the volume; "
            "bring the result back to the grid of the images first"
        )
    if volume.placed:
        _check_places(found, volume, what)
    return found


def _read_headers(names: tuple[str, ...], what: str) -> Iterator[Dataset]:
    from pydicom import dcmread

    with Files() as files:
        for name in names:
            try:
                with files.open(name) as (stream, _):
                    # Like the reader of images, take files without the preamble of PS3.10, too.
                    header = dcmread(stream, stop_before_pixels=True, force=True)
                complete = all(header.get(keyword) for keyword in IDENTIFIED_BY)
            except Exception as error:  # pydicom raises what a damaged file happens to lead to
                raise InputError(f"{what} needs its source images, but {name} cannot be read as DICOM") from error
            if not complete:
                raise InputError(f"{what} needs DICOM images as its source, but {name} is none or has no UIDs")
            for keyword in FILLED:
                if keyword not in header:
                    setattr(header, keyword, "")
            yield header


def _only_frames(header: Dataset, frames: tuple[int, ...]) -> Dataset:
    """A multi-frame header with those frames alone, orientation and spacing shared, where highdicom looks for them."""
    count = int(header.NumberOfFrames)
    if min(frames) < 1 or max(frames) > count:
        raise InputError(f"the source image has {count} frames, got frame {max(frames)}; read the volume again")
    made = copy.copy(header)
    if "PerFrameFunctionalGroupsSequence" not in header:
        raise InputError("a multi-frame source image needs functional groups with positions (an enhanced object)")
    made.PerFrameFunctionalGroupsSequence = [header.PerFrameFunctionalGroupsSequence[frame - 1] for frame in frames]
    made.NumberOfFrames = len(frames)
    shared = copy.copy(header.SharedFunctionalGroupsSequence[0])
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared and name in made.PerFrameFunctionalGroupsSequence[0]:
            setattr(shared, name, getattr(made.PerFrameFunctionalGroupsSequence[0], name))
    made.SharedFunctionalGroupsSequence = [shared]
    return made


def _with_one_orientation(headers: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    """The headers, all with the first one's orientation: highdicom wants it the same to the last digit."""
    first = headers[0].get("ImageOrientationPatient")
    if first is not None:
        for header in headers:
            header.ImageOrientationPatient = first
    return headers


def _check_places(found: SourceHeaders, volume: Volume, what: str) -> None:
    if found.frames:
        groups = found.headers[0].PerFrameFunctionalGroupsSequence
        places = [_frame_position(group, found.headers[0]) for group in groups]
    else:
        places = [header.get("ImagePositionPatient") for header in found.headers]
    if any(place is None for place in places):
        raise InputError(f"{what} needs the position of every source image, got images without one")
    expected = volume.affine[:3, 3] + np.arange(len(places))[:, None] * volume.affine[:3, 0]
    off = np.linalg.norm(np.array(places, dtype=float) - expected, axis=1)
    if off.max() > OFF_PLACE * volume.spacing_mm[0]:
        raise InputError(
            f"{what} must lie where its source images lie, got slice {int(off.argmax())} {off.max():.3g} mm away; "
            "bring the result back to the grid of the images first"
        )


def _frame_position(group: Dataset, header: Dataset) -> list[float] | None:
    for place in (group, header.SharedFunctionalGroupsSequence[0]):
        if "PlanePositionSequence" in place:
            return place.PlanePositionSequence[0].get("ImagePositionPatient")
    return None
