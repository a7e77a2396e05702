"""Regressions by maximum likelihood with the influence of each row, so that what rests on them has honest intervals.

Coefficients b solve sum of w_i u_i(b) = 0. Their derivative by the weight of row i is A^-1 u_i with A = -sum of w_i
du_i / db; times the weight it is the row's influence, and the sum of squared influences is the sandwich variance
(Stefanski & Boos 2002, Am Stat 56:29). An estimate that uses b adds its own derivative by b times these influences.

A hazard is a logistic regression over the periods that each row is followed (Hernan & Robins, What If, section 17.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.evaluate.calibration import expit
from careloop.evaluate.censoring import CENSORED, COMPETING, OUTCOME
from careloop.plan.effect.doubly_robust import normal_interval, standard_error
from careloop.plan.effect.goals import Array, Kind, SurvivalGoalData

STEPS, TOLERANCE, LONGEST_STEP = 60, 1e-8, 4.0
RUNAWAY = 30.0  # log odds of a row, or log hazard ratio between two, that only separation leads to
NO_FINITE_FIT = (
    "a regression without penalty needs terms that do not separate its target, but no finite coefficients fit; drop "
    "some terms"
)
PERIODS, DEGREE = 60, 4  # of hazard models: months of five years, and a course of time with up to three turns
ROUNDING = 1e-9  # of a period: a follow-up that ends at a border belongs to the period before it


@dataclass(frozen=True)
class Regression:
    """Coefficients (p,), what each row is fitted at (n,), and the coefficients' derivative by row weight (n, p)."""

    coefficients: Array
    fitted: Array
    by_weight: Array


@dataclass(frozen=True)
class OptionMeans:
    """The goal's mean if everybody had each option (K,), and the influence of each row on it (n, K).

    `expected` (n, K), where a model of the outcome was used, is the mean that it gives each row.
    """

    value: Array
    influence: Array
    expected: Array | None = None

    def mean(self, a: int, subjects: Array, *, kind: Kind = "measure") -> Estimate:
        """One option's mean with its 95 % interval, subjects being the independent units."""
        return normal_interval(float(self.value[a]), standard_error(self.influence[:, a], subjects), kind=kind)

    def difference(self, a: int, versus: int, subjects: Array) -> Estimate:
        """Option `a` minus `versus` with its 95 % interval."""
        influence = self.influence[:, a] - self.influence[:, versus]
        return normal_interval(float(self.value[a] - self.value[versus]), standard_error(influence, subjects))


def with_constant(terms: Array) -> Array:
    """Terms (n, p) behind a column of ones, (n, 1 + p)."""
    return np.column_stack([np.ones(len(terms)), terms])


def fit_linear(design: Array, target: Array, weight: Array) -> Regression:
    """Weighted least squares of target (n,) on design (n, p)."""
    information = (design * weight[:, None]).T @ design
    coefficients = solve(information, design.T @ (weight * target))
    fitted = design @ coefficients
    return Regression(coefficients, fitted, solve(information, (design * (target - fitted)[:, None]).T).T)


def fit_logistic(design: Array, target: Array, weight: Array) -> Regression:
    """Weighted logistic regression of target (n,) in 0 to 1 on design (n, p), by Newton's method.

    Raises InputError where the terms separate the target, so that no finite coefficients exist.
    """
    coefficients = np.zeros(design.shape[1])
    for _ in range(STEPS):
        fitted = expit(design @ coefficients)
        information = (design * (weight * fitted * (1 - fitted))[:, None]).T @ design
        step = solve(information, design.T @ (weight * (target - fitted)))
        require_finite(design @ coefficients)
        if settled(step, coefficients):
            return Regression(coefficients, fitted, solve(information, (design * (target - fitted)[:, None]).T).T)
        coefficients = coefficients + shortened(step, design @ step)
    raise InputError(NO_FINITE_FIT)


