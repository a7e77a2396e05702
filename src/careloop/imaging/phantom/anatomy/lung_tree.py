"""Vessels that fill the lungs, and nodules among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop.imaging.phantom.anatomy.shapes import Space, layer_occupancy, occupancy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.shapes import Field, Point


STEP = 0.4  # of the way to the centre of the points that a branch has to supply
PAIRS_AT_ONCE = 400_000  # of a branch and a voxel that it may touch
SMALLEST_PART = 3  # points for which no further branch is grown
Kind = Literal["solid", "ground glass", "part solid", "calcified"]
NODULE_HU: dict[Kind, tuple[float, float]] = {
    "solid": (10.0, 70.0),
    "ground glass": (-680.0, -480.0),
    "part solid": (-600.0, -420.0),
    "calcified": (180.0, 420.0),
}


@dataclass(frozen=True)
class Branch:
    """A piece of a vessel or an airway, narrowing from start to end."""

    start: Point
    end: Point
    radii_mm: tuple[float, float]

    def widened(self, by_mm: float) -> Branch:
        """The same branch with another radius."""
        return Branch(self.start, self.end, (self.radii_mm[0] + by_mm, self.radii_mm[1] + by_mm))


@dataclass(frozen=True)
class Nodule:
    """A lung nodule: place (LPS, mm), diameter in mm, kind, HU, and how its surface is turned and lobed."""

    centre: Point
    diameter_mm: float
    kind: Kind
    hu: float
    stretch: tuple[float, float, float]
    lobes: NDArray[np.float64]


def grow_tree(points: NDArray[np.float64], root: Point, radius_mm: float) -> list[Branch]:
    """A tree from the root that reaches all points (n, 3): volume filling branching.

    Each branch runs towards the centre of its points; a plane through branch and centre splits them between its
    two children (Tawhai, Pullan, Hunter, Ann Biomed Eng 2000, 28:793). Radii follow Murray's law: their cubes add up.
    """
    count = len(points)
    owner = np.zeros(count, dtype=np.intp)  # of each point: its branch in this generation
    starts = np.array([root], dtype=float)
    branches: list[Branch] = []
    while count:
        size = np.bincount(owner)
        centres = _sums(points, owner) / size[:, None]
        step = np.where(size < SMALLEST_PART, 1.0, STEP)[:, None]
        ends = starts + step * (centres - starts)
        wide, narrow = (radius_mm * np.cbrt(part * size / count) for part in (1.0, 0.6))
        for start, end, *radii in zip(starts.tolist(), ends.tolist(), wide.tolist(), narrow.tolist(), strict=True):
            branches.append(Branch(tuple(start), tuple(end), (radii[0], radii[1])))
        splits = size[owner] >= SMALLEST_PART
        points, owner = points[splits], owner[splits]
        if not len(points):
            break
        side = _side(points - centres[owner], centres - starts, owner)
        children, owner = np.unique(2 * owner + side, return_inverse=True)
        starts = ends[children // 2]
    return branches


def _sums(values: NDArray[np.float64], owner: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sums of rows (n, k) by owner."""
    return np.column_stack([np.bincount(owner, weights=column) for column in values.T])


