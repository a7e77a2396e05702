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
from functools import cached_property, partial
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.evaluate.calibration import expit
from careloop.evaluate.estimate import PERCENTILES, draw_counts
from careloop.plan.effect.balance import effective_sample
from careloop.plan.effect.doubly_robust import mean_estimate
from careloop.plan.effect.goals import Array
from careloop.plan.trial.pooled import maximise

Method = Literal["g_computation", "weighting", "doubly_robust"]
Kind = Literal["continuous", "binary", "survival"]
# A regime: what to give at each time, or a rule (time, covariates (n, p) then, treatment so far (n, t)) -> (n,) 0/1.
Regime = Sequence[int] | Callable[[int, Array, Array], Array]

PENALTY = 1e-3  # of standardised columns, so that columns that repeat each other have one solution
SMALLEST_CHANCE = 0.01  # of what was done: no row counts more than 100-fold at one time


@dataclass(frozen=True, eq=False)
class Courses:
    """What was known and given to n patients at T times, and what came of it.

    `covariates` (n, T, p), known before the treatment of each time, NaN once no longer followed; `treatment` (n, T) 0/1.
    `outcome`: for `continuous` and `binary` (n,) the value after the last time, NaN if not known; for `survival` (n, T)
    whether the event came after the treatment of each time and before the next: 0, 1, and NaN where follow-up was lost
    in between and for all later times. `subjects` (n,), by default each row its own.
    """

    covariates: Array
    treatment: Array
    outcome: Array
    kind: Kind
    subjects: Array | None = None

    def __post_init__(self) -> None:
        n, times = self.treatment.shape
        wanted = (n, times) if self.kind == "survival" else (n,)
        if self.covariates.shape[:2] != (n, times) or self.covariates.ndim != 3 or self.outcome.shape != wanted:
            raise InputError(
                f"courses: covariates must be (n, T, p), treatment (n, T) and outcome {wanted}; got "
                f"{self.covariates.shape}, {self.treatment.shape} and {self.outcome.shape}"
            )
        if not self.present[:, 0].all():
            raise InputError(
                "courses: covariates of the first time must be known for every row; fill or drop the others"
            )
        seen = self.treatment[self.present]
        if not np.isin(seen, (0, 1)).all():
            raise InputError("courses: treatment must be 0 or 1 wherever the covariates of the time are known")

    def __len__(self) -> int:
        return len(self.treatment)

    @cached_property
    def present(self) -> Array:
        """(n, T) bool: followed and event-free at the treatment of each time."""
        known = np.isfinite(self.covariates).all(axis=2)
        if self.kind == "survival":
            free = np.hstack([np.ones((len(known), 1), dtype=bool), self.outcome[:, :-1] == 0])
            known = known & np.logical_and.accumulate(free, axis=1)
        return np.logical_and.accumulate(known, axis=1)

    @cached_property
    def stays(self) -> Array:
        """(n, T) bool: what follows the treatment of each time is known (the next time, or the outcome)."""
        if self.kind == "survival":
            return self.present & np.isfinite(self.outcome)
        following = np.hstack([self.present[:, 1:], np.isfinite(self.outcome)[:, None]])
        return self.present & following

    @cached_property
    def past(self) -> list[Array]:
        """Columns of what came before the treatment of each time, (n, .) each."""
        return [_past(self, t) for t in range(self.treatment.shape[1])]

    @cached_property
    def units(self) -> Array:
        """(n,) the independent unit of each row."""
        return np.arange(len(self.treatment)) if self.subjects is None else self.subjects


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
        tell = partial(mean_estimate, subjects=courses.units)
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


def prescribed(courses: Courses, regime: Regime) -> Array:
    """What the regime gives (n, T), its rule applied to the covariates and treatments that were observed."""
    n, times = courses.treatment.shape
    if not callable(regime):
        if len(regime) != times or not np.isin(regime, (0, 1)).all():
            raise InputError(
                f"regimes: a fixed regime has one 0 or 1 for each of the {times} times, got {list(regime)}"
            )
        return np.tile(np.asarray(regime, dtype=float), (n, 1))
    return np.column_stack(
        [regime(t, courses.covariates[:, t], courses.treatment[:, :t]) for t in range(times)]
    ).astype(float)


