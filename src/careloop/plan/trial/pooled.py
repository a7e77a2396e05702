"""Pooled logistic regression over person-intervals: one fit, and its coefficients in any number of resamples.

A person-interval counts by the fraction of it that was at risk, so that with a constant hazard inside the interval a
partly observed one has the likelihood (1 - p) ** fraction. Coefficients in a resample are those of the fit moved by one
Newton step with the fit's own curvature (the one-step bootstrap: Moulton & Zeger 1991, Comput Stat Data Anal 11:53).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.evaluate.calibration import expit
from careloop.plan.effect.goals import Array

STEPS, TOLERANCE = 50, 1e-8
LONGEST_STEP = 3.0  # of any coefficient at a time: keeps the first steps of a separated fit finite


@dataclass(frozen=True, eq=False)
class PooledLogistic:
    """A fit with p coefficients over m person-intervals of n rows.

    `coefficients` (p,); `step` (p, p), the inverse curvature; `score` (n, p), each row's part of the score; `penalty`
    (p,).
    """

    coefficients: Array
    step: Array
    score: Array
    penalty: Array

    def resampled(self, counts: Array) -> Array:
        """Coefficients (p,) of a resample in which the rows count `counts` (n,) times."""
        return self.coefficients + self.step @ (counts @ self.score - self.penalty * self.coefficients)


def fit_pooled(design: Array, label: Array, weight: Array, *, row: Array, rows: int, penalty: Array) -> PooledLogistic:
    """Fit `maximise`'s arguments, and sum the score by `row` (m,), the row (of `rows`) of each person-interval."""
    coefficients, curvature = maximise(design, label, weight, penalty=penalty)
    residual = weight * (label - expit(design @ coefficients))
    score = np.column_stack([np.bincount(row, weights=residual * column, minlength=rows) for column in design.T])
    return PooledLogistic(coefficients, np.linalg.inv(curvature), score, penalty)


def maximise(
    design: Array, label: Array, weight: Array, *, penalty: Array, start: Array | None = None
) -> tuple[Array, Array]:
    """Maximise sum of weight x log likelihood - penalty / 2 x coefficient ** 2 by Newton's method.

    `design` (m, p); `label` (m,) between 0 and 1; `weight` (m,); `penalty` (p,), above 0 where columns depend on
    each other; `start` (p,). Returns coefficients (p,) and curvature (p, p).
    """
    coefficients = np.zeros(design.shape[1]) if start is None else start
    for _ in range(STEPS):
        chance = expit(design @ coefficients)
        gradient = design.T @ (weight * (label - chance)) - penalty * coefficients
        curvature = (design * (weight * chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        move = np.linalg.solve(curvature, gradient)
        move *= min(1.0, LONGEST_STEP / max(float(np.abs(move).max()), LONGEST_STEP))
        coefficients = coefficients + move
        if np.abs(move).max() < TOLERANCE:
            break
    return coefficients, curvature
