"""Images from one grid to another by splines, an axis at a time, with the values of nnU-Net's and MONAI's resampling.

nnU-Net resizes with `skimage.transform.resize(mode="edge", anti_aliasing=False)`, which is `scipy.ndimage.zoom` with
`mode="nearest", grid_mode=True`: a spline prefilter and interpolation in float64 over all axes at once. Both steps are
linear and separable, so that a spline along one axis is one matrix, taken here from scipy itself, and a volume needs
three matrix products in float32. Source: nnU-Net 2.8, preprocessing/resampling/default_resampling.py (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.segment.model import Grid

BLOCK = 32  # output planes of one matrix product: few, so that few input planes have weight in it
NEGLIGIBLE = 1e-9  # weights of a spline that far voxels have; float32 cannot tell them from 0
UNCHANGED = 1e-6  # voxels by which a grid may move along its whole length and still be the same


@dataclass(frozen=True)
class Axis:
    """One axis from `old` to `new` voxels: new voxel i lies at old coordinate `step * (i + face) - face`.

    `face` is half a voxel where faces coincide and 0 where centres do; `order` is that of the spline. Beyond the
    outermost voxels the image is held, or mirrored for grid `corners`.
    """

    old: int
    new: int
    step: float
    face: float
    order: int
    mirrored: bool = False

    @property
    def is_identity(self) -> bool:
        """True where nothing changes."""
        return self.old == self.new and abs(self.step - 1) * self.new < UNCHANGED

    def places(self) -> NDArray[np.float64]:
        """Old coordinates of the new voxels (new,), in the order of operations that decides nnU-Net's ties."""
        return self.step * (np.arange(self.new, dtype=np.float64) + self.face) - self.face


@dataclass(frozen=True)
class Resampling:
    """The three axes of an image, and the one (or None) that is resampled apart from the others."""

    axes: tuple[Axis, Axis, Axis]
    apart: int | None = None

    @property
    def old(self) -> tuple[int, int, int]:
        """Shape before."""
        z, y, x = self.axes
        return z.old, y.old, x.old

    @property
    def new(self) -> tuple[int, int, int]:
        """Shape after."""
        z, y, x = self.axes
        return z.new, y.new, x.new


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float], grid: Grid
) -> tuple[int, int, int]:
    """Shape of an image of `shape` at another spacing; halves are rounded to even, as in nnU-Net and MONAI."""
    ends = 1 if grid == "points" else 0
    new = [round((n - ends) * (s / t) + ends) for n, s, t in zip(shape, spacing_mm, target_mm, strict=True)]
    if grid == "cells":  # nnU-Net's order of the three operations, which decides ties
        new = [round(s / t * n) for n, s, t in zip(shape, spacing_mm, target_mm, strict=True)]
    z, y, x = (max(n, 1) for n in new)
    return z, y, x


def axis_between(old: int, new: int, *, ratio: float, grid: Grid, order: int) -> Axis:
    """An axis from `old` to `new` voxels; `ratio` is new spacing / old spacing, which grid `points` alone needs."""
    if grid == "points":
        return Axis(old, new, ratio, 0.0, order)
    if grid == "corners":
        return Axis(old, new, (old - 1) / (new - 1) if new > 1 else 1.0, 0.0, order, mirrored=True)
    return Axis(old, new, old / new, 0.5, order)


def separate_axis(spacing_mm: Sequence[float], target_mm: Sequence[float], threshold: float) -> int | None:
    """The axis that is resampled apart from the others: the one that is much coarser, before or else after; or None.

    None too where the coarsest spacing is that of two axes (nnU-Net's determine_do_sep_z_and_axis).
    """
    for spacing in (np.asarray(spacing_mm), np.asarray(target_mm)):
        if spacing.max() / spacing.min() > threshold:
            coarsest = np.flatnonzero(spacing == spacing.max())
            return int(coarsest[0]) if len(coarsest) == 1 else None
    return None


def resample(image: NDArray[np.float32], how: Resampling) -> NDArray[np.float32]:
    """Image (Z, Y, X) on the new grid, clipped to its range as skimage does.

    Axes that shrink come first, so that little is held at once. Where an axis is kept apart, the range is that of each
    of its planes, because nnU-Net resizes these one by one, and the step across them comes last.
    """
    order = sorted(range(3), key=lambda i: how.axes[i].new / how.axes[i].old)
    if how.apart is None:
        low, high = image.min(), image.max()
    else:
        order.remove(how.apart)
        low, high = (f(axis=tuple(order), keepdims=True) for f in (image.min, image.max))
    if all(how.axes[i].is_identity for i in range(3)):
        return image
    for i in order:
        image = resample_axis(image, i, how.axes[i])
    if any(how.axes[i].order > 1 and not how.axes[i].is_identity for i in order):
        np.clip(image, low, high, out=image)
    return image if how.apart is None else resample_axis(image, how.apart, how.axes[how.apart])


def resample_axis(image: NDArray[np.float32], i: int, axis: Axis) -> NDArray[np.float32]:
    """Image (or scores) of three axes with axis `i` resampled, a block of output planes at a time."""
    if axis.is_identity:
        return image
    if axis.order == 0:
        return np.take(image, nearest(axis), axis=i)
    matrix = spline_matrix(axis)
    out = np.empty((*image.shape[:i], axis.new, *image.shape[i + 1 :]), np.float32)
    for start in range(0, axis.new, BLOCK):
        rows = matrix[start : start + BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        source, here = slice(used[0], used[-1] + 1), slice(start, start + len(rows))
        weights = np.ascontiguousarray(rows[:, source])
        if i == 0:
            np.matmul(weights, image[source].reshape(weights.shape[1], -1), out=out[here].reshape(len(weights), -1))
        elif i == 1:
            np.matmul(weights, image[:, source], out=out[:, here])
        else:
            np.matmul(image[..., source], weights.T, out=out[..., here])
    return out


@lru_cache(maxsize=16)
def spline_matrix(axis: Axis) -> NDArray[np.float32]:
    """Weights (new, old) of a spline along one axis: what scipy interpolates of each unit vector."""
    from scipy.ndimage import map_coordinates

    mode = "mirror" if axis.mirrored else "nearest"
    where = [axis.places()]
    columns = [map_coordinates(unit, where, order=axis.order, mode=mode) for unit in np.eye(axis.old)]
    matrix = np.stack(columns, axis=1)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    weights = matrix.astype(np.float32)
    weights.setflags(write=False)
    return weights


def nearest(axis: Axis) -> NDArray[np.intp]:
    """Which old voxel each new one takes (new,); where one lies halfway, as scipy decides."""
    from scipy.ndimage import map_coordinates

    taken = map_coordinates(np.arange(axis.old, dtype=float), [axis.places()], order=0, mode="nearest")
    return np.rint(taken).astype(np.intp)


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: `(1 - weight[i]) * old[first[i]] + weight[i] * old[second[i]]` is new i."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    weight: NDArray[np.float32]


def taps(axis: Axis) -> Taps:
    """The taps of an axis of order 1, or 0 (one voxel, weight 0)."""
    if axis.order == 0:
        index = nearest(axis)
        return Taps(index, index, np.zeros(axis.new, np.float32))
    where = np.clip(axis.places(), 0, axis.old - 1)
    first = np.floor(where).astype(np.intp)
    return Taps(first, np.minimum(first + 1, axis.old - 1), (where - first).astype(np.float32))
