"""What a restoration network is trained on: planes from a folder of images, apart by patient, and examples of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.nifti import SUFFIXES as NIFTI
from careloop.imaging.read.picture import SUFFIXES as PICTURES
from careloop.imaging.read.volumes import Choice, list_images, read_volume
from careloop.imaging.restore.intensities import intensity_range
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]

VALIDATED = 0.15  # of the subjects
LEAST_EDGE = 32  # pixels; smaller planes hold too little to learn from
LEAST_CONTRAST = 0.02  # standard deviation of a plane from 0 to 1; less is background


@dataclass(frozen=True)
class Left:
    """An image that could not be used, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Material:
    """Planes of about 0 to 1 with the subject of each and the size of its pixels in mm; what was left out.

    Planes of one patient, or of one file where that says no patient, have one subject number.
    """

    planes: tuple[Plane, ...]
    subjects: tuple[int, ...]
    pixel_mm: tuple[float, ...]
    modalities: tuple[str, ...] = ()
    left: tuple[Left, ...] = field(default=())

    @property
    def digest(self) -> str:
        """Of all planes, so that a training can be taken up with the same ones only."""
        whole = hashlib.sha256(repr(self.subjects).encode())
        for plane in self.planes:
            whole.update(plane.tobytes())
        return whole.hexdigest()

    def split(self, seed: int) -> tuple[list[int], list[int]]:
        """Indices of planes for training and for validation, no subject in both.

        Where all planes are of one subject there is no validation.
        """
        subjects = np.unique(self.subjects)
        count = max(1, round(VALIDATED * len(subjects))) if len(subjects) > 1 else 0
        held = set(np.random.default_rng(seed).permutation(subjects)[:count].tolist())
        parts: tuple[list[int], list[int]] = ([], [])
        for index, subject in enumerate(self.subjects):
            parts[subject in held].append(index)
        return parts


def read_material(folder: Path, *, modality: str = "", progress: Progress) -> Material:
    """The planes of all images below a folder: NIfTI files, pictures and DICOM series.

    `modality` is what made NIfTI files and pictures, which do not say it; of DICOM it chooses the series. Images
    that cannot be used are left out and named. Raises InputError where none is left.
    """
    planes: list[Plane] = []
    subjects: list[int] = []
    pixel_mm: list[float] = []
    modalities: set[str] = set()
    left: list[Left] = []
    numbers: dict[str, int] = {}
    images = list(_images(folder, modality))
    for number, (name, read) in enumerate(images, start=1):
        progress("reading images", number, len(images))
        try:
            volume = read()
            found = volume_planes(volume)
        except (InputError, RefusedSeriesError) as error:
            left.append(Left(name, str(error)))
            continue
        subject = numbers.setdefault(volume.source.patient_id or name, len(numbers))
        planes += found
        subjects += [subject] * len(found)
        pixel_mm += [volume.spacing_mm[2]] * len(found)
        modalities |= {volume.modality} - {""}
    if not planes:
        why = f"; {left[0].image}: {left[0].reason}" if left else ""
        raise InputError(f"{folder} must hold images to learn from (NIfTI, DICOM, PNG or JPEG), got none to use{why}")
    return Material(tuple(planes), tuple(subjects), tuple(pixel_mm), tuple(sorted(modalities)), tuple(left))


def volume_planes(volume: Volume) -> list[Plane]:
    """The planes of a volume that show something, scaled to about 0 to 1."""
    scaled = intensity_range(volume).scaled(volume.voxels)
    if min(scaled.shape[1:]) < LEAST_EDGE:
        raise InputError(f"planes must have at least {LEAST_EDGE} x {LEAST_EDGE} pixels, got {scaled.shape[1:]}")
    return [np.ascontiguousarray(plane) for plane in scaled if plane.std() > LEAST_CONTRAST]


def _images(folder: Path, modality: str) -> Iterator[tuple[str, Callable[[], Volume]]]:
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give a folder of images")
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(NIFTI + PICTURES))
    for path in files:
        yield str(path.relative_to(folder)), partial(read_volume, path, choice=Choice(modality=modality))
    others = [p for p in folder.rglob("*") if p.is_file() and p not in set(files) and p.suffix in ("", ".dcm", ".ima")]
    if others:
        for found in list_images(folder):
            if found.kind == "image" and modality in ("", found.modality):
                yield f"series {found.number}", partial(read_volume, folder, choice=Choice(series=str(found.number)))
