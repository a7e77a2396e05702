"""Weights that let the clones who stay stand for those who depart or are lost, with effective sample size and balance.

A clone's weight at a time is one over its chance, given its own past, of not having departed from the strategy and not
being lost by then. Someone who may not start weighs more with every hazard of starting survived. Under a grace period
(Cain et al. 2010, section 4) starting follows its natural course up to the last interval of the grace period, in which
all who are left start: who starts in it weighs 1 / P(start in it) more, and who has not started yet weighs ever less,
down to 0 at its end. Weights are divided by their mean over the strategy's clones at risk in the interval, which
stabilises them as a numerator that depends on strategy and interval does, and cut at a stated quantile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from careloop.plan.effect.diagnostics.balance import NOTABLE_DIFFERENCE, effective_sample
from careloop.plan.effect.goals import Array
from careloop.plan.trial.clones import COMPETING, COMPLETED, OUTCOME, Clones
from careloop.plan.trial.emulate import Grid, treatment_key
from careloop.plan.trial.hazards import LOSS, Covariates, Hazards, stop_name

SMALLEST_CHANCE = 1e-6  # keeps the weight of starting finite where the model sees no chance of it


@dataclass(frozen=True, eq=False)
class Course:
    """One strategy's clones on the grid, which no resample changes.

    `fraction` (n, K): how much of each interval a clone is at risk, in intervals; `before` (n, K): how much of that
    comes before its start, and `before_full` had it stayed. `end_interval`, `end_fraction` (n,): where it ends.
    `last` is the last interval of the grace period, -1 without one; `started_last` (n,) started in it.
    """

    clones: Clones
    grid: Grid
    fraction: Array
    before: Array
    before_full: Array
    end_interval: Array
    end_fraction: Array
    last: int
    started_last: Array

    @classmethod
    def of(cls, clones: Clones, grid: Grid) -> Course:
        """Lay the clones on the grid."""
        days, start = grid.interval_days, clones.start[:, None]
        fraction = np.clip((clones.end_days[:, None] - grid.starts) / days, 0.0, grid.lengths)
        before_full = np.clip((start - grid.starts) / days, 0.0, grid.lengths)
        end_interval = grid.interval_of(clones.end_days)
        last = round(clones.strategy.within_days / days) - 1 if clones.strategy.start else -1
        in_last = (clones.start > grid.starts[last]) & (clones.start <= clones.strategy.within_days)
        return cls(
            clones=clones,
            grid=grid,
            fraction=fraction,
            before=np.minimum(before_full, fraction),
            before_full=before_full,
            end_interval=end_interval,
            end_fraction=fraction[np.arange(len(end_interval)), end_interval],
            last=last,
            started_last=in_last if last >= 0 else np.zeros(len(in_last), dtype=bool),
        )

    @cached_property
    def at_risk(self) -> Array:
        """(n, K) bool."""
        return self.fraction > 0

    @cached_property
    def cells(self) -> tuple[Array, Array]:
        """Row and interval of the clone-intervals at risk."""
        row, interval = np.nonzero(self.at_risk)
        return row, interval


@dataclass(frozen=True, eq=False)
class CloneWeights:
    """Weighted follow-up of one strategy: `exposure` (n, K) in intervals, `at_end` (n,) the weight at a clone's end."""

    exposure: Array
    at_end: Array


def plain_weights(course: Course) -> CloneWeights:
    """Every clone counts once."""
    return CloneWeights(course.fraction, np.ones(len(course.end_interval)))


def raw_weights(course: Course, hazards: Hazards) -> tuple[CloneWeights, Array]:
    """Inverse probability weights, and those at the interval starts (n, K), neither divided by means nor cut."""
    leaving = Leaving.of(course, hazards)
    passed = leaving.waiting * course.grid.lengths
    if leaving.treated is not leaving.waiting:
        passed += (leaving.treated - leaving.waiting) * (course.grid.lengths - course.before_full)
    log_weight = np.cumsum(passed, axis=1) - passed + _log_weight_at_zero(course, hazards)[:, None]
    log_weight[:, course.last + 1 :] += leaving.jump[:, None]
    at_start = np.exp(log_weight)
    seen = course.cells
    exposure = np.zeros(at_start.shape)
    exposure[seen] = at_start[seen] * _time_at_risk(course, leaving, seen)
    ends = np.arange(len(course.end_interval)), course.end_interval
    return CloneWeights(exposure, at_start[ends] * _growth_to_end(course, leaving, ends)), at_start