def _past(courses: Courses, t: int) -> Array:
    """Columns (n, .) of what came before the treatment of time t, standardised over those present; 0 for others."""
    known, given = courses.covariates, courses.treatment
    columns = [known[:, t]]
    if t > 0:
        columns += [known[:, 0], given[:, [t - 1]]]
    if t > 1:
        columns += [known[:, t - 1], given[:, :t].sum(axis=1, keepdims=True)]
    values = np.where(courses.present[:, [t]], np.hstack(columns), 0.0)
    present = values[courses.present[:, t]]
    spread = present.std(axis=0)
    scaled = (values - present.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.hstack([np.ones((len(scaled), 1)), scaled])


def _with_treatment(past: Array, given: Array, covariates: int) -> Array:
    """Columns for an outcome: the past, the treatment, and the treatment by each covariate of the time."""
    return np.hstack([past, given[:, None], given[:, None] * past[:, 1 : 1 + covariates]])


@dataclass(frozen=True, eq=False)
class Chances:
    """`treated` (n, T): P(treatment = 1 | past); `stays` (n, T): P(followed on | past, treatment given)."""

    treated: Array
    stays: Array


def fit_chances(courses: Courses, counts: Array) -> Chances:
    """Logistic models of each time, on rows counted `counts` (n,) times; 1 where nobody is lost."""
    treated, stays = np.ones(courses.treatment.shape), np.ones(courses.treatment.shape)
    for t in range(treated.shape[1]):
        rows, past = courses.present[:, t], courses.past[t]
        given = np.where(rows, courses.treatment[:, t], 0.0)
        treated[:, t] = _logistic(past, given, counts * rows)
        if (courses.stays[:, t] != rows).any():
            design = _with_treatment(past, given, courses.covariates.shape[2])
            stays[:, t] = _logistic(design, courses.stays[:, t].astype(float), counts * rows)
    return Chances(treated, stays)


def _logistic(design: Array, label: Array, weight: Array) -> Array:
    """Fitted probabilities (n,) of rows with and without weight."""
    used = weight > 0
    penalty = np.full(design.shape[1], PENALTY)
    coefficients, _ = maximise(design[used], label[used], weight[used], penalty=penalty)
    return expit(design @ coefficients)


def regime_weights(courses: Courses, given: Array, chances: Chances) -> Array:
    """Weights (n, T) of having followed `given` (n, T) and been followed up through each time; 0 for others.

    After the event (`survival`) a row keeps the weight it had then.
    """
    done = np.where(courses.treatment == 1, chances.treated, 1.0 - chances.treated)
    factor = 1.0 / (np.maximum(done, SMALLEST_CHANCE) * np.maximum(chances.stays, SMALLEST_CHANCE))
    factor = np.where((courses.treatment == given) & courses.stays, factor, 0.0)
    if courses.kind == "survival":
        over = np.hstack([np.zeros((len(factor), 1), dtype=bool), courses.outcome[:, :-1] == 1])
        factor = np.where(np.logical_or.accumulate(over, axis=1), 1.0, factor)
    return np.cumprod(factor, axis=1)


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
    times = courses.treatment.shape[1]
    ahead = courses.outcome[:, -1] if courses.kind == "survival" else courses.outcome
    values = [ahead]
    for t in reversed(range(times)):
        if courses.kind == "survival" and t < times - 1:
            ahead = np.where(courses.outcome[:, t] == 1, 1.0, ahead)
        rows = counts * courses.stays[:, t]
        width = courses.covariates.shape[2]
        used = rows > 0
        design = _with_treatment(courses.past[t], np.nan_to_num(courses.treatment[:, t]), width)
        coefficients = _regress(design[used], ahead[used], rows[used], kind=courses.kind)
        expected = _with_treatment(courses.past[t], given[:, t], width) @ coefficients
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
    for t in range(courses.treatment.shape[1]):
        ahead = values[t + 1]
        if courses.kind == "survival":
            ahead = np.where(courses.outcome[:, t] == 1, 1.0, ahead)
        rows = courses.stays[:, t] & (weights[:, t] > 0)
        total[rows] += weights[rows, t] * (ahead[rows] - values[t][rows])
    return total
