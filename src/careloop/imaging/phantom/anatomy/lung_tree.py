"""Vessels that fill the lungs, and nodules among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop.imaging.phantom.anatomy.shapes import Space, layer_occupancy, occupancy, tube_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.shapes import Field, Point


STEP = 0.4  # of the way to the centre of the points that a branch has to supply
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
    branches: list[Branch] = []
    work = [(np.asarray(root, dtype=float), points)]
    while work:
        start, mine = work.pop()
        centre = mine.mean(axis=0)
        end = start + STEP * (centre - start)
        narrow = [radius_mm * (n / len(points)) ** (1 / 3) for n in (len(mine), max(0.6 * len(mine), 1))]
        branches.append(Branch(_point(start), _point(end), (narrow[0], narrow[1])))
        if len(mine) < SMALLEST_PART:
            continue
        spread = mine - centre
        towards = centre - start
        spread -= np.outer(spread @ towards, towards) / max(towards @ towards, 1e-9)
        side = spread @ np.linalg.eigh(spread.T @ spread)[1][:, -1] > 0
        work += [(end, part) for part in (mine[side], mine[~side]) if len(part)]
    return branches


def _point(at: NDArray[np.float64]) -> Point:
    return float(at[0]), float(at[1]), float(at[2])


def branch_occupancy(space: Space, branches: Sequence[Branch]) -> Field:
    """Part of each voxel that the branches fill; `space` holds full coordinate arrays.

    Branches thinner than a voxel keep their share of its cross-section.
    """
    filled = np.zeros(space.x.shape, np.float32)
    ends = np.array([(b.start, b.end) for b in branches]).reshape(-1, 2, 3)
    reach = np.array([b.radii_mm[0] for b in branches]).reshape(-1, 1) + space.width_mm
    boxes = space.boxes(ends.min(axis=1) - reach, ends.max(axis=1) + reach)
    width = np.float32(space.width_mm)
    for branch, box in zip(branches, boxes, strict=True):
        if box is None:
            continue
        distance, along = tube_axis(space.part(box), branch.start, branch.end)
        radius = branch.radii_mm[0] + along * np.float32(branch.radii_mm[1] - branch.radii_mm[0])
        share = layer_occupancy(distance, 2 * radius, space.width_mm) * np.minimum(1, 1.6 * radius / width)
        np.maximum(filled[box], share, out=filled[box])
    return filled


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
        centre = _point(points[at] + rng.uniform(-3, 3, 3))
        nodules.append(Nodule(centre, diameter, kind, float(rng.uniform(*NODULE_HU[kind])), tuple(stretch), lobes))
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
