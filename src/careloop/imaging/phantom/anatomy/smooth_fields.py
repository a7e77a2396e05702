"""Random functions of space without sharp features: cubic B-splines over a coarse grid of normal numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN_SQUARE = 0.4794  # of a cubic B-spline's four weights, averaged over a knot interval: 151/315


@dataclass(frozen=True)
class SmoothField:
    """A random field with standard deviation of about 1 whose features are `knot_mm` or more in size.

    `knots` (nz, ny, nx) are normal numbers on a grid that starts at `start_mm` (z, y, x). Evaluated on a regular grid
    it is three small matrix products (a tensor product of B-splines; de Boor, A practical guide to splines, ch. XVII).
    """

    knots: NDArray[np.float32]
    start_mm: tuple[float, float, float]
    knot_mm: float

    def on_grid(self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float32]:
        """The field at every (z, y, x) of three axes in mm: an array (len(z), len(y), len(x))."""
        axes = zip((z, y, x), self.start_mm, self.knots.shape, strict=True)
        bz, by, bx = (_basis((np.asarray(v) - s) / self.knot_mm, n) for v, s, n in axes)
        by_slice = np.tensordot(bz, self.knots, axes=(1, 0))
        return np.matmul(by, np.matmul(by_slice, bx.T))


def smooth_field(
    rng: np.random.Generator, knot_mm: float, *, low: tuple[float, float, float], high: tuple[float, float, float]
) -> SmoothField:
    """A random field that covers the box from `low` to `high` (z, y, x, mm)."""
    shape = [int(np.ceil((h - b) / knot_mm)) + 4 for b, h in zip(low, high, strict=True)]
    knots = rng.standard_normal(shape).astype(np.float32) / np.float32(MEAN_SQUARE**1.5)
    start = tuple(float(b) - knot_mm for b in low)
    return SmoothField(knots, (start[0], start[1], start[2]), knot_mm)


def _basis(at: NDArray[np.float64], knots: int) -> NDArray[np.float32]:
    """Weights (points, knots) of the cubic B-spline at positions counted in knots."""
    apart = np.abs(at[:, None] - np.arange(knots)[None, :])
    inner = 2 / 3 - apart**2 + apart**3 / 2
    outer = (2 - apart) ** 3 / 6
    return np.where(apart < 1, inner, np.where(apart < 2, outer, 0)).astype(np.float32)