def _side(spread: NDArray[np.float64], along: NDArray[np.float64], owner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """On which side of its branch's plane each point lies: across the axis in which its points spread most."""
    unit = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    flat = spread - (spread * unit[owner]).sum(axis=1, keepdims=True) * unit[owner]
    products = (flat[:, :, None] * flat[:, None, :]).reshape(len(flat), 9)
    covariances = _sums(products, owner).reshape(-1, 3, 3)
    widest = np.linalg.eigh(covariances)[1][:, :, -1]
    side: NDArray[np.bool_] = (spread * widest[owner]).sum(axis=1) > 0
    return side


def branch_occupancy(space: Space, branches: Sequence[Branch]) -> Field:
    """Part of each voxel that the branches fill; `space` holds full coordinate arrays.

    Branches thinner than a voxel keep their share of its cross-section.
    """
    filled = np.zeros(space.x.size, np.float32)
    ends = np.array([(b.start, b.end) for b in branches], np.float32).reshape(-1, 2, 3)
    radii = np.array([b.radii_mm for b in branches], np.float32).reshape(-1, 2)
    reach = radii[:, :1] + space.width_mm
    boxes = space.boxes(ends.min(axis=1) - reach, ends.max(axis=1) + reach)
    touched = [i for i, box in enumerate(boxes) if box is not None]
    sides = np.array([[(s.start, s.stop) for s in boxes[i] or ()] for i in touched], dtype=np.intp).reshape(-1, 3, 2)
    sizes = np.prod(sides[:, :, 1] - sides[:, :, 0], axis=1)
    at = [np.ravel(v) for v in (space.x, space.y, space.z)]
    for part in np.split(np.arange(len(touched)), np.flatnonzero(np.diff(np.cumsum(sizes) // PAIRS_AT_ONCE)) + 1):
        voxel, which = _voxels(sides[part], sizes[part], space.x.shape)
        own = np.array(touched, dtype=np.intp)[part][which]
        share = _share([v[voxel] for v in at], ends[own], radii[own], space.width_mm)
        np.maximum.at(filled, voxel, share)
    return filled.reshape(space.x.shape)


def _voxels(
    sides: NDArray[np.intp], sizes: NDArray[np.intp], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of all voxels in boxes (n, 3, 2), one box after the other, and the box that each is of."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first, (rows, columns) = sides[which, :, 0], (sides[which, 1:, 1] - sides[which, 1:, 0]).T
    z, rest = np.divmod(place, rows * columns)
    y, x = np.divmod(rest, columns)
    return ((z + first[:, 0]) * shape[1] + y + first[:, 1]) * shape[2] + x + first[:, 2], which


def _share(
    at: list[Field], ends: NDArray[np.float32], radii: NDArray[np.float32], width_mm: float
) -> NDArray[np.float32]:
    """Part of a voxel that a branch fills, for pairs of a voxel (three coordinates) and a branch."""
    along = ends[:, 1] - ends[:, 0]
    off = np.stack(at, axis=1) - ends[:, 0]
    part = np.clip((off * along).sum(axis=1) / np.maximum((along * along).sum(axis=1), 1e-6), 0, 1)
    distance = np.linalg.norm(off - part[:, None] * along, axis=1)
    radius = radii[:, 0] + part * (radii[:, 1] - radii[:, 0])
    filled = layer_occupancy(distance, 2 * radius, width_mm) * np.minimum(1, 1.6 * radius / width_mm)
    return filled.astype(np.float32)


def draw_nodules(
    rng: np.random.Generator, points: NDArray[np.float64], *, diameters_mm: tuple[float, float]
) -> list[Nodule]:
    """One to six nodules at points of the lungs (n, 3), smaller ones more often."""
    nodules = []
    for at in rng.choice(len(points), size=int(rng.integers(1, 7)), replace=False):
        kind: Kind = rng.choice(list(NODULE_HU), p=(0.5, 0.22, 0.16, 0.12))
        low, high = diameters_mm
        diameter = float(low * (high / low) ** rng.uniform())
        stretch = rng.uniform(0.82, 1.18, 3)
        lobes = np.column_stack([rng.standard_normal((5, 3)), rng.uniform(0, 2 * np.pi, 5)])
        x, y, z = (points[at] + rng.uniform(-3, 3, 3)).tolist()
        nodules.append(Nodule((x, y, z), diameter, kind, float(rng.uniform(*NODULE_HU[kind])), tuple(stretch), lobes))
    return nodules


def nodule_surface(space: Space, nodule: Nodule) -> Field:
    """The nodule's outer surface: an ellipsoid with shallow lobes."""
    d = [v - np.float32(c) for v, c in zip((space.x, space.y, space.z), nodule.centre, strict=True)]
    radius = nodule.diameter_mm / 2
    q = [v / np.float32(s * radius) for v, s in zip(d, nodule.stretch, strict=True)]
    k = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2) + np.float32(1e-6)
    lobed = sum(np.sin(2 * (q[0] * a + q[1] * b + q[2] * c) / k + phase) for a, b, c, phase in nodule.lobes)
    return (k - 1 - np.float32(0.05) * lobed) * np.float32(radius)


def solid_core(space: Space, nodule: Nodule) -> Field:
    """Part of each voxel that a part-solid nodule's core fills: half of its diameter."""
    d = [v - np.float32(c) for v, c in zip((space.x, space.y, space.z), nodule.centre, strict=True)]
    return occupancy(np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) - np.float32(nodule.diameter_mm / 4), space.width_mm)
