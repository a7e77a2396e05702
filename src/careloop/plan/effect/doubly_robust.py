"""What each option would do to everybody: cross-fitted doubly robust means and differences with 95 % intervals.

The score of row i under option a is m_a(x) + 1[given a] / e_a(x) * (completed value - m_a(x)) (augmented inverse
probability weighting: Robins, Rotnitzky & Zhao 1994, JASA 89:846). Its mean is the mean potential outcome if either the
outcome model m or the propensity e is right; with m and e fitted on other subjects' rows its spread gives the standard
error (Chernozhukov et al. 2018, Econometrics Journal 21:C1, section 5). Values not seen are completed by
cross-fitted models of censoring and of missing measures (`survival`, `nuisance`).

Assumptions, stated wherever effects are shown: given the covariates, who got which option and whose follow-up ended
early tells nothing about how they would have done; every patient could have got every option; one patient's treatment
does not change another's outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.balance import e_value_of_difference, e_value_of_ratio
from careloop.plan.effect.goals import Array, EventGoalData, GoalData, Kind, MeasureGoalData
from careloop.plan.effect.nuisance import OutcomeModel, fit_outcome_model, fit_propensity
from careloop.plan.effect.survival import plain_estimate

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
    kind: Kind
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


@dataclass(frozen=True)
class CrossFit:
    """Rows (n, ...) with outcome and censoring models: the k-th was fitted without the rows of fold k."""

    covariates: Array
    arm: Array
    subjects: Array
    propensity: Array
    fold: Array
    models: tuple[OutcomeModel, ...]

    def score(self, goal: GoalData) -> Scores:
        """Scores of all rows for the goal fitted, or another of the same follow-up (see `OutcomeModel.about`)."""
        expected, completed = np.empty(self.propensity.shape), np.empty(len(self.arm))
        for k, model in enumerate(self.models):
            rows = np.flatnonzero(self.fold == k)
            asked, own = model.about(goal), self.covariates[rows]
            expected[rows] = asked.expected(own)
            completed[rows] = asked.complete(own, self.arm[rows], goal.take(rows))
        return score(self.arm, self.subjects, expected=expected, propensity=self.propensity, completed=completed)


def cross_fit(
    covariates: Array, arm: Array, goal: GoalData, *, subjects: Array, propensity: Array, fold: Array
) -> CrossFit:
    """Fit outcome and censoring models without each fold in turn; shapes as in `Scores`."""
    models = []
    for k in range(fold.max() + 1):
        train = np.flatnonzero(fold != k)
        models.append(fit_outcome_model(covariates[train], arm[train], goal.take(train), propensity.shape[1]))
    return CrossFit(covariates, arm, subjects, propensity, fold, tuple(models))


def cross_fit_scores(
    covariates: Array, arm: Array, goal: GoalData, *, subjects: Array, propensity: Array, fold: Array
) -> Scores:
    """Scores of all rows, each row's outcome and censoring models fitted without its fold; shapes as in `Scores`."""
    return cross_fit(covariates, arm, goal, subjects=subjects, propensity=propensity, fold=fold).score(goal)


def score_by(
    model: OutcomeModel, covariates: Array, arm: Array, *, goal: GoalData, subjects: Array, propensity: Array
) -> Scores:
    """Scores of rows (n, p) by an outcome model that was fitted on other subjects' rows."""
    completed = model.complete(covariates, arm, goal)
    return score(arm, subjects, expected=model.expected(covariates), propensity=propensity, completed=completed)


def score(arm: Array, subjects: Array, *, expected: Array, propensity: Array, completed: Array) -> Scores:
    """Doubly robust scores from outcome predictions and propensities (n, K), and completed values (n,).

    A row with arm -1 stands for the population only: it has a score under every option, but no completed value (NaN).
    """
    given = arm[:, None] == np.arange(expected.shape[1])
    weight = given / np.maximum(propensity, PROPENSITY_CLIP)
    value = expected + np.where(given, weight * (completed[:, None] - expected), 0.0)
    return Scores(value, expected, propensity, completed, arm, subjects)


def standard_error(influence: Array, subjects: Array) -> float:
    """Standard error of an estimate whose rows' influences (n,) sum to 0, subjects being the independent units."""
    unique, position = np.unique(subjects, return_inverse=True)
    each = np.bincount(position, weights=influence)
    return float(np.sqrt((each**2).sum() * len(unique) / max(len(unique) - 1, 1)))


def mean_estimate(values: Array, subjects: Array, *, kind: Kind = "measure") -> Estimate:
    """Mean of rows' values (n,) with its 95 % interval, subjects being the independent units."""
    mean = float(values.mean())
    return normal_interval(mean, standard_error((values - mean) / len(values), subjects), kind=kind)


def normal_interval(value: float, error: float, *, kind: Kind = "measure") -> Estimate:
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
        horizon_days=None if isinstance(goal, MeasureGoalData) else goal.horizon_days,
        options=effects,
        contrasts=tuple(contrast(a, r) for a in others),
        pairs=tuple(contrast(a, b) for a, b in combinations(others, 2)),
    )


def effect_by_day(
    fitted: CrossFit, goal: EventGoalData, days: Sequence[float], *, options: tuple[str, ...], reference: str
) -> tuple[GoalEffect, ...]:
    """The effect on the risk by each of the days, for curves over time; none later than the goal's own horizon.

    The intervals hold for one day at a time. Raises InputError for a day outside of 0 to the horizon.
    """
    wrong = [day for day in days if not 0 < day <= goal.horizon_days]
    if wrong:
        raise InputError(f"days must lie after 0 and by the horizon of {goal.horizon_days:g} days; got {wrong[0]:g}")
    until = [replace(goal, horizon_days=float(day)) for day in days]
    return tuple(estimate_effect(fitted.score(early), early, options, reference=reference) for early in until)


def _plain(goal: GoalData, arm: Array, a: int) -> tuple[float, Array]:
    rows = np.flatnonzero(arm == a)
    value, own = plain_estimate(goal.take(rows))
    influence = np.zeros(len(arm))
    influence[rows] = own
    return value, influence


def _e_values(scores: Scores, goal: GoalData, a: int, b: int) -> tuple[float | None, float | None]:
    first, second = scores.value[:, a], scores.value[:, b]
    if goal.kind == "rmst":  # E-values are for risks and for measures in standard deviations
        return None, None
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