@dataclass(frozen=True, eq=False)
class Leaving:
    """Hazards (n, K) of departing or being lost while waiting to start and after it, and the grace period's last start.

    `last_rate`, `last_chance` (n,): integrated hazard and chance of starting in the last interval of the grace period;
    `jump` (n,): what the log weight gains by having started in it.
    """

    waiting: Array
    treated: Array
    last_rate: Array
    last_chance: Array
    jump: Array

    @classmethod
    def of(cls, course: Course, hazards: Hazards) -> Leaving:
        """Pick the strategy's processes."""
        own = course.clones.strategy
        waiting = hazards.rate[LOSS] + (hazards.rate[treatment_key(own.never)] if own.never else 0.0)
        treated = waiting + hazards.rate[stop_name(course.clones.name)] if own.not_stopping else waiting
        rate = np.full(len(waiting), np.inf)
        if own.start and course.last >= 0:
            rate = np.maximum(hazards.rate[treatment_key(own.start)][:, course.last], SMALLEST_CHANCE)
        chance = -np.expm1(-rate)
        return cls(waiting, treated, rate, chance, np.where(course.started_last, -np.log(chance), 0.0))


def _log_weight_at_zero(course: Course, hazards: Hazards) -> Array:
    """-log of the chance of having agreed with the strategy at day 0 (n,)."""
    own, total = course.clones.strategy, np.zeros(len(course.end_interval))
    never = hazards.at_zero.get(treatment_key(own.never)) if own.never else None
    start = hazards.at_zero.get(treatment_key(own.start)) if own.start and not own.within_days else None
    if never is not None:
        total -= np.log(np.maximum(1.0 - never, SMALLEST_CHANCE))
    if start is not None:
        total -= np.log(np.maximum(start, SMALLEST_CHANCE))
    return total


def _time_at_risk(course: Course, leaving: Leaving, cells: tuple[Array, Array]) -> Array:
    """Integral of the weight, relative to the interval's start, over the time at risk of cells (row, interval)."""
    waiting, before = leaving.waiting[cells], course.before[cells]
    spent = _integral(waiting, before)
    grown = np.exp(waiting * before)
    last = np.flatnonzero(cells[1] == course.last)
    if len(last):
        rate, chance = leaving.last_rate[cells[0][last]], leaving.last_chance[cells[0][last]]
        late = np.exp(-rate) * _integral(rate + waiting[last], before[last])
        spent[last] = (spent[last] - late) / chance
        grown[last] *= np.exp(leaving.jump[cells[0][last]])
    if course.clones.strategy.start is None:
        return spent
    return spent + grown * _integral(leaving.treated[cells], course.fraction[cells] - before)


def _growth_to_end(course: Course, leaving: Leaving, cells: tuple[Array, Array]) -> Array:
    """Weight at the clones' ends (n,), relative to the start of the interval (cells: row, interval) it lies in."""
    waiting, before = leaving.waiting[cells], course.before[cells]
    grown = np.exp(waiting * before)
    last = cells[1] == course.last
    unstarted = last & (course.clones.start > course.clones.end_days)
    rate = leaving.last_rate[unstarted]
    late = np.exp(-rate + (rate + waiting[unstarted]) * before[unstarted])
    grown[unstarted] = np.maximum(grown[unstarted] - late, 0.0) / leaving.last_chance[unstarted]
    grown = grown * np.where(last, np.exp(leaving.jump), 1.0)
    return grown * np.exp(leaving.treated[cells] * (course.end_fraction - before))


def _integral(rate: Array, upto: Array) -> Array:
    """Integral of exp(rate x u) for u from 0 to `upto`."""
    flat = np.abs(rate) < SMALLEST_CHANCE
    return np.where(flat, upto, np.expm1(rate * upto) / np.where(flat, 1.0, rate))


