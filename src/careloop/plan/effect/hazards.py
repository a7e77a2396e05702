"""Proportional hazards of one kind of leaving (the outcome, a competing event, censoring), given the covariates.

Candidates for the log of the relative hazard: 0 for everybody (the product-limit curve), straight and bent lines under
three ridge penalties (Verweij & van Houwelingen 1994, Stat Med 13:2427; ties by Breslow), and trees on what a line
leaves (one step of the full likelihood: LeBlanc & Crowley 1992, Biometrics 48:411). The one with the highest
cross-validated partial likelihood is taken, so that the plain curve stands where leaving does not depend on covariates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from careloop.plan.effect.learners import (
    FEWEST_FOR_TREES,
    INNER_FOLDS,
    MIDDLE_PENALTY,
    PENALTIES,
    TREES,
    Array,
    Predictor,
    bent,
    inner_folds,
)

FARTHEST_LOG_HAZARD = 3.0  # from the mean: nobody's hazard is taken as more than 20-fold the typical one
NEAREST_TO_CERTAIN = 1e-6  # of a jump of the baseline: keeps logarithms finite where the last rows leave together
LEAST_HAZARD = 1e-6  # gone through by a row that left before anybody else: keeps its logarithm finite


@dataclass(frozen=True)
class Hazard:
    """P(not left by t | x) = baseline(t) ** relative(x), with jumps at `times` (k,)."""

    times: Array
    log_baseline: Array  # (k + 1,) logarithm of the baseline curve after each jump, 0 before the first
    relative: Predictor  # covariates (n, p) -> relative hazard (n,), about 1 on average

    def log_baseline_at(self, days: Array) -> Array:
        """Logarithm of the baseline of P(left later than `days`), the shape of `days`."""
        return self.log_baseline[np.searchsorted(self.times, days, side="right")]

    def log_baseline_before(self, days: Array) -> Array:
        """Logarithm of the baseline of P(left at `days` or later), the shape of `days`."""
        return self.log_baseline[np.searchsorted(self.times, days, side="left")]


@dataclass(frozen=True)
class _Leaving:
    """Rows (n,) by the distinct times at which they leave, and whether in the way that is modelled."""

    times: Array  # (k,)
    place: Array  # (n,) position of each row's time
    happened: Array  # (n,) 1.0 or 0.0

    @classmethod
    def of(cls, days: Array, happened: Array) -> _Leaving:
        times, place = np.unique(days, return_inverse=True)
        return cls(times, place, happened.astype(float))

    def take(self, rows: Array) -> _Leaving:
        return _Leaving.of(self.times[self.place[rows]], self.happened[rows])

    @property
    def count(self) -> Array:
        """(k,) how many leave so at each time."""
        return np.bincount(self.place, weights=self.happened, minlength=len(self.times))

    def at_risk(self, relative: Array) -> Array:
        """(k,) sum of the relative hazards of those still there."""
        return np.bincount(self.place, weights=relative, minlength=len(self.times))[::-1].cumsum()[::-1]

    def cumulative(self, relative: Array) -> Array:
        """(k,) Breslow's cumulative baseline hazard."""
        return np.cumsum(self.count / self.at_risk(relative))

    def loss(self, line: Array) -> float:
        """Minus the logarithm of the partial likelihood of log relative hazards (n,)."""
        shifted = line - line.max()
        return float(self.count @ np.log(self.at_risk(np.exp(shifted))) - self.happened @ shifted)


def fit_hazard(covariates: Array, days: Array, happened: Array) -> Hazard:
    """Fit the candidate with the lowest cross-validated loss to rows (n, p) that leave at `days` (n,).

    `happened` (n,) bool: the row left in the way modelled; the others only stay under observation until `days`.
    Without covariates (p = 0) it is the product-limit curve.
    """
    leaving = _Leaving.of(days, happened)
    fit = _chosen(covariates, leaving)
    line = fit(covariates, leaving)
    centre = line(covariates).mean() if len(days) else 0.0

    def relative(rows: Array) -> Array:
        return np.exp(np.clip(line(rows) - centre, -FARTHEST_LOG_HAZARD, FARTHEST_LOG_HAZARD))

    jump = np.minimum(leaving.count / leaving.at_risk(relative(covariates)), 1.0 - NEAREST_TO_CERTAIN)
    rises = jump > 0
    log_baseline = np.concatenate([[0.0], np.cumsum(np.log1p(-jump[rises]))])
    return Hazard(leaving.times[rises], log_baseline, relative)


Fit = Callable[[Array, _Leaving], Predictor]


def _chosen(covariates: Array, leaving: _Leaving) -> Fit:
    rows, happened = len(leaving.happened), leaving.happened.sum()
    if covariates.shape[1] == 0 or happened < 2 * INNER_FOLDS:
        return _same_for_all
    lines = [_ridge(1.0 / c) for c in PENALTIES]
    candidates = [_same_for_all, *lines, *(bent(line) for line in lines)]
    if rows >= FEWEST_FOR_TREES:
        candidates.append(_trees)
    fold = inner_folds(leaving.happened)
    losses = np.zeros(len(candidates))
    for k in range(INNER_FOLDS):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        seen, unseen = leaving.take(train), leaving.take(test)
        losses += [unseen.loss(fit(covariates[train], seen)(covariates[test])) for fit in candidates]
    return candidates[int(np.argmin(losses))]


def _same_for_all(covariates: Array, leaving: _Leaving) -> Predictor:
    return lambda rows: np.zeros(len(rows))


def _ridge(strength: float) -> Fit:
    from scipy.optimize import minimize

    def fit(covariates: Array, leaving: _Leaving) -> Predictor:
        def loss(slopes: Array) -> tuple[float, Array]:
            line = covariates @ slopes
            relative = np.exp(line - line.max())
            expected = relative * leaving.cumulative(relative)[leaving.place]
            gradient = covariates.T @ (expected - leaving.happened) + strength * slopes
            return leaving.loss(line) + strength * float(slopes @ slopes) / 2, gradient

        slopes = minimize(loss, np.zeros(covariates.shape[1]), jac=True, method="L-BFGS-B").x
        return lambda rows: np.asarray(rows @ slopes)

    return fit


def _trees(covariates: Array, leaving: _Leaving) -> Predictor:
    """Trees on what a line leaves: leaving counted against the cumulative hazard gone through, as Poisson counts."""
    from lightgbm import LGBMRegressor

    line = _ridge(1.0 / MIDDLE_PENALTY)(covariates, leaving)
    relative = np.exp(line(covariates))
    through = relative * leaving.cumulative(relative)[leaving.place]
    start = np.log(np.maximum(through, LEAST_HAZARD))
    model = LGBMRegressor(objective="poisson", **TREES).fit(covariates, leaving.happened, init_score=start)
    return lambda rows: line(rows) + np.asarray(model.predict(rows, raw_score=True), dtype=float)
