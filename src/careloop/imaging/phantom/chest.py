"""A simulated chest: CT numbers without noise, and the exact place of every organ. It shows no patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.finding import SIMULATED
from careloop.imaging.phantom.anatomy.layers import ORGANS, Scene, paint_chest
from careloop.imaging.phantom.anatomy.plan import draw_plan
from careloop.imaging.phantom.anatomy.shapes import Space
from careloop.imaging.phantom.anatomy.tissue import empty_canvas
from careloop.imaging.terms import described
from careloop.imaging.volume import LabelMap, Segment, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.lung_tree import Nodule
    from careloop.imaging.phantom.anatomy.patient import Patient, Phase, Shapes
    from careloop.imaging.phantom.anatomy.plan import Plan

SEGMENTS = described(Segment(number, name) for number, name in enumerate(ORGANS, start=1))
SUBSLICES = 2  # a slice is the mean of this many, so that thick slices have partial volume
SLAB = 8  # slices painted at once: what they need stays in the processor's cache


@dataclass(frozen=True)
class Grid:
    """Voxels of a scan: shape and spacing in mm, both (slices, rows, columns), around the middle of the chest."""

    shape: tuple[int, int, int] = (80, 256, 256)
    spacing_mm: tuple[float, float, float] = (4.0, 1.5, 1.5)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.spacing_mm) <= 0:
            raise InputError(f"A phantom's grid needs voxels, got shape {self.shape} and spacing {self.spacing_mm} mm")

    def axis(self, of: int, parts: int = 1) -> NDArray[np.float64]:
        """Positions in mm of the centres of the voxels along an axis, or of this many parts of each."""
        n, step = self.shape[of] * parts, self.spacing_mm[of] / parts
        return np.asarray((np.arange(n) - (n - 1) / 2) * step, dtype=np.float64)

    def affine(self) -> NDArray[np.float64]:
        """From (slice, row, column, 1) to LPS mm; slices run towards the head."""
        affine = np.zeros((4, 4))
        affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (*self.spacing_mm, 1.0)
        affine[:3, 3] = [self.axis(a)[0] for a in (2, 1, 0)]
        return affine


@dataclass(frozen=True)
class ChestPhantom:
    """A simulated chest: `volume` in HU without noise, exact `labels` on its grid, and what it was made from."""

    volume: Volume
    labels: LabelMap
    patient: Patient
    phase: Phase
    nodules: tuple[Nodule, ...]


def chest_phantom(
    seed: int, *, shapes: Shapes = "usual", phase: Phase | None = None, grid: Grid | None = None
) -> ChestPhantom:
    """Simulate a chest; the same seed gives the same chest on any grid.

    `shapes`: `usual`, or `unusual` for measures outside the ranges that usual ones are drawn from. `phase`: that of
    the contrast medium, drawn at random where None. Voxels of the volume are int16 HU, of the labels uint8 (heart 1,
    lung_left 2, lung_right 3, spine 4, aorta 5, nodule 6): the organ that fills most of the voxel, if that is at
    least half. Lungs include their vessels; the spine is vertebrae and discs without the canal; the heart is
    chambers and walls without the fat around it.

    Raises:
        InputError: an unknown value of `shapes` or `phase`.
    """
    grid = grid or Grid()
    plan = draw_plan(seed, shapes=shapes, phase=phase)
    starts = range(0, grid.shape[0], SLAB)
    slabs = [_paint_slices(plan, grid, slice(i, min(i + SLAB, grid.shape[0]))) for i in starts]
    hu, labels = (np.concatenate(part) for part in zip(*slabs, strict=True))
    affine = grid.affine()
    return ChestPhantom(
        Volume(hu, affine, "CT", "[hnsf'U]", "CHEST", findings=(SIMULATED,)),
        LabelMap(labels, affine, SEGMENTS, made_by=f"simulated chest {seed} of {shapes} shapes"),
        plan.patient,
        plan.phase,
        plan.nodules,
    )


def _paint_slices(plan: Plan, grid: Grid, slices: slice) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and labels of some slices, each the mean of its sub-slices."""
    z = grid.axis(0, SUBSLICES)[slices.start * SUBSLICES : slices.stop * SUBSLICES]
    y, x = grid.axis(1), grid.axis(2)
    fields = {name: f.on_grid(z, y, x) for name, f in plan.fields.items()}
    axes = {"warp x": x[None, None, :], "warp y": y[None, :, None], "warp z": z[:, None, None]}
    place = [v.astype(np.float32) + np.float32(plan.patient.warp) * fields[name] for name, v in axes.items()]
    space = Space(place[0], place[1], place[2], float(max(grid.spacing_mm[1:])))
    canvas = empty_canvas((len(z), len(y), len(x)), len(ORGANS), space.width_mm)
    paint_chest(Scene(canvas, space, plan, fields))
    hu = canvas.hu.reshape(-1, SUBSLICES, len(y), len(x)).mean(axis=1)
    filled = canvas.filled.reshape(len(ORGANS), -1, SUBSLICES, len(y), len(x)).mean(axis=2)
    labels = np.where(filled.max(axis=0) >= 0.5, filled.argmax(axis=0) + 1, 0)
    return np.rint(np.clip(hu, -1000, 3000)).astype(np.int16), labels.astype(np.uint8)
