"""What each option would do to everybody: cross-fitted doubly robust means and differences with 95 % intervals.

The score of row i under option a is m_a(x) + 1[given a] / e_a(x) * (completed value - m_a(x)) (augmented inverse
probability weighting: Robins, Rotnitzky & Zhao 1994, JASA 89:846). Its mean is the mean potential outcome if either the
outcome model m or the propensity e is right; with m and e fitted on other subjects' rows its spread gives the standard
error (Chernozhukov et al. 2018, Econometrics Journal 21:C1, section 5). Values not seen are completed as in `goals`.

Assumptions, stated wherever effects are shown: given the covariates, who got which option and whose follow-up ended
early tells nothing about how they would have done; every patient could have got every option; one patient's treatment
does not change another's outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.balance import e_value_of_difference, e_value_of_ratio
from careloop.plan.effect.goals import (
    Array,
    EventGoalData,
    GoalData,
    complete_event,
    complete_measure,
    plain_estimate,
)
from careloop.plan.effect.nuisance import fit_outcome_model, fit_propensity

Z_95 = 1.959963984540054
PROPENSITY_CLIP = 0.01  # no row counts more than 100-fold


@dataclass(frozen=True)
class Scores:
    """Doubly robust scores of n rows under K options, with the parts they came from."""

    value: Array  # (n, K) score
    expected: Array  # (n, K) outcome model
    propensity: Array  # (n, K)
    completed: Array  # (n,) the value under the option given, completed where not seen
    arm: Array  # (n,) option given
    subjects: Array  # (n,)


@dataclass(frozen=True)
class OptionEffect:
    """One option given to everybody: the goal's mean (a risk, for an event) adjusted, and plain in its own arm."""

    option: str
    patients: int
    adjusted: Estimate
    plain: Estimate


@dataclass(frozen=True)
class Contrast:
    """Option minus versus: adjusted (doubly robust) and plain (difference between the arms as they are)."""

    option: str
    versus: str
    adjusted: Estimate
    plain: Estimate
    e_value: float | None
    e_value_limit: float | None  # E-value of the interval's limit nearer to no effect; 1.0 where it holds no effect


@dataclass(frozen=True)
class GoalEffect:
    """Effects on one goal; `contrasts` are each option against the reference, `pairs` all other pairs."""

    goal: str
    kind: Literal["event", "measure"]
    better: Literal["lower", "higher"]
    horizon_days: float | None
    options: tuple[OptionEffect, ...]
    contrasts: tuple[Contrast, ...]
    pairs: tuple[Contrast, ...]


def cross_fit_propensity(
    covariates: Array, arm: Array, options: int, *, fold: Array, assignment: Literal["randomised", "observed"]
) -> Array:
    """P(option | covariates) (n, K), each row's from models fitted without its fold."""
    if assignment == "randomised":
        return fit_propensity(covariates, arm, options, assignment=assignment)(covariates)
    predicted = np.empty((len(arm), options))
    for k in range(fold.max() + 1):
        train = fold != k
        model = fit_propensity(covariates[train], arm[train], options, assignment=assignment)
        predicted[~train] = model(covariates[~train])
    return predicted


def cross_fit_scores(
    covariates: Array, arm: Array, goal: GoalData, *, subjects: Array, propensity: Array, fold: Array
) -> Scores:
    """Scores of all rows, each row's outcome model fitted without its fold; shapes as in `Scores`."""
    options = propensity.shape[1]
    expected = np.empty(propensity.shape)
    probability_known = np.ones(propensity.shape)
    for k in range(fold.max() + 1):
        train = fold != k
        model = fit_outcome_model(covariates[train], arm[train], goal.take(np.flatnonzero(train)), options)
        expected[~train] = model.expected(covariates[~train])
        if goal.kind == "measure":
            probability_known[~train] = model.probability_known(covariates[~train])
    return score(goal, arm, subjects, expected=expected, propensity=propensity, probability_known=probability_known)


