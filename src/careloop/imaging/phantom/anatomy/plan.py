"""Everything random about a simulated chest, drawn before any voxel is painted, so that no grid changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy import lung_tree, mediastinum, thorax
from careloop.imaging.phantom.anatomy.patient import Patient, Phase, Shapes, Tissues, draw_patient, draw_phase, tissues
from careloop.imaging.phantom.anatomy.shapes import Space
from careloop.imaging.phantom.anatomy.smooth_fields import SmoothField, smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.lung_tree import Branch, Nodule

NODULE_DIAMETERS_MM = (4.0, 20.0)
POINTS_MM = 9.5  # distance between the points of a lung to which its vessels grow
THINNEST_BRONCHUS_MM = 1.2  # radius; thinner ones are not seen on CT
REACH_MM = 260.0  # random fields cover this far to every side
FIELDS_MM = {  # random fields by name, and the size of their features
    "warp x": 75.0,
    "warp y": 75.0,
    "warp z": 75.0,
    "heart": 34.0,
    "lung": 30.0,
    "organ": 40.0,
    "lung tissue": 22.0,
    "muscle": 15.0,
    "soft": 9.0,
    "fine": 5.5,
}
STREAM = {"usual": 1, "unusual": 2}  # keeps the two families' random numbers apart


@dataclass(frozen=True)
class Plan:
    """A chest before it is painted; `rough_mm` is by how much random fields move the surfaces of organs."""

    patient: Patient
    phase: Phase
    tissues: Tissues
    fields: dict[str, SmoothField]
    rough_mm: dict[str, float]
    vessels: tuple[Branch, ...]
    bronchi: tuple[Branch, ...]
    nodules: tuple[Nodule, ...]


def draw_plan(seed: int, *, shapes: Shapes, phase: Phase | None) -> Plan:
    """All of a chest's random numbers from one seed; a given phase replaces the one that is drawn."""
    rng = np.random.default_rng([seed, STREAM.get(shapes, 0)])
    patient = draw_patient(rng, shapes=shapes)
    drawn = draw_phase(rng)
    phase = phase or drawn
    tissue = tissues(patient, phase, rng)
    low, high = (-REACH_MM,) * 3, (REACH_MM,) * 3
    fields = {name: smooth_field(rng, size, low=low, high=high) for name, size in FIELDS_MM.items()}
    rough = {"heart": float(rng.uniform(1.0, 2.4)), "lung": float(rng.uniform(0.5, 1.6)), "organ": 3.0}
    points = {side: _lung_points(patient, side) for side in (thorax.LEFT, thorax.RIGHT)}
    vessels = [b for side, at in points.items() for b in _vessels(rng, patient, side, at)]
    bronchi = [
        b for side, at in points.items() for b in lung_tree.grow_tree(at, thorax.bronchus_end(patient, side), 5.0)
    ]
    bronchi = [b for b in bronchi if b.radii_mm[0] > THINNEST_BRONCHUS_MM]
    everywhere = np.concatenate([*points.values()])
    nodules = lung_tree.draw_nodules(rng, everywhere, diameters_mm=NODULE_DIAMETERS_MM)
    return Plan(patient, phase, tissue, fields, rough, tuple(vessels), tuple(bronchi), tuple(nodules))


def _lung_points(p: Patient, side: int) -> NDArray[np.float64]:
    """Points of one lung about `POINTS_MM` apart, (n, 3), clear of its surface and of the heart."""
    axis = np.arange(-160, 160, POINTS_MM, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    space = Space(x, y, z, POINTS_MM)
    f = thorax.lung(space, p, side, thorax.diaphragm(space, p))
    f = np.maximum(f, np.float32(p.heart_fat) - mediastinum.heart(space, p))
    inside = np.maximum(f, -thorax.beside_spine(space, p)) < -4
    return np.column_stack([x[inside], y[inside], z[inside]]).astype(float)


def _vessels(rng: np.random.Generator, p: Patient, side: int, points: NDArray[np.float64]) -> list[Branch]:
    """One lung's arteries, from the hilum, and veins, to its two roots: trees to randomly moved points."""

    def moved(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return part + rng.uniform(-POINTS_MM / 2, POINTS_MM / 2, part.shape)

    branches = lung_tree.grow_tree(moved(points), mediastinum.hilum(p, side), 7.0)
    upper = points[:, 2] > mediastinum.hilum(p, side)[2] - 25
    for root, part in zip(mediastinum.vein_roots(p, side), (points[upper], points[~upper]), strict=True):
        if len(part):
            branches += lung_tree.grow_tree(moved(part), root, 5.0)
    return branches
