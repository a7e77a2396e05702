"""Volumes of a tilted gantry on an upright grid, and labels from there back onto the tilted one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.volume import LabelMap, Volume, is_upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

AIR_HU = -1024.0
SKEW = 1e-3  # cosine between rows and columns; a skew within the slices is no tilt and not handled
GRID_FRACTION = 1e-6  # of a voxel; shifts closer than this to a whole voxel are whole


@dataclass(frozen=True)
class _Shear:
    """How far slice k is moved within its plane: k * `per_slice` voxels (rows, columns), from `origin` voxels.

    `extra` is by how much the upright grid has more rows and columns.
    """

    per_slice: tuple[float, float]
    origin: tuple[int, int]
    extra: tuple[int, int]
    affine: NDArray[np.float64]

    def shift(self, index: int) -> tuple[float, float]:
        """Voxels (rows, columns) from the upright grid's first voxel to the first of slice `index`."""
        rows, columns = (index * step - origin for step, origin in zip(self.per_slice, self.origin, strict=True))
        return rows, columns


def upright(volume: Volume) -> Volume:
    """The volume on a grid with right angles: rows, columns and slices stay where they are, slices are moved in plane.

    Slices are interpolated linearly within themselves only. The grid grows by the shear, and what lies outside of the
    scan is -1024 for a CT in Hounsfield units (its lowest value if that is higher), else the lowest value. An upright
    volume is returned as it is. Raises InputError for a grid whose rows and columns are not at a right angle.
    """
    if is_upright(volume.affine):
        return volume
    shear = _shear(volume.affine, len(volume.voxels))
    voxels = volume.voxels
    low = float(voxels.min())
    fill = max(AIR_HU, low) if volume.unit == "[hnsf'U]" else low
    shape = (len(voxels), voxels.shape[1] + shear.extra[0], voxels.shape[2] + shear.extra[1], *voxels.shape[3:])
    moved = np.full(shape, fill, dtype=voxels.dtype)
    for index, plane in enumerate(voxels):
        moved[index] = _placed(plane, shape[1:], shear.shift(index), fill)
    message = f"slices were moved onto an upright grid of {shape[1]} rows and {shape[2]} columns"
    finding = Finding("gantry tilt", "handled", message)
    return replace(volume, voxels=moved, affine=shear.affine, findings=(*volume.findings, finding))


def tilted(labels: LabelMap, volume: Volume) -> LabelMap:
    """Labels of `upright(volume)` on the grid of `volume`, the nearest voxel of the same slice for each.

    Raises InputError where the labels do not lie on the grid of `upright(volume)`.
    """
    if is_upright(volume.affine):
        return labels
    shear = _shear(volume.affine, len(volume.voxels))
    n, rows, columns = volume.voxels.shape[:3]
    if labels.labels.shape != (n, rows + shear.extra[0], columns + shear.extra[1]) or not np.allclose(
        labels.affine, shear.affine, atol=1e-3
    ):
        raise InputError("labels must lie on the upright grid of the volume whose tilted grid they are wanted on")
    back = np.empty((n, rows, columns), dtype=labels.labels.dtype)
    for index in range(n):
        row, column = (math.floor(shift + 0.5 + GRID_FRACTION) for shift in shear.shift(index))
        back[index] = labels.labels[index, row : row + rows, column : column + columns]
    return replace(labels, labels=back, affine=volume.affine, source=volume.source)


def _shear(affine: NDArray[np.float64], slices: int) -> _Shear:
    step, down, across = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    if abs(down @ across) > SKEW * np.linalg.norm(down) * np.linalg.norm(across):
        raise InputError("rows and columns of the volume must be at a right angle; resample it onto such a grid first")
    per_slice = (float(step @ down / (down @ down)), float(step @ across / (across @ across)))
    ends = [(slices - 1) * shift for shift in per_slice]
    origin = [math.floor(min(0.0, end) + GRID_FRACTION) for end in ends]
    extra = [math.ceil(max(0.0, end) - GRID_FRACTION) - first for end, first in zip(ends, origin, strict=True)]
    right_angled = affine.copy()
    right_angled[:3, 0] = step - per_slice[0] * down - per_slice[1] * across
    right_angled[:3, 3] += origin[0] * down + origin[1] * across
    return _Shear(per_slice, (origin[0], origin[1]), (extra[0], extra[1]), right_angled)


def _placed(
    plane: NDArray[np.generic], shape: tuple[int, ...], shift: tuple[float, float], fill: float
) -> NDArray[np.generic]:
    """One slice moved by `shift` voxels into a larger one, between voxels linearly, with `fill` around it."""
    result = np.full(shape, fill, dtype=np.float64)
    whole = [math.floor(s + GRID_FRACTION) for s in shift]
    part = [max(0.0, s - w) if abs(s - w) > GRID_FRACTION else 0.0 for s, w in zip(shift, whole, strict=True)]
    result[whole[0] : whole[0] + len(plane), whole[1] : whole[1] + plane.shape[1]] = plane
    for axis, weight in enumerate(part):
        if weight:
            before = np.roll(result, 1, axis=axis)
            np.moveaxis(before, axis, 0)[0] = fill
            result = (1 - weight) * result + weight * before
    if np.issubdtype(plane.dtype, np.integer):
        return np.rint(result).astype(plane.dtype)
    return result.astype(plane.dtype)
