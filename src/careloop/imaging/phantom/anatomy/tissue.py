"""Painting tissues over each other: HU and the part of each voxel that each labelled organ fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy.shapes import occupancy

if TYPE_CHECKING:
    from careloop.imaging.phantom.anatomy.shapes import Box, Field


AIR = -1000.0
FAT, MUSCLE, SKIN, CARTILAGE, CORTEX, DISC, CORD, GAS, WATER = -102.0, 54.0, 20.0, 95.0, 620.0, 78.0, 32.0, -960.0, 8.0


@dataclass(frozen=True)
class Canvas:
    """HU (slices, rows, columns) and the parts (labels, slices, rows, columns) filled so far, changed in place."""

    hu: Field
    filled: Field
    width_mm: float

    def part(self, of: Box) -> Canvas:
        """A box of voxels; what is painted there is painted here."""
        return Canvas(self.hu[of], self.filled[(slice(None), *of)], self.width_mm)

    def paint(self, f: Field, hu: float | Field, *, label: int | None = None) -> Field:
        """Cover what is inside `f`; returns the part of each voxel that was covered."""
        return self.cover(occupancy(f, self.width_mm), hu, label=label)

    def cover(self, part: Field, hu: float | Field, *, label: int | None = None) -> Field:
        """Cover a part of each voxel with tissue; what it covers keeps its labels unless the tissue has one itself.

        A label of 0 takes the voxels from all organs (tissue that belongs to none).
        """
        self.hu[...] += part * (hu - self.hu)
        if label is not None:
            self.filled[...] *= 1 - part
            if label:
                self.filled[label - 1] += part
        return part


def empty_canvas(shape: tuple[int, int, int], labels: int, width_mm: float) -> Canvas:
    """Air everywhere, no organ anywhere."""
    return Canvas(np.full(shape, AIR, np.float32), np.zeros((labels, *shape), np.float32), width_mm)


def with_cortex(f: Field, thickness_mm: float, marrow: float | Field, width_mm: float) -> Field:
    """HU of a bone: marrow in a shell of dense bone, which covers only its share of a voxel where it is thinner."""
    inner = occupancy(f + np.float32(thickness_mm), width_mm)
    return inner * marrow + (1 - inner) * np.float32(CORTEX)