def score(
    goal: GoalData, arm: Array, subjects: Array, *, expected: Array, propensity: Array, probability_known: Array
) -> Scores:
    """Doubly robust scores from nuisance predictions, each (n, K); follow-up is completed within arm on these rows.

    A row with arm -1 stands for the population only: it has a score under every option, but no completed value (NaN).
    """
    completed = np.full(len(arm), np.nan)
    for a in np.unique(arm[arm >= 0]):
        rows = np.flatnonzero(arm == a)
        own = goal.take(rows)
        if isinstance(own, EventGoalData):
            completed[rows] = complete_event(own, expected[rows, a])
        else:
            completed[rows] = complete_measure(own, expected[rows, a], probability_known[rows, a])
    given = arm[:, None] == np.arange(expected.shape[1])
    weight = given / np.maximum(propensity, PROPENSITY_CLIP)
    value = expected + np.where(given, weight * (completed[:, None] - expected), 0.0)
    return Scores(value, expected, propensity, completed, arm, subjects)


def standard_error(influence: Array, subjects: Array) -> float:
    """Standard error of an estimate whose rows' influences (n,) sum to 0, subjects being the independent units."""
    unique, position = np.unique(subjects, return_inverse=True)
    each = np.bincount(position, weights=influence)
    return float(np.sqrt((each**2).sum() * len(unique) / max(len(unique) - 1, 1)))


def mean_estimate(values: Array, subjects: Array, *, kind: Literal["event", "measure"] = "measure") -> Estimate:
    """Mean of rows' values (n,) with its 95 % interval, subjects being the independent units."""
    mean = float(values.mean())
    return normal_interval(mean, standard_error((values - mean) / len(values), subjects), kind=kind)


def normal_interval(value: float, error: float, *, kind: Literal["event", "measure"] = "measure") -> Estimate:
    """Estimate +- 1.96 standard errors; the risk of an event, and its limits, lie between 0 and 1."""
    floor, ceiling = (0.0, 1.0) if kind == "event" else (-np.inf, np.inf)
    value, low, high = (float(np.clip(v, floor, ceiling)) for v in (value, value - Z_95 * error, value + Z_95 * error))
    return Estimate(value, low, high)


def estimate_effect(scores: Scores, goal: GoalData, options: tuple[str, ...], *, reference: str) -> GoalEffect:
    """Means of all options, and their differences from the reference and from each other."""
    subjects = scores.subjects
    plain = [_plain(goal, scores.arm, a) for a in range(len(options))]
    effects = tuple(
        OptionEffect(
            option=option,
            patients=len(np.unique(subjects[scores.arm == a])),
            adjusted=mean_estimate(scores.value[:, a], subjects, kind=goal.kind),
            plain=normal_interval(plain[a][0], standard_error(plain[a][1], subjects), kind=goal.kind),
        )
        for a, option in enumerate(options)
    )

    def contrast(a: int, b: int) -> Contrast:
        point, limit = _e_values(scores, goal, a, b)
        return Contrast(
            option=options[a],
            versus=options[b],
            adjusted=mean_estimate(scores.value[:, a] - scores.value[:, b], subjects),
            plain=normal_interval(plain[a][0] - plain[b][0], standard_error(plain[a][1] - plain[b][1], subjects)),
            e_value=point,
            e_value_limit=limit,
        )

    r = options.index(reference)
    others = [a for a in range(len(options)) if a != r]
    return GoalEffect(
        goal=goal.name,
        kind=goal.kind,
        better=goal.better,
        horizon_days=goal.horizon_days if isinstance(goal, EventGoalData) else None,
        options=effects,
        contrasts=tuple(contrast(a, r) for a in others),
        pairs=tuple(contrast(a, b) for a, b in combinations(others, 2)),
    )


def _plain(goal: GoalData, arm: Array, a: int) -> tuple[float, Array]:
    rows = np.flatnonzero(arm == a)
    value, own = plain_estimate(goal.take(rows))
    influence = np.zeros(len(arm))
    influence[rows] = own
    return value, influence


def _e_values(scores: Scores, goal: GoalData, a: int, b: int) -> tuple[float | None, float | None]:
    first, second = scores.value[:, a], scores.value[:, b]
    if goal.kind == "measure":
        variances = [goal.value[goal.known & (scores.arm == k)].var() for k in range(scores.value.shape[1])]
        spread = float(np.sqrt(np.mean(variances)))
        difference = first - second
        error = standard_error((difference - difference.mean()) / len(difference), scores.subjects)
        return e_value_of_difference(difference.mean() / spread, error / spread) if spread > 0 else (None, None)
    if min(first.mean(), second.mean()) <= 0:
        return None, None
    log_ratio = (first / first.mean() - second / second.mean()) / len(first)
    return e_value_of_ratio(first.mean() / second.mean(), standard_error(log_ratio, scores.subjects))
