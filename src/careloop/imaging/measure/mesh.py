"""Volume and surface area of a mask's mesh, from how often each of 256 cells occurs in it: no mesh is ever built.

The mesh is that of marching cubes at half height between the centres of neighbouring voxels (Lorensen and Cline,
SIGGRAPH 1987; IBSI reference manual, arXiv:1612.07003, section 3.1). In a binary mask a cell of eight voxel centres
can look in 256 ways only, so that area and volume are sums over a histogram. Voxels that touch by an edge only are
kept apart, and of the ways to divide a polygon that is not flat that of the largest volume is taken: a mirrored or
turned mask measures the same (where several are largest, the area is their mean).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

Point = tuple[float, float, float]
SLAB_VOXELS = 2**21  # cells that are looked at together: some 20 MB
# The corner (0, 0, 0) is the highest bit of a cell's number, (1, 1, 1) the lowest.
_CORNERS: tuple[Point, ...] = tuple((i, j, k) for i, j, k in product((0, 1), repeat=3))


def mesh_volume_and_area(mask: Mask, axes_mm: NDArray[np.float64]) -> tuple[float, float]:
    """Return the volume in mm3 and the surface area in mm2 of the mesh around `mask` (slices, rows, columns).

    `axes_mm` (3, 3) are the steps between neighbouring voxels as columns: an affine's first three (also sheared ones).
    """
    counts = cell_counts(mask)
    cells = _cells()
    a, b, c = (cells.triangles[:, corner] @ axes_mm.T for corner in range(3))
    areas = cells.share * np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return float(counts @ cells.volumes * abs(np.linalg.det(axes_mm))), float(counts[cells.number] @ areas)


def cell_counts(mask: Mask) -> NDArray[np.int64]:
    """Return how often each of the 256 cells occurs in the mask with a rim of empty voxels around it."""
    slices, rows, columns = mask.shape
    thick = max(1, SLAB_VOXELS // ((rows + 1) * (columns + 1)))
    counts = np.zeros(256, dtype=np.int64)
    for first in range(-1, slices, thick):
        last = min(first + thick, slices)  # the cells between slices first..last
        slab = np.zeros((last - first + 1, rows + 2, columns + 2), dtype=np.uint8)
        inside = mask[max(first, 0) : last + 1]
        start = max(first, 0) - first
        slab[start : start + len(inside), 1:-1, 1:-1] = inside
        pairs = slab[:, :, :-1] << 1 | slab[:, :, 1:]
        squares = pairs[:, :-1] << 2 | pairs[:, 1:]
        counts += np.bincount((squares[:-1] << 4 | squares[1:]).ravel(), minlength=256)
    return counts


@dataclass(frozen=True)
class _Cells:
    """The volume inside each of 256 cells; the surface's triangles (n, 3, 3), their cells and shares in the area."""

    volumes: NDArray[np.float64]
    number: NDArray[np.int64]
    share: NDArray[np.float64]
    triangles: NDArray[np.float64]


@cache
def _cells() -> _Cells:
    volumes = np.zeros(256)
    parts: list[tuple[int, float, NDArray[np.float64]]] = []
    for number in range(256):
        inside = {corner for bit, corner in enumerate(_CORNERS) if number >> (7 - bit) & 1}
        following: dict[Point, Point] = {}
        for axis, side in product(range(3), (0, 1)):
            lines, covered = _face(inside, axis, side)
            following.update(lines)
            volumes[number] += side * covered / 3
        for polygon in _loops(following):
            fans = [_fan(np.roll(polygon, turn, axis=0)) for turn in range(len(polygon))]
            largest = max(_flux(fan) for fan in fans)
            volumes[number] += largest
            best = [fan for fan in fans if np.isclose(_flux(fan), largest)]
            parts += [(number, 1 / len(best), triangle) for fan in best for triangle in fan]
    numbers, shares, triangles = zip(*parts, strict=True)
    return _Cells(volumes, np.array(numbers), np.array(shares), np.array(triangles))


def _fan(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide a polygon into triangles that all have its first corner."""
    return np.array([polygon[[0, i, i + 1]] for i in range(1, len(polygon) - 1)])


def _flux(triangles: NDArray[np.float64]) -> float:
    """Return the signed volume between triangles and the origin."""
    return float(np.linalg.det(triangles).sum()) / 6


def _face(inside: set[Point], axis: int, side: int) -> tuple[dict[Point, Point], float]:
    """Return the surface's lines on one face of a cell, from point to point, and how much of the face lies inside.

    Lines run so that, seen from outside the cell, what is inside lies to their right.
    """
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    ring: list[Point] = []
    for u, v in square if side else square[::-1]:
        corner = [0, 0, 0]
        corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = side, u, v
        ring.append((corner[0], corner[1], corner[2]))
    lines: dict[Point, Point] = {}
    for place in range(4):
        if ring[place] in inside and ring[place - 1] not in inside:
            end = place  # the last of the corners inside that follow each other around the face
            while ring[(end + 1) % 4] in inside:
                end += 1
            lines[_middle(ring[place - 1], ring[place])] = _middle(ring[end % 4], ring[(end + 1) % 4])
    corners = sum(corner in inside for corner in ring)
    return lines, 1 / 4 if len(lines) == 2 else (0.0, 1 / 8, 1 / 2, 7 / 8, 1.0)[corners]


def _middle(a: Point, b: Point) -> Point:
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)


def _loops(following: dict[Point, Point]) -> list[NDArray[np.float64]]:
    left, loops = dict(following), []
    while left:
        point, loop = next(iter(left)), []
        while point in left:
            loop.append(point)
            point = left.pop(point)
        loops.append(np.array(loop))
    return loops