def stabilised(course: Course, raw: CloneWeights, counts: Array, *, cap: float) -> CloneWeights:
    """Divide by the interval's mean weight, and set larger ones to `cap`; rows count `counts` (n,) times."""
    relative, at_end = _relative(course, raw, counts)
    return CloneWeights(np.minimum(relative, cap) * course.fraction, np.minimum(at_end, cap))


def weight_cap(course: Course, raw: CloneWeights, quantile: float) -> tuple[float, float]:
    """Where weights are cut (inf for quantile 1), and the largest weight, over clone-intervals at risk."""
    relative, _ = _relative(course, raw, np.ones(len(raw.at_end)))
    seen = relative[course.cells]
    if not len(seen):
        return np.inf, 1.0
    return float(np.quantile(seen, quantile)) if quantile < 1 else np.inf, float(seen.max())


def _relative(course: Course, raw: CloneWeights, counts: Array) -> tuple[Array, Array]:
    followed, total = counts @ course.fraction, counts @ raw.exposure
    mean = np.divide(total, followed, out=np.ones_like(total), where=(followed > 0) & (total > 0))
    average = np.zeros(raw.exposure.shape)
    average[course.cells] = raw.exposure[course.cells] / course.fraction[course.cells]
    return average / mean, raw.at_end / mean[course.end_interval]


def followers(course: Course, weights: CloneWeights) -> tuple[int, float]:
    """Clones that follow the strategy to the outcome, a competing event or the horizon, and their effective number."""
    kept = course.clones.member & np.isin(course.clones.status, (OUTCOME, COMPETING, COMPLETED))
    return int(kept.sum()), effective_sample(weights.at_end[kept])


@dataclass(frozen=True)
class CovariateOverTime:
    """Largest standardised mean difference of one confounder (at time zero) over strategies and intervals."""

    covariate: str
    before: float
    after: float


@dataclass(frozen=True)
class TrialBalance:
    """Balance of time-zero confounders between the strategies' clones still at risk at each interval's start.

    `days`, `before`, `after` (intervals): largest absolute standardised mean difference over confounders and pairs of
    strategies, unweighted and weighted; `effective_sample` by strategy. Strategies that differ in survival may differ a
    little even when the weights are right.
    """

    days: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    effective_sample: dict[str, tuple[float, ...]]
    covariates: tuple[CovariateOverTime, ...]
    notable: float = NOTABLE_DIFFERENCE


def balance_over_time(courses: tuple[Course, ...], at_start: tuple[Array, ...], covariates: Covariates) -> TrialBalance:
    """Compare the strategies' clones at the start of each interval, with weights `at_start`, each (n, K)."""
    spread = covariates.first.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    differences = []
    for weighted in (False, True):
        means = [
            _means(course.at_risk * (weight if weighted else 1.0), covariates.first)
            for course, weight in zip(courses, at_start, strict=True)
        ]
        pairs = [np.abs(a - b) / spread for a, b in combinations(means, 2)]
        differences.append(np.nan_to_num(np.max(pairs, axis=0)))
    before, after = differences
    sizes = {
        course.clones.name: tuple(effective_sample(w * r) for w, r in zip(weight.T, course.at_risk.T, strict=True))
        for course, weight in zip(courses, at_start, strict=True)
    }
    return TrialBalance(
        days=tuple(float(day) for day in courses[0].grid.starts),
        before=tuple(float(v) for v in before.max(axis=1, initial=0.0)),
        after=tuple(float(v) for v in after.max(axis=1, initial=0.0)),
        effective_sample=sizes,
        covariates=tuple(
            CovariateOverTime(name, float(b), float(a))
            for name, b, a in zip(covariates.names, before.max(axis=0), after.max(axis=0), strict=True)
        ),
    )


def _means(weight: Array, values: Array) -> Array:
    """Weighted means (K, p) over rows, NaN where nobody is at risk."""
    total = weight.sum(axis=0)[:, None]
    return np.divide(weight.T @ values, total, out=np.full((weight.shape[1], values.shape[1]), np.nan), where=total > 0)
