"""An image in space, and labels in the same space: arrays with an affine, physical units, and where they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = re.compile(r"v?\d\S*|[0-9a-f]{8,64}")
SAME_PLACE_MM = 1e-2  # grids whose corners agree to a hundredth of a millimetre are one grid


@dataclass(frozen=True)
class Source:
    """Where an image came from; empty for what a file does not say.

    `files` are the paths in slice order (one path for a multi-frame file, a NIfTI file or a picture; `ZIP!MEMBER`
    inside an archive), `instances` the SOPInstanceUIDs in slice order, and `frames` the frame of each slice in its
    instance (from 1). `patient_id` is for matching with a record and is never shown. `acquired` is UTC.
    """

    files: tuple[str, ...] = ()
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    instances: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    patient_id: str = ""
    acquired: datetime | None = None


@dataclass(frozen=True)
class Volume:
    """A scalar or colour image with its place in the patient.

    `voxels` is (slices, rows, columns), or (slices, rows, columns, 3) for colour; a plain picture has one slice.
    `affine` (4, 4), float64, takes (slice, row, column, 1) to millimetres in the patient's LPS axes (DICOM PS3.3
    C.7.6.2.1.1); where `placed` is False the file says nothing about place and the affine holds spacing only (1 mm
    where that is unknown too). It is sheared for a tilted gantry. `unit` is UCUM or `[hnsf'U]` for Hounsfield units,
    `g/mL` for SUV by body weight, and empty for arbitrary intensities. `modality` is DICOM's (0008,0060).
    """

    voxels: NDArray[np.generic]
    affine: NDArray[np.float64]
    modality: str = ""
    unit: str = ""
    body_part: str = ""
    placed: bool = True
    source: Source = field(default_factory=Source)
    findings: tuple[Finding, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along slices, rows and columns."""
        return spacing_mm(self.affine)


@dataclass(frozen=True)
class Segment:
    """A labelled structure: the number its voxels carry (from 1), its name, and codes (scheme, value, meaning).

    `modifier` says more about the type, as a rule its side; `region` is where an abnormality lies.
    """

    number: int
    name: str
    category: tuple[str, str, str] | None = None
    type: tuple[str, str, str] | None = None
    colour: tuple[int, int, int] | None = None
    modifier: tuple[str, str, str] | None = None
    region: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class LabelMap:
    """One label a voxel: `labels` (slices, rows, columns), uint8 or uint16, 0 for none, on the grid of `affine`.

    `made_by` names the model and its version, or the file that the labels were read from.
    """

    labels: NDArray[np.unsignedinteger]
    affine: NDArray[np.float64]
    segments: tuple[Segment, ...]
    made_by: str = ""
    source: Source = field(default_factory=Source)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along slices, rows and columns."""
        return spacing_mm(self.affine)


def name_and_version(made_by: str) -> tuple[str, str]:
    """A model's name and its version: the last word if it looks like one (`2.4`, `v1`, `3ac24e57`), else empty."""
    name, _, version = made_by.rpartition(" ")
    return (name, version) if name and VERSION.fullmatch(version) else (made_by, "")


def spacing_mm(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Distance between neighbouring voxels along the three axes of the array, in mm."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def is_upright(affine: NDArray[np.float64], *, tolerance_deg: float = 0.05) -> bool:
    """True where the three axes are at right angles, so that the grid is not sheared by a tilted gantry."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    off = np.abs(axes.T @ axes - np.eye(3)).max()
    return bool(off <= np.sin(np.deg2rad(tolerance_deg)))


def check_same_grid(a: Volume | LabelMap, b: Volume | LabelMap, *, what: str) -> None:
    """Raise InputError unless both have one shape and all corners at the same place within `SAME_PLACE_MM`."""
    shapes = [(x.voxels if isinstance(x, Volume) else x.labels).shape[:3] for x in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{what} must lie on one grid, got shapes {shapes[0]} and {shapes[1]} (slices, rows, columns)")
    corners = np.array([[*np.multiply(np.subtract(shapes[0], 1), c), 1.0] for c in np.ndindex(2, 2, 2)])
    apart = float(np.abs((a.affine - b.affine) @ corners.T)[:3].max())
    if apart > SAME_PLACE_MM:
        raise InputError(f"{what} must lie on one grid, got corners up to {apart:.3g} mm apart; resample one of them")
