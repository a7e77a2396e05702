"""Courses of repeated treatment: what was known and given at each time, what regimes prescribe, and who follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate.calibration import expit
from careloop.plan.effect.goals import Array
from careloop.plan.trial.pooled import maximise

Kind = Literal["continuous", "binary", "survival"]
# A regime: what to give at each time, or a rule (time, covariates (n, p) then, treatment so far (n, t)) -> (n,) 0/1.
Regime = Sequence[int] | Callable[[int, Array, Array], Array]

PENALTY = 1e-3  # of standardised columns, so that columns that repeat each other have one solution
SMALLEST_CHANCE = 0.01  # of what was done: no row counts more than 100-fold at one time


@dataclass(frozen=True, eq=False)
class Courses:
    """What was known and given to n patients at T times, and what came of it.

    `covariates` (n, T, p), known before the treatment of each time, NaN once no longer followed; `treatment` (n, T) of
    0/1. `outcome`: for `continuous` and `binary` (n,) the value after the last time, NaN if not known; for `survival`
    (n, T) whether the event came after the treatment of each time and before the next: 0, 1, and NaN where follow-up
    was lost in between and for all later times. `subjects` (n,), by default each row its own.
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

    @property
    def times(self) -> int:
        """T."""
        return int(self.treatment.shape[1])

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
        return [_past(self, t) for t in range(self.times)]

    @cached_property
    def units(self) -> Array:
        """(n,) the independent unit of each row."""
        return np.arange(len(self.treatment)) if self.subjects is None else self.subjects


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


def with_treatment(past: Array, given: Array, covariates: int) -> Array:
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
    for t in range(courses.times):
        rows, past = courses.present[:, t], courses.past[t]
        given = np.where(rows, courses.treatment[:, t], 0.0)
        treated[:, t] = _logistic(past, given, counts * rows)
        if (courses.stays[:, t] != rows).any():
            design = with_treatment(past, given, courses.covariates.shape[2])
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


def stabilised_weights(courses: Courses, counts: Array) -> Array:
    """P(treatments | earlier ones) / P(treatments, followed on | past) (n, T) through each time; 0 if not followed."""
    chances, marginal = fit_chances(courses, counts), np.ones(courses.treatment.shape)
    given = np.where(courses.present, courses.treatment, 0.0)
    for t in range(courses.times):
        earlier = [np.ones(len(courses)), given[:, :t].sum(axis=1), *([given[:, t - 1]] if t else [])]
        marginal[:, t] = _logistic(np.column_stack(earlier), given[:, t], counts * courses.present[:, t])
    numerator = np.where(given == 1, marginal, 1.0 - marginal)
    done = np.maximum(np.where(given == 1, chances.treated, 1.0 - chances.treated), SMALLEST_CHANCE)
    stays = np.maximum(chances.stays, SMALLEST_CHANCE)
    return np.cumprod(np.where(courses.stays, numerator / (done * stays), 0.0), axis=1)
