"""Implicit shapes: functions that are negative inside and grow by about 1 a millimetre, and how they become tissue."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]  # float32 wherever it is large
    Box = tuple[slice, slice, slice]
    Point = tuple[float, float, float]  # x, y, z in mm: to the patient's left, back and head, as in DICOM


@dataclass(frozen=True)
class Space:
    """Points at which shapes are evaluated: `x`, `y`, `z` in mm, LPS, arrays that broadcast to (slices, rows, columns).

    `width_mm` is the distance over which an edge goes from outside to inside: the voxel's width.
    """

    x: Field
    y: Field
    z: Field
    width_mm: float

    def part(self, of: Box) -> Space:
        """The points of a box of voxels; the coordinates must be full arrays."""
        return Space(self.x[of], self.y[of], self.z[of], self.width_mm)

    def boxes(self, low: NDArray[np.floating[Any]], high: NDArray[np.floating[Any]]) -> list[Box | None]:
        """For each pair of corners (n, 3) in mm, the box of voxels that lie between them, None where there are none.

        Coordinates may be bent, but have to increase on the whole along their axis of the array.
        """
        found = []
        for axis, v in enumerate((self.z, self.y, self.x)):
            others = tuple(i for i in range(3) if i != axis)
            least = np.minimum.accumulate(v.min(axis=others)[::-1])[::-1]
            most = np.maximum.accumulate(v.max(axis=others))
            first, last = np.searchsorted(most, low[:, 2 - axis]), np.searchsorted(least, high[:, 2 - axis], "right")
            found.append(np.column_stack([first, last]))
        return [_box(*bounds) if min(b - a for a, b in bounds) > 0 else None for bounds in zip(*found, strict=True)]


def _box(*bounds: NDArray[np.intp]) -> Box:
    z, y, x = (slice(int(first), int(last)) for first, last in bounds)
    return z, y, x


def ellipsoid(space: Space, centre: Point, radii: Point) -> Field:
    """Ellipsoid along the axes; exact on its surface, a distance to first order near it (Taubin 1991)."""
    q = [(v - c) / r for v, c, r in zip((space.x, space.y, space.z), centre, radii, strict=True)]
    k = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2)
    slope = np.sqrt(sum((v / r) ** 2 for v, r in zip(q, radii, strict=True)))
    return k * (k - 1) / np.maximum(slope, 1e-4)


def turned_ellipsoid(space: Space, centre: Point, radii: Point, axes: NDArray[np.float64]) -> Field:
    """Ellipsoid whose axes are the rows of `axes` (3, 3), orthonormal."""
    d = [v - np.float32(c) for v, c in zip((space.x, space.y, space.z), centre, strict=True)]
    x, y, z = (a * d[0] + b * d[1] + c * d[2] for a, b, c in axes.astype(np.float32))
    return ellipsoid(Space(x, y, z, space.width_mm), (0.0, 0.0, 0.0), radii)


def superellipse(x: Field, y: Field, a: Field | float, b: Field | float, power: float) -> Field:
    """Cylinder over |x/a|^p + |y/b|^p = 1; `a` and `b` may vary from slice to slice."""
    u, v = np.abs(x / a), np.abs(y / b)
    k = (u**power + v**power) ** np.float32(1 / power)
    slope = np.sqrt((u ** (power - 1) / a) ** 2 + (v ** (power - 1) / b) ** 2) / np.maximum(k, 1e-4) ** (power - 1)
    return (k - 1) / np.maximum(slope, 1e-4)


def capsule(space: Space, start: Point, end: Point, radii_mm: tuple[float, float]) -> Field:
    """A round tube from start to end whose radius changes linearly."""
    distance, along = tube_axis(space, start, end)
    return distance - np.float32(radii_mm[0]) - along * np.float32(radii_mm[1] - radii_mm[0])


def tube_axis(space: Space, start: Point, end: Point) -> tuple[Field, Field]:
    """Distance to the segment from start to end, and how far along it (0 to 1) the nearest point lies."""
    d = [np.float32(e - s) for s, e in zip(start, end, strict=True)]
    q = [v - np.float32(s) for v, s in zip((space.x, space.y, space.z), start, strict=True)]
    along = np.clip((q[0] * d[0] + q[1] * d[1] + q[2] * d[2]) / (d[0] ** 2 + d[1] ** 2 + d[2] ** 2), 0, 1)
    off = [v - along * e for v, e in zip(q, d, strict=True)]
    return np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2), along


def tube(space: Space, path: Sequence[Point], radii_mm: Sequence[float]) -> Field:
    """A tube through the points of a path, with a radius at each."""
    pieces = zip(pairwise(path), pairwise(radii_mm), strict=True)
    return np.minimum.reduce([capsule(space, start, end, radii) for (start, end), radii in pieces])


def union(first: Field, second: Field, *, blend_mm: float = 0.0) -> Field:
    """Inside either; with a blend the seam is rounded (polynomial smooth minimum)."""
    if not blend_mm:
        return np.minimum(first, second)
    h = np.maximum(blend_mm - np.abs(first - second), 0) / blend_mm
    return np.minimum(first, second) - h * h * np.float32(blend_mm / 4)


def intersection(first: Field, second: Field, *, blend_mm: float = 0.0) -> Field:
    """Inside both."""
    return -union(-first, -second, blend_mm=blend_mm)


def occupancy(f: Field, width_mm: float) -> Field:
    """Part of a voxel that a shape fills, 0 to 1, from its distance: an edge as wide as the voxel."""
    return np.clip(np.float32(0.5) - f / np.float32(width_mm), 0, 1)


def layer_occupancy(f: Field, thickness_mm: float | Field, width_mm: float) -> Field:
    """Part of a voxel filled by a layer of this thickness around f = 0; right for layers thinner than a voxel too."""
    half = np.multiply(thickness_mm, 0.5, dtype=np.float32)
    return occupancy(f - half, width_mm) - occupancy(f + half, width_mm)


def smooth_step(v: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, and a cubic between."""
    t = np.clip((v - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)
