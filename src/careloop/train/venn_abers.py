"""Venn-Abers predictors: what calibration rows, with the new row's label taken as 0 and as 1, say its risk is.

The new row joins the calibration rows once with label 0 and once with label 1; isotonic regression of labels on risks
gives p0 and p1 at it. Whatever the model, one of the two is perfectly calibrated if new and calibration rows are
exchangeable. Sources: Vovk and Petej, Venn-Abers predictors, UAI 2014; Vovk, Petej and Fedorova, NeurIPS 2015,
algorithms 1 and 2 (all possible p1 in one pass), here with weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class VennAbers:
    """p0 and p1 at each distinct risk of the calibration rows (k,), rising; step functions between them."""

    risk: np.ndarray
    p0: np.ndarray
    p1: np.ndarray

    def pair(self, risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p0, p1) at each risk, of its shape."""
        below = np.searchsorted(self.risk, risk, side="right")
        above = np.searchsorted(self.risk, risk, side="left")
        return np.append(0.0, self.p0)[below], np.append(self.p1, 1.0)[above]

    def apply(self, risk: np.ndarray) -> np.ndarray:
        """One calibrated risk between p0 and p1, p1 / (1 - p0 + p1), which errs least in log loss (2014, section 4)."""
        p0, p1 = self.pair(risk)
        return np.asarray(p1 / (1.0 - p0 + p1))

    def interval(self, risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of each risk (n,): p0 and p1, widened where needed to hold the risk itself."""
        p0, p1 = self.pair(risk)
        return np.minimum(p0, risk), np.maximum(p1, risk)


def fit_venn_abers(risk: np.ndarray, label: np.ndarray, weight: np.ndarray) -> VennAbers:
    """The step functions from calibration rows: risks, 0/1 labels and weights, (m,) each.

    Censoring weights are scaled to sum to Kish's effective number of rows, (sum w)^2 / sum w^2, beside which the new
    row counts 1, so that few heavily weighted rows widen the interval as few rows do.
    """
    distinct, place = np.unique(risk, return_inverse=True)
    scaled = weight * (weight.sum() / (weight**2).sum())
    total = np.bincount(place, weights=scaled)
    events = np.bincount(place, weights=scaled * label)
    p1 = joined_as_one(total, events)
    p0 = 1.0 - joined_as_one(total[::-1], (total - events)[::-1])[::-1]
    return VennAbers(distinct, p0, p1)


def joined_as_one(weight: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Isotonic value (k,) at each group when a row of weight 1 and label 1 joins it; groups have weight, events (k,).

    The value is the slope, over the joined row, of the greatest convex minorant of the cumulative sums. The row's step
    (1, 1) is moved from before the first group to before the last, one group at a time, and the corners of the minorant
    to the right of it are kept on a stack with the leftmost on top.
    """
    points: list[Point] = [(-1.0, -1.0), (0.0, 0.0)]
    points += list(zip(np.cumsum(weight).tolist(), np.cumsum(events).tolist(), strict=True))
    corners: list[Point] = []
    for point in reversed(points):
        while len(corners) > 1 and turns_right(point, corners[-1], corners[-2]):
            corners.pop()
        corners.append(point)
    values = np.empty(len(weight))
    for i in range(len(weight)):
        (x0, y0), (x1, y1) = corners[-1], corners[-2]
        values[i] = (y1 - y0) / (x1 - x0)
        before, here, after = points[i], points[i + 1], points[i + 2]
        moved = (before[0] + after[0] - here[0], before[1] + after[1] - here[1])
        points[i + 1] = moved
        if (moved[1] - y0) * (x1 - x0) >= (y1 - y0) * (moved[0] - x0):
            continue  # on or above the minorant, which therefore stays
        corners.pop()
        while len(corners) > 1 and turns_right(moved, corners[-1], corners[-2]):
            corners.pop()
        corners.append(moved)
    return np.clip(values, 0.0, 1.0)


def turns_right(first: Point, second: Point, third: Point) -> bool:
    """Whether the path through three points, from left to right, does not turn left: the middle is no corner."""
    return (second[1] - first[1]) * (third[0] - first[0]) >= (third[1] - first[1]) * (second[0] - first[0])
