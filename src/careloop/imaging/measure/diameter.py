"""Longest diameter of a mask in space, and the longest within a slice with the longest across it, as RECIST measures.

Ends lie on the mesh around the mask (see `mesh`): half a voxel beyond the centre of an outermost voxel along an axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = NDArray[np.float64]
    Mask = NDArray[np.bool_]

PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class InPlane:
    """The longest diameter within one slice, the longest at right angles to it there, in mm, and which slice it is."""

    long_axis_mm: float
    short_axis_mm: float
    slice: int


def longest_diameter(mask: Mask, axes_mm: NDArray[np.float64]) -> float:
    """Return the longest distance in mm between points of the mesh around `mask` (slices, rows, columns); 0 if empty.

    IBSI L0JK (arXiv:1612.07003, section 3.1.11). `axes_mm` (3, 3): an affine's first three columns.
    """
    outer = outermost(mask)
    return _longest(_hull(_mesh_points(outer, axes_mm)))[0] if len(outer) else 0.0


def in_plane_diameters(mask: Mask, axes_mm: NDArray[np.float64]) -> InPlane:
    """Return the longest diameter of all slices and its perpendicular in the same slice, of the slice's convex hull.

    Eisenhauer et al., European Journal of Cancer 2009;45:228 (RECIST 1.1): the longest diameter in the plane of
    acquisition, and the short axis at right angles to it. Parts of one mask in one slice count as one.
    """
    in_plane = axes_mm[:, 1:]
    frame = np.linalg.qr(in_plane)[0]
    plane_mm = frame.T @ in_plane
    best = InPlane(0.0, 0.0, 0)
    for number, limit in _by_size(mask, in_plane):
        if limit <= best.long_axis_mm:
            break
        points = _hull(_mesh_points(outermost(mask[number]), plane_mm))
        length, a, b = _longest(points)
        if length > best.long_axis_mm:
            best = InPlane(length, _across(points, b - a), number)
    return best


def outermost(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the indices of voxels that are first or last along every axis: all corners of the convex hull among them.

    Of a million voxels some thousands are left.
    """
    along = mask.ndim - 1
    first = mask.argmax(axis=along)
    last = mask.shape[along] - 1 - mask[..., ::-1].argmax(axis=along)
    lines = np.nonzero(mask.any(axis=along))
    points = np.concatenate([np.stack([*lines, ends[lines]], axis=1) for ends in (first, last)])
    for axis in range(along):
        others = [other for other in range(mask.ndim) if other != axis]
        order = np.lexsort([points[:, other] for other in (axis, *others)])
        points = points[order]
        new_line = np.any(np.diff(points[:, others], axis=0), axis=1)
        keep = np.ones(len(points), dtype=bool)
        keep[1:-1] = new_line[:-1] | new_line[1:]
        points = points[keep]
    return np.unique(points, axis=0)


def _mesh_points(indices: NDArray[np.intp], axes_mm: NDArray[np.float64]) -> Points:
    """Return the points half a voxel from each voxel's centre, both ways along each axis."""
    dimensions = indices.shape[1]
    steps = np.concatenate([np.eye(dimensions), -np.eye(dimensions)]) / 2
    return np.asarray((indices[:, None] + steps).reshape(-1, dimensions) @ axes_mm.T)


def _hull(points: Points) -> Points:
    """Return the corners of the convex hull, in order around it in two dimensions."""
    from scipy.spatial import ConvexHull

    return np.asarray(points[ConvexHull(points).vertices])


def _longest(points: Points) -> tuple[float, Points, Points]:
    """Return the longest distance between two points, and both."""
    best, ends = -1.0, (0, 0)
    squares = (points**2).sum(axis=1)
    at_once = max(1, PAIRS_AT_ONCE // len(points))
    for start in range(0, len(points), at_once):
        part = slice(start, start + at_once)
        apart = squares[part, None] + squares - 2 * points[part] @ points.T
        place = int(apart.argmax())
        if apart.flat[place] > best:
            best, ends = float(apart.flat[place]), (start + place // len(points), place % len(points))
    a, b = points[ends[0]], points[ends[1]]
    return float(np.linalg.norm(a - b)), a, b


def _by_size(mask: Mask, in_plane: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return the slices that hold voxels, and of each the longest a diameter can be, the longest first."""
    found = []
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        sides = [np.flatnonzero(mask[number].any(axis=axis)) for axis in (1, 0)]
        spans = [side[-1] - side[0] + 1 for side in sides]
        corners = [in_plane @ np.array([spans[0], sign * spans[1]]) for sign in (1, -1)]
        found.append((int(number), float(max(np.linalg.norm(corner) for corner in corners))))
    return sorted(found, key=lambda item: -item[1])


def _across(polygon: Points, direction: Points) -> float:
    """Return the longest chord of a convex polygon (corners in order) at right angles to `direction`."""
    along = direction / np.linalg.norm(direction)
    u, v = polygon @ along, polygon @ np.array([-along[1], along[0]])
    start = int(u.argmin())
    u, v = np.roll(u, -start), np.roll(v, -start)
    end = int(u.argmax())
    ways = (u[: end + 1], v[: end + 1]), (np.append(u[end:], u[0])[::-1], np.append(v[end:], v[0])[::-1])
    one, other = (np.interp(u, *way) for way in ways)
    return float(np.abs(one - other).max())