def solve(information: Array, right: Array) -> Array:
    """Solution of information (p, p) @ x = right, of least length where terms are collinear."""
    scale = np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    scaled = np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    return ((scaled @ (right.T / scale).T).T / scale).T


def require_finite(line: Array) -> None:
    """Raise InputError where log odds run away."""
    if np.abs(line).max(initial=0.0) > RUNAWAY:
        raise InputError(NO_FINITE_FIT)


def settled(step: Array, coefficients: Array) -> bool:
    """Whether Newton's method has arrived."""
    return bool(np.abs(step).max(initial=0.0) <= TOLERANCE * (1 + np.abs(coefficients).max(initial=0.0)))


def shortened(step: Array, moved: Array) -> Array:
    """A Newton step that moves no line by more than `LONGEST_STEP`, `moved` being how far it moves them."""
    return step * min(1.0, LONGEST_STEP / max(float(np.abs(moved).max(initial=0.0)), LONGEST_STEP))


@dataclass(frozen=True)
class Periods:
    """Follow-up up to the horizon in T equal periods: exposure and kind of end of each row in each of them.

    `exposed` (n, T) is the share of the period followed without an earlier event (1 in the period of an event),
    `ended` (n,) the period of the event (T where there is none by the horizon), `event` (n,) its code or 0.
    """

    exposed: Array
    ended: Array
    event: Array

    def happened(self, code: int) -> Array:
        """Whether the event with this code ended the row in the period, (n, T)."""
        return (self.ended[:, None] == np.arange(self.exposed.shape[1])) & (self.event == code)[:, None]


def cut_periods(follow_up_days: Array, event: Array, horizon_days: float, *, count: int) -> Periods:
    """Cut follow-up (n,) into `count` periods; an event at the end of a period belongs to it."""
    length = follow_up_days * count / horizon_days
    happened = np.where(follow_up_days <= horizon_days, event, CENSORED)
    ended = np.where(happened != CENSORED, np.maximum(np.ceil(length - ROUNDING) - 1, 0), count).astype(int)
    followed = np.where(happened != CENSORED, ended + 1, length)
    return Periods(np.clip(followed[:, None] - np.arange(count), 0.0, 1.0), ended, happened)


@dataclass(frozen=True)
class PooledHazard:
    """Log odds of the event in a period: slopes (q,) times the row's terms, plus the course (K, m) of its arm.

    `basis` (T, m) are the courses' functions of time; `by_weight` (n, q + K * m) as in `Regression`.
    """

    slopes: Array
    courses: Array
    basis: Array
    by_weight: Array

    def hazards(self, terms: Array, a: int) -> Array:
        """Probability of the event in each period for those without one before, (n, T), under option `a`."""
        return expit((terms @ self.slopes)[:, None] + self.basis @ self.courses[a])

    def moment(self, terms: Array, a: int, by_log_odds: Array) -> Array:
        """Derivative (q + K * m,) by the coefficients of the sum of a statistic with derivatives (n, T) by log odds."""
        courses = np.zeros(self.courses.shape)
        courses[a] = by_log_odds.sum(axis=0) @ self.basis
        return np.concatenate([terms.T @ by_log_odds.sum(axis=1), courses.ravel()])


def time_basis(periods: Periods, degree: int) -> Array:
    """Polynomials of time up to `degree`, orthogonal over the periods, (T, degree + 1)."""
    count = periods.exposed.shape[1]
    powers = np.linspace(-1.0, 1.0, count)[:, None] ** np.arange(degree + 1)
    return np.linalg.qr(powers)[0] * np.sqrt(count)


