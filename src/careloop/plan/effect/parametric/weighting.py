"""Inverse probability weighting: each arm's rows, weighted by 1 / probability of their arm, stand for everybody.

The probability is a logistic regression of each arm on the terms given, without penalty. Weights are stabilised (times
the arm's share) and means are divided by the sum of weights (Hajek), so that the two conventions give one answer
(Hernan & Robins, What If, sections 12.2 to 12.4). Events and times to them are those of the weighted Kaplan-Meier
curve, Aalen-Johansen where other events compete (Cole & Hernan 2004, Comput Methods Programs Biomed 75:45), or of a
weighted hazard model (What If, section 17.4): censoring must tell nothing within an arm. A measure that was not taken
is answered by a second probability, that of being taken.

Intervals know that the weights are estimated: a row's influence is its weight times the statistic's derivative by that
weight, plus its influence on the weights' models times the statistic's derivative by their coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import CENSORED, COMPETING, OUTCOME
from careloop.plan.effect.doubly_robust import PROPENSITY_CLIP
from careloop.plan.effect.goals import Array, GoalData, MeasureGoalData, SurvivalGoalData, shortfall
from careloop.plan.effect.parametric.regression import (
    DEGREE,
    PERIODS,
    OptionMeans,
    cut_periods,
    expected_under,
    fit_logistic,
    fit_pooled_hazard,
    time_basis,
    with_constant,
)


@dataclass(frozen=True)
class WeightModel:
    """One model behind weights: derivative (n, p) of their logarithm by its coefficients, and its influence (n, p)."""

    log_weight_by_coefficient: Array
    influence: Array


@dataclass(frozen=True)
class Weights:
    """Weights (n,) of the rows of one arm, 0 elsewhere, with the models they come from."""

    value: Array
    models: tuple[WeightModel, ...]

    def influence(self, by_weight: Array) -> Array:
        """Influence (n,) or (n, k) of each row on a statistic with these derivatives by the rows' weights."""
        own = (self.value * by_weight.T).T
        return own + sum(m.influence @ (m.log_weight_by_coefficient.T @ own) for m in self.models)


def arm_weights(terms: Array, arm: Array, goal: GoalData | None = None) -> tuple[Weights, ...]:
    """Stabilised weights of every arm 0 to K - 1 from a logistic regression on terms (n, p).

    With a measure as goal, rows without it get 0 and the others stand for them. Rows of arm -1 belong to the
    population that the weighted rows stand for. Raises InputError where the terms separate an arm.
    """
    return tuple(_one_arm(with_constant(terms), arm == a, goal) for a in range(int(arm.max()) + 1))


def _one_arm(design: Array, given: Array, goal: GoalData | None) -> Weights:
    share = float(given.mean())
    value, model = _inverse(design, given, np.ones(len(given)))
    stabiliser = WeightModel(np.full((len(given), 1), 1 / share), (given[:, None] - share) / len(given))
    models = [stabiliser, model]
    value = share * value
    if isinstance(goal, MeasureGoalData) and not goal.known[given].all():
        taken, model = _inverse(design, goal.known, given.astype(float))
        value, models = value * taken, [*models, model]
    return Weights(value, tuple(models))


def _inverse(design: Array, happened: Array, weight: Array) -> tuple[Array, WeightModel]:
    """1 / probability (n,) of what happened, 0 where it did not, and the model; fitted on rows by weight 0 or 1."""
    fit = fit_logistic(design, happened.astype(float), weight)
    probability = np.maximum(fit.fitted, PROPENSITY_CLIP)
    moves = -(1 - fit.fitted) * (fit.fitted > PROPENSITY_CLIP)  # d log(1 / p) / d log odds, 0 where cut
    return happened / probability, WeightModel(design * moves[:, None], fit.by_weight * weight[:, None])


def weighted_means(goal: GoalData, terms: Array, arm: Array) -> OptionMeans:
    """The goal's mean under every option by weighting; shapes as in `OptionMeans`.

    Raises InputError where the terms separate an arm, or an arm is not followed to the horizon.
    """
    return _means(goal, arm_weights(terms, arm, goal))


