"""Treatment that is decided again and again: what regimes would lead to, by g-computation, weighting, or both.

Patients are seen at T times; at each, what is known (covariates) decides with chance what is given (0 or 1), which in
turn moves what is known next. Adjusting for a covariate that earlier treatment has changed hides part of the effect,
not adjusting leaves confounding (Robins 1986, Math Model 7:1393). Three estimators of the mean outcome under a regime:

- g-computation by iterated conditional expectations (Bang & Robins 2005, Biometrics 61:962; for survival Young et al.
  2020, Stat Med 39:1199, and Wen et al. 2021, Biometrics 77:740): the outcome model of each time, last to first;
- weighting of those who follow the regime by one over their chance of having done so (Robins et al. 2000);
- doubly robust: the first, corrected by the second (Bang & Robins 2005), with the interval of its influence function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.evaluate.calibration import expit
from careloop.evaluate.estimate import PERCENTILES, draw_counts
from careloop.plan.effect.diagnostics.balance import effective_sample
from careloop.plan.effect.doubly_robust import mean_estimate
from careloop.plan.effect.goals import Array
from careloop.plan.longitudinal.courses import (
    PENALTY,
    Courses,
    Kind,
    Regime,
    fit_chances,
    prescribed,
    regime_weights,
    stabilised_weights,
    with_treatment,
)
from careloop.plan.trial.pooled import maximise

Method = Literal["g_computation", "weighting", "doubly_robust"]


@dataclass(frozen=True)
class RegimeMean:
    """Mean outcome (for `survival` the risk by the end) if everybody followed the regime."""

    regime: str
    followers: int
    effective_sample: float
    mean: Estimate


@dataclass(frozen=True)
class RegimeContrast:
    """Difference of means, regime minus versus."""

    regime: str
    versus: str
    difference: Estimate


@dataclass(frozen=True)
class RegimeEffects:
    """Every regime, and its difference from the first."""

    method: Method
    regimes: tuple[RegimeMean, ...]
    contrasts: tuple[RegimeContrast, ...]


@dataclass(frozen=True)
class MarginalModel:
    """Marginal structural model: change for each more time treated, with the weights it rests on.

    `per_treated_time` is a difference in means for `continuous`, in log odds for `binary`, in log odds of the event at
    each time for `survival`.
    """

    per_treated_time: Estimate
    effective_sample: float
    largest_weight: float


def regime_effects(
    courses: Courses,
    regimes: Mapping[str, Regime],
    *,
    method: Method = "doubly_robust",
    resamples: int = 200,
    seed: int = 0,
    minimum_effective_sample: float = 50.0,
) -> RegimeEffects:
    """Mean outcome under each regime, and differences from the first, with 95 % intervals.

    Intervals are those of the influence function for `doubly_robust`, and percentiles of a bootstrap by subject, with
    all models fitted again, for the others. A regime whose followers' effective sample size is below the minimum has no
    estimate: the rest would be extrapolation.
    """
    names, given = list(regimes), [prescribed(courses, regime) for regime in regimes.values()]
    chances = fit_chances(courses, np.ones(len(courses)))
    weights = [regime_weights(courses, each, chances) for each in given]
    sizes = [effective_sample(each[:, -1]) for each in weights]
    if method == "doubly_robust":
        values = [doubly_robust(courses, *pair) for pair in zip(given, weights, strict=True)]
        tell: Callable[[Array], Estimate] = partial(mean_estimate, subjects=courses.units)
    else:
        values = list(_replicates(courses, given, method, resamples=resamples, seed=seed))
        tell = _percentiles
    few = [_too_few(name, size, minimum_effective_sample) for name, size in zip(names, sizes, strict=True)]

    def told(value: Array, *who: int) -> Estimate:
        reason = "; ".join(few[a] for a in who if few[a])
        return Estimate(None, reason=reason) if reason else tell(value)

    means = tuple(
        RegimeMean(name, int((weights[a][:, -1] > 0).sum()), sizes[a], told(values[a], a))
        for a, name in enumerate(names)
    )
    contrasts = tuple(
        RegimeContrast(names[a], names[0], told(values[a] - values[0], a, 0)) for a in range(1, len(names))
    )
    return RegimeEffects(method, means, contrasts)


def _too_few(name: str, size: float, minimum: float) -> str:
    return "" if size >= minimum else f"{name}: its followers count as only {size:.0f} (floor {minimum:g})"


def _replicates(courses: Courses, given: Sequence[Array], method: Method, *, resamples: int, seed: int) -> Array:
    """Means (R, 1 + resamples) of the regimes, first of the sample itself."""
    found = []
    for block in draw_counts(courses.units, resamples=resamples, seed=seed):
        for counts in block:
            if method == "g_computation":
                found.append([float(counts @ iterated(courses, each, counts)[0] / counts.sum()) for each in given])
            else:
                chances = fit_chances(courses, counts)
                found.append([weighted_mean(courses, regime_weights(courses, each, chances), counts) for each in given])
    return np.array(found).T


def _percentiles(replicates: Array) -> Estimate:
    low, high = np.nanpercentile(replicates[1:], PERCENTILES)
    return Estimate(float(replicates[0]), float(low), float(high))


def weighted_mean(courses: Courses, weights: Array, counts: Array) -> float:
    """Weighted mean of the end outcome, or risk from weighted hazards of each time; NaN where nobody has a weight."""
    weight = counts[:, None] * weights * courses.stays
    with np.errstate(invalid="ignore", divide="ignore"):
        if courses.kind != "survival":
            return float((weight[:, -1] * np.nan_to_num(courses.outcome)).sum() / weight[:, -1].sum())
        hazard = (weight * np.nan_to_num(courses.outcome)).sum(axis=0) / weight.sum(axis=0)
    return float(1.0 - np.prod(1.0 - hazard))


def iterated(courses: Courses, given: Array, counts: Array) -> list[Array]:
    """Expected outcome (n,) under the regime from each time on, given the past then: T + 1 arrays, the outcome last.

    Each is a regression of the next on past and treatment among those followed on, read at the regime's treatment.
    """
    times = courses.times
    ahead = courses.outcome[:, -1] if courses.kind == "survival" else courses.outcome
    values = [ahead]
    for t in reversed(range(times)):
        if courses.kind == "survival" and t < times - 1:
            ahead = np.where(courses.outcome[:, t] == 1, 1.0, ahead)
        rows = counts * courses.stays[:, t]
        width = courses.covariates.shape[2]
        used = rows > 0
        design = with_treatment(courses.past[t], np.nan_to_num(courses.treatment[:, t]), width)
        coefficients = _regress(design[used], ahead[used], rows[used], kind=courses.kind)
        expected = with_treatment(courses.past[t], given[:, t], width) @ coefficients
        ahead = np.where(courses.present[:, t], expected if courses.kind == "continuous" else expit(expected), np.nan)
        values.insert(0, ahead)
    return values


def _regress(design: Array, target: Array, weight: Array, *, kind: Kind) -> Array:
    penalty = np.full(design.shape[1], PENALTY)
    if kind == "continuous":
        weighted = design * weight[:, None]
        return np.linalg.solve(weighted.T @ design + np.diag(penalty), weighted.T @ target)
    return maximise(design, target, weight, penalty=penalty)[0]


def doubly_robust(courses: Courses, given: Array, weights: Array) -> Array:
    """Values (n,) whose mean is that of the outcome under the regime, and whose spread gives its standard error."""
    values = iterated(courses, given, np.ones(len(courses)))
    total = values[0].copy()
    for t in range(courses.times):
        ahead = values[t + 1]
        if courses.kind == "survival":
            ahead = np.where(courses.outcome[:, t] == 1, 1.0, ahead)
        rows = courses.stays[:, t] & (weights[:, t] > 0)
        total[rows] += weights[rows, t] * (ahead[rows] - values[t][rows])
    return total


def marginal_structural_model(courses: Courses, *, resamples: int = 200, seed: int = 0) -> MarginalModel:
    """Outcome as a line in the number of times treated, by stabilised weights (Robins, Hernan & Brumback 2000).

    For `survival` the line is in the times treated so far, beside one level for each time.
    """
    slopes = []
    for block in draw_counts(courses.units, resamples=resamples, seed=seed):
        for counts in block:
            slopes.append(_slope(courses, stabilised_weights(courses, counts), counts))
    weight = _weights_at_end(courses, stabilised_weights(courses, np.ones(len(courses))))
    return MarginalModel(_percentiles(np.array(slopes)), effective_sample(weight), float(weight.max()))


def _weights_at_end(courses: Courses, weights: Array) -> Array:
    """Each row's last weight, without rows whose end outcome is not known, or that give no time of survival."""
    seen = courses.stays.sum(axis=1)
    kept = seen > 0 if courses.kind == "survival" else courses.stays[:, -1]
    return weights[kept, seen[kept] - 1]


def _slope(courses: Courses, weights: Array, counts: Array) -> float:
    """Coefficient of the number of times treated."""
    treated = np.cumsum(np.nan_to_num(courses.treatment), axis=1)
    times = range(courses.times) if courses.kind == "survival" else [courses.times - 1]
    designs, targets, weight = [], [], []
    for t in times:
        rows = np.flatnonzero(courses.stays[:, t] & (counts > 0))
        level = np.tile(np.eye(len(times))[t - times[0]], (len(rows), 1))
        designs.append(np.hstack([level, treated[rows, t][:, None]]))
        targets.append(courses.outcome[rows, t] if courses.kind == "survival" else courses.outcome[rows])
        weight.append(counts[rows] * weights[rows, t])
    arrays = np.vstack(designs), np.concatenate(targets), np.concatenate(weight)
    return float(_regress(*arrays, kind=courses.kind)[-1])