def fit_pooled_hazard(
    periods: Periods, terms: Array, arm: Array, *, basis: Array, weight: Array, code: int = OUTCOME
) -> PooledHazard:
    """Pooled logistic regression of the event on terms (n, q), with a course of time for each of the arms 0 to K - 1.

    Rows of arm -1 are not used. The hazard of a competing event is that of rows whose period had no outcome, so that
    both hazards multiply to the chance of passing the period. Raises InputError where an arm has no such event.
    """
    options, width = int(arm.max()) + 1, basis.shape[1]
    exposed = np.where((arm >= 0)[:, None], periods.exposed, 0.0)
    if code == COMPETING:
        exposed[periods.happened(OUTCOME)] = 0.0
    given = (arm[:, None] == np.arange(options)).astype(float)
    coefficients = np.zeros(terms.shape[1] + options * width)

    def line_of(coefficients: Array) -> Array:
        slopes, courses = np.split(coefficients, [terms.shape[1]])
        line = (terms @ slopes)[:, None] + (given @ courses.reshape(options, width)) @ basis.T
        return np.where(exposed > 0, line, 0.0)

    for _ in range(STEPS):
        hazard = expit(line_of(coefficients))
        scores = _scores(terms, given, basis, exposed * (periods.happened(code) - hazard))
        information = _information(terms, given, basis, weight[:, None] * exposed * hazard * (1 - hazard))
        step = solve(information, weight @ scores)
        # No limit here: where a period has no events, a course may well go to the depths.
        if settled(step, coefficients):
            slopes, courses = np.split(coefficients, [terms.shape[1]])
            return PooledHazard(slopes, courses.reshape(options, width), basis, solve(information, scores.T).T)
        coefficients = coefficients + shortened(step, line_of(step))
    raise InputError(NO_FINITE_FIT)


def _scores(terms: Array, given: Array, basis: Array, residuals: Array) -> Array:
    """Each row's score (n, q + K * m) from its residuals (n, T)."""
    in_time = given[:, :, None] * (residuals @ basis)[:, None, :]
    return np.column_stack([terms * residuals.sum(axis=1)[:, None], in_time.reshape(len(terms), -1)])


def _information(terms: Array, given: Array, basis: Array, spread: Array) -> Array:
    """Information (q + K * m, q + K * m) from the variances (n, T) of all rows' periods."""
    q, options, width = terms.shape[1], given.shape[1], basis.shape[1]
    own = (terms * spread.sum(axis=1)[:, None]).T @ terms
    in_time = given[:, :, None] * (spread @ basis)[:, None, :]
    mixed = terms.T @ in_time.reshape(len(terms), -1)
    blocks = np.zeros((options, width, options, width))
    for a in range(options):
        blocks[a, :, a, :] = (basis * (given[:, a] @ spread)[:, None]).T @ basis
    size = options * width
    return np.block([[own, mixed], [mixed.T, blocks.reshape(size, size)]]).reshape(q + size, q + size)


def expected_under(
    goal: SurvivalGoalData, terms: Array, a: int, *, outcome: PooledHazard, competing: PooledHazard | None
) -> tuple[Array, tuple[Array, ...]]:
    """Risk or restricted mean time (n,) of rows with these terms under option `a`, and how their sum moves.

    That is its derivative by the coefficients of the outcome's and of the competing events' model. An event falls in
    the middle of its period, so that the time free of it is the area under straight lines.
    """
    hazard = outcome.hazards(terms, a)
    other = competing.hazards(terms, a) if competing is not None else np.zeros_like(hazard)
    free_before = np.cumprod(np.column_stack([np.ones(len(terms)), (1 - hazard) * (1 - other)]), axis=1)[:, :-1]
    count = hazard.shape[1]
    middle = (np.arange(count) + 0.5) * goal.horizon_days / count
    lost = (np.ones(count) if goal.kind == "event" else goal.horizon_days - middle) * free_before * hazard
    later = np.column_stack([lost[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], np.zeros(len(terms))])
    sign = 1.0 if goal.kind == "event" else -1.0
    moments = [outcome.moment(terms, a, sign * (lost * (1 - hazard) - hazard * later))]
    if competing is not None:
        moments.append(competing.moment(terms, a, -sign * other * later))
    expected = lost.sum(axis=1)
    return (expected if goal.kind == "event" else goal.horizon_days - expected), tuple(moments)
