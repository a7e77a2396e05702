"""The parametric g-formula: a regression of the outcome, averaged over everybody as if each had been given each option.

The regression has the terms given, the options, and products of the options with chosen terms: linear for a measure,
logistic for one that is 0 or 1 (Hernan & Robins, What If, section 13.2). Events and times to them come from pooled
logistic regressions of the hazards over periods, in which every option has its own course of time (What If, section
17.5); censoring must tell nothing among rows of like terms and option. Intervals are by the delta method: the average
moves with each row's own terms and with its influence on the coefficients.

Adding the weighted residuals of the same regression gives the doubly robust (augmented inverse probability weighted)
mean, right if either the weights' or the outcome's model is (Robins, Rotnitzky & Zhao 1994, JASA 89:846).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from careloop.evaluate.censoring import COMPETING
from careloop.plan.effect.goals import Array, GoalData, MeasureGoalData, SurvivalGoalData
from careloop.plan.effect.parametric.regression import (
    DEGREE,
    PERIODS,
    OptionMeans,
    Periods,
    cut_periods,
    expected_under,
    fit_linear,
    fit_logistic,
    fit_pooled_hazard,
    time_basis,
    with_constant,
)
from careloop.plan.effect.parametric.weighting import arm_weights, event_codes, weighted_statistic


def standardised_means(
    goal: GoalData,
    terms: Array,
    arm: Array,
    *,
    interactions: Sequence[int] = (),
    periods: int = PERIODS,
    degree: int = DEGREE,
) -> OptionMeans:
    """The goal's mean under every option by standardisation; shapes as in `OptionMeans`.

    `interactions` are columns of terms (n, p) whose slope may differ between options. A survival goal's hazards are of
    `periods` equal periods and change with time by powers up to `degree`. Rows of arm -1 are averaged over but not
    fitted. Raises InputError where the terms separate a logistic regression, or an arm has no events.
    """
    if isinstance(goal, MeasureGoalData):
        return _standardised_measure(goal, terms, arm, interactions)
    cut = cut_periods(goal.follow_up_days, event_codes(goal), goal.horizon_days, count=periods)
    return _standardised_survival(goal, cut, terms, arm, interactions=interactions, degree=degree)


def _under(terms: Array, arm: Array, options: int, interactions: Sequence[int]) -> Array:
    """Terms beside their products with the indicators of options 1 to K - 1, (n, p + (K - 1) * i)."""
    chosen = terms[:, list(interactions)]
    return np.column_stack([terms, *((arm == a)[:, None] * chosen for a in range(1, options))])


def _standardised_measure(goal: MeasureGoalData, terms: Array, arm: Array, interactions: Sequence[int]) -> OptionMeans:
    options = int(arm.max()) + 1

    def design(given: Array) -> Array:
        indicators = given[:, None] == np.arange(1, options)
        return with_constant(np.column_stack([indicators, _under(terms, given, options, interactions)]))

    weight = (goal.known & (arm >= 0)).astype(float)
    binary = bool(np.isin(goal.value[weight > 0], (0.0, 1.0)).all())
    fit = (fit_logistic if binary else fit_linear)(design(arm), goal.value, weight)
    own_influence = fit.by_weight * weight[:, None]
    expected, influence = np.empty((len(arm), options)), np.empty((len(arm), options))
    for a in range(options):
        rows = design(np.full(len(arm), a))
        line = rows @ fit.coefficients
        expected[:, a] = 1.0 / (1.0 + np.exp(-line)) if binary else line
        slope = expected[:, a] * (1 - expected[:, a]) if binary else np.ones(len(arm))
        influence[:, a] = _centred(expected[:, a]) + own_influence @ (slope @ rows) / len(arm)
    return OptionMeans(expected.mean(axis=0), influence, expected)


def _centred(values: Array) -> Array:
    """Influence (n,) of the rows on the mean of their values."""
    return (values - values.mean()) / len(values)


def _standardised_survival(
    goal: SurvivalGoalData, cut: Periods, terms: Array, arm: Array, *, interactions: Sequence[int], degree: int
) -> OptionMeans:
    options, basis = int(arm.max()) + 1, time_basis(cut, degree)
    everybody = np.ones(len(arm))
    own = _under(terms, arm, options, interactions)
    outcome = fit_pooled_hazard(cut, own, arm, basis=basis, weight=everybody)
    competes = bool((cut.event[arm >= 0] == COMPETING).any())
    competing = fit_pooled_hazard(cut, own, arm, basis=basis, weight=everybody, code=COMPETING) if competes else None
    expected, influence = np.empty((len(arm), options)), np.empty((len(arm), options))
    for a in range(options):
        under = _under(terms, np.full(len(arm), a), options, interactions)
        expected[:, a], moments = expected_under(goal, under, a, outcome=outcome, competing=competing)
        influence[:, a] = _centred(expected[:, a])
        for model, moment in zip((outcome, competing), moments, strict=False):
            if model is not None:
                influence[:, a] += np.where(arm >= 0, model.by_weight @ moment, 0.0) / len(arm)
    return OptionMeans(expected.mean(axis=0), influence, expected)


def augmented_means(goal: GoalData, terms: Array, arm: Array, standardised: OptionMeans) -> OptionMeans:
    """Doubly robust means from `standardised_means` of the same goal and rows, and logistic weights of the same terms.

    Censored follow-up is completed by `pseudo_values`. The influence is that of the mean where both models are right.
    Raises InputError where the terms separate an arm.
    """
    expected = standardised.expected
    assert expected is not None
    score = expected.copy()
    for a, weights in enumerate(arm_weights(terms, arm, goal)):
        rows = np.flatnonzero(weights.value > 0)
        # Divided by their own sum (Hajek).
        share = weights.value[rows] / weights.value[rows].sum()
        score[rows, a] += len(arm) * share * (pseudo_values(goal.take(rows)) - expected[rows, a])
    value = score.mean(axis=0)
    return OptionMeans(value, (score - value) / len(arm), expected)


def pseudo_values(goal: GoalData) -> Array:
    """Values (n,) of rows of one arm; where follow-up was censored, each row's part in the arm's plain estimate.

    Their mean given the terms is that of the true values if censoring tells nothing within the arm (Andersen, Klein &
    Rosthoj 2003, Biometrika 90:15, by derivative instead of leaving one out).
    """
    if isinstance(goal, MeasureGoalData):
        return goal.value
    value, by_weight = weighted_statistic(goal, np.ones(len(goal.known)))
    return value + len(goal.known) * by_weight