def weighted_hazard_means(
    goal: SurvivalGoalData, terms: Array, arm: Array, *, periods: int = PERIODS, degree: int = DEGREE
) -> OptionMeans:
    """As `weighted_means`, by a weighted model of every option's hazard over time instead of product-limit curves.

    The hazard is of `periods` equal periods and changes with time by powers up to `degree`. Raises InputError where the
    terms separate an arm, an arm has no events, or other events compete: use `weighted_means` then.
    """
    codes = event_codes(goal)
    if (codes == COMPETING).any():
        raise InputError("weighted hazard models need a single kind of event, got competing ones; use weighted curves")
    weights = arm_weights(terms, arm)
    cut = cut_periods(goal.follow_up_days, codes, goal.horizon_days, count=periods)
    nothing, together = np.empty((len(arm), 0)), sum((own.value for own in weights), np.zeros(len(arm)))
    model = fit_pooled_hazard(cut, nothing, arm, basis=time_basis(cut, degree), weight=together)
    value, influence = np.empty(len(weights)), np.empty((len(arm), len(weights)))
    for a, own in enumerate(weights):
        expected, moments = expected_under(goal, nothing[:1], a, outcome=model, competing=None)
        value[a] = expected[0]
        influence[:, a] = own.influence(model.by_weight @ moments[0])
    return OptionMeans(value, influence)


def plain_means(goal: GoalData, arm: Array) -> OptionMeans:
    """The goal's mean in each arm as it is: what everybody's would be only if arms were given at random."""
    weights = [Weights((arm == a) * _taken(goal), ()) for a in range(int(arm.max()) + 1)]
    return _means(goal, weights)


def _means(goal: GoalData, weights: Sequence[Weights]) -> OptionMeans:
    found = [weighted_statistic(goal, own.value) for own in weights]
    influence = [own.influence(by_weight) for own, (_, by_weight) in zip(weights, found, strict=True)]
    return OptionMeans(np.array([value for value, _ in found]), np.column_stack(influence))


def _taken(goal: GoalData) -> Array:
    """1 for rows that can be counted, 0 for those whose measure was not taken; censored follow-up counts."""
    return np.where(goal.known, 1.0, 0.0) if isinstance(goal, MeasureGoalData) else np.ones(len(goal.known))


def weighted_statistic(goal: GoalData, weight: Array) -> tuple[float, Array]:
    """Weighted mean, risk or restricted mean time of rows with weight (n,) above 0, and its derivative by them (n,)."""
    rows = np.flatnonzero(weight > 0)
    by_weight = np.zeros(len(weight))
    own, used = goal.take(rows), weight[rows]
    if isinstance(own, MeasureGoalData):
        value = float(np.average(own.value, weights=used))
        by_weight[rows] = (own.value - value) / used.sum()
        return value, by_weight
    reason = shortfall(own)
    if reason is not None:
        raise InputError(f"every arm must tell about goal {goal.name!r}, but in one {reason}; shorten the horizon")
    value, by_weight[rows] = _survival_statistic(own, used)
    return value, by_weight


def _survival_statistic(goal: SurvivalGoalData, weight: Array) -> tuple[float, Array]:
    """Weighted product-limit risk or restricted mean time, and its derivative by the weights (n,), all above 0.

    Both are sums over event times of loss * P(free of any event before) * events / at risk: the loss is 1 for the risk,
    the days left until the horizon for the time, which is the horizon less the days lost to any event.
    """
    codes = event_codes(goal)
    any_event, outcome = codes != CENSORED, codes == OUTCOME
    times, place = np.unique(np.minimum(goal.follow_up_days, goal.horizon_days), return_inverse=True)
    leaving, happened, counted = (np.bincount(place, weights=weight * k) for k in (1.0, any_event, outcome))
    at_risk = leaving[::-1].cumsum()[::-1]
    remain = at_risk - happened
    # Nobody remains only at the last time, after which nothing is lost.
    per_remaining = np.divide(1.0, remain, out=np.zeros_like(remain), where=remain > 1e-9 * at_risk)
    free_before = np.concatenate([[1.0], np.cumprod(1.0 - happened / at_risk)[:-1]])
    loss = np.ones(len(times)) if goal.kind == "event" else goal.horizon_days - times
    share = loss * free_before / at_risk
    later = np.append((share * counted)[::-1].cumsum()[::-1][1:], 0.0)
    through = np.cumsum(
        later * np.where(per_remaining > 0, per_remaining - 1.0 / at_risk, 0.0) - share * counted / at_risk
    )
    by_weight = outcome * share[place] - any_event * (later * per_remaining)[place] + through[place]
    lost = float(share @ counted)
    return (lost, by_weight) if goal.kind == "event" else (goal.horizon_days - lost, -by_weight)


def event_codes(goal: SurvivalGoalData) -> Array:
    """How follow-up up to the horizon ended, (n,): for a restricted mean time any event is the outcome."""
    codes = np.where(goal.follow_up_days <= goal.horizon_days, goal.event, CENSORED)
    return codes if goal.kind == "event" else np.where(codes != CENSORED, OUTCOME, CENSORED)
