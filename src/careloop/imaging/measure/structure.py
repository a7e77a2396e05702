"""Shape and connected parts of one structure, from its mask in the box around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.measure.diameter import in_plane_diameters, longest_diameter
from careloop.imaging.measure.mesh import mesh_volume_and_area

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

MM3_PER_ML = 1000.0
MM2_PER_CM2 = 100.0


@dataclass(frozen=True)
class Parts:
    """Connected parts of a mask (26 neighbours): how many there are, and shape quantities of the largest ones."""

    count: int
    largest: tuple[dict[str, float], ...]


def shape(mask: Mask, axes_mm: NDArray[np.float64]) -> dict[str, float]:
    """Return volumes (mL), surface area (cm2), sphericity and longest diameter (mm) of a mask that is not empty."""
    volume, area = mesh_volume_and_area(mask, axes_mm)
    return {
        "volume": volume / MM3_PER_ML,
        "voxel_volume": int(np.count_nonzero(mask)) * abs(float(np.linalg.det(axes_mm))) / MM3_PER_ML,
        "surface_area": area / MM2_PER_CM2,
        "sphericity": (36 * np.pi * volume**2) ** (1 / 3) / area,
        "longest_diameter": longest_diameter(mask, axes_mm),
    }


def flat_shape(mask: Mask, axes_mm: NDArray[np.float64]) -> dict[str, float]:
    """Return the area (cm2) of a mask of one slice: a picture has no volume."""
    pixel = np.linalg.norm(np.cross(axes_mm[:, 1], axes_mm[:, 2]))
    return {"area": int(np.count_nonzero(mask)) * float(pixel) / MM2_PER_CM2}


def connected_parts(mask: Mask, axes_mm: NDArray[np.float64], *, at_most: int) -> Parts:
    """Return the number of connected parts, and of up to `at_most` of them, by falling size, volume and axes.

    A part's quantities: `volume` (mL; `area` in cm2 where there is one slice), `longest_diameter`, `long_axis` and
    `short_axis` (mm). Where there is one part only, it has its axes only: the rest is that of the mask.
    """
    from scipy.ndimage import find_objects, label

    structure = np.ones((3, 3, 3), dtype=bool)
    numbers = np.zeros(mask.shape, dtype=np.uint16)
    try:
        count = label(mask, structure, output=numbers)
    except RuntimeError:  # more parts than 16 bits can number
        numbers, count = label(mask, structure)
    if count == 1:
        return Parts(1, (_axes(mask, axes_mm),))
    sizes = np.zeros(count + 1, dtype=np.int64)
    for plane in numbers:
        sizes += np.bincount(plane.ravel(), minlength=count + 1)
    boxes = find_objects(numbers)
    order = np.argsort(-sizes[1:], kind="stable")[:at_most]
    parts = [numbers[boxes[number]] == number + 1 for number in order]
    measured = _flat_part if len(mask) == 1 else _part
    return Parts(int(count), tuple(measured(part, axes_mm) for part in parts))


def _part(part: Mask, axes_mm: NDArray[np.float64]) -> dict[str, float]:
    volume = mesh_volume_and_area(part, axes_mm)[0] / MM3_PER_ML
    return {"volume": volume, "longest_diameter": longest_diameter(part, axes_mm), **_axes(part, axes_mm)}


def _flat_part(part: Mask, axes_mm: NDArray[np.float64]) -> dict[str, float]:
    return {**flat_shape(part, axes_mm), **_axes(part, axes_mm)}


def _axes(mask: Mask, axes_mm: NDArray[np.float64]) -> dict[str, float]:
    found = in_plane_diameters(mask, axes_mm)
    return {"long_axis": found.long_axis_mm, "short_axis": found.short_axis_mm}


def place(mask: Mask, affine: NDArray[np.float64]) -> dict[str, float]:
    """Return the centre of mass and the bounding box (of whole voxels) in mm; `affine` is that of the mask's box."""
    counts = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    total = counts[0].sum()
    centre = [float(np.arange(len(count)) @ count) / total for count in counts]
    corners = np.array([[*(np.array(corner) * mask.shape - 0.5), 1.0] for corner in np.ndindex(2, 2, 2)])
    ends = (affine @ corners.T)[:3]
    x, y, z = (affine @ [*centre, 1.0])[:3]
    found = {"centre_x": float(x), "centre_y": float(y), "centre_z": float(z)}
    for axis, low, high in zip("xyz", ends.min(axis=1), ends.max(axis=1), strict=True):
        found |= {f"box_{axis}_low": float(low), f"box_{axis}_high": float(high)}
    return found
