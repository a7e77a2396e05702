"""The g-formula and its doubly robust extension: closed forms, the jackknife, simulations, and What If's chapter 17."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from careloop.plan.effect.doubly_robust import standard_error
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData, RmstGoalData
from careloop.plan.effect.parametric.standardisation import augmented_means, pseudo_values, standardised_means
from careloop.plan.effect.parametric.weighting import plain_means

HORIZON = 365.0


def survival_goals(data) -> list[GoalData]:
    return [
        EventGoalData("outcome", data.follow_up_days, data.event, HORIZON),
        RmstGoalData("free", data.follow_up_days, data.event, HORIZON),
    ]


def true_days_free() -> np.ndarray:
    """Mean days free of any event by the horizon under each option, from the simulation's constant hazards."""
    x = np.random.default_rng(0).normal(size=(200_000, 4))
    base = 0.0012 * np.exp(0.7 * x[:, 0] + 0.4 * x[:, 1])
    total = np.column_stack([base, base * np.exp(-0.5)]) + 0.0004 * np.exp(0.3 * x[:, [1]])
    return ((1 - np.exp(-total * HORIZON)) / total).mean(axis=0)


@pytest.mark.parametrize("binary", [False, True])
def test_saturated_regression_is_direct_standardisation(binary: bool) -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 2, 600)
    arm = random.integers(0, 3, 600)
    y = (random.random(600) < 0.2 + 0.3 * x + 0.1 * arm).astype(float)
    y = y if binary else y + random.normal(size=600)
    goal = MeasureGoalData("y", y, "higher")
    terms = x[:, None].astype(float)
    found = standardised_means(goal, terms, arm, interactions=(0,))
    augmented = augmented_means(goal, terms, arm, found)
    for a in range(3):
        by_hand = sum((x == k).mean() * y[(x == k) & (arm == a)].mean() for k in (0, 1))
        assert found.value[a] == pytest.approx(by_hand, abs=1e-6)
        assert augmented.value[a] == pytest.approx(by_hand, abs=1e-6)  # its residuals sum to 0 within cells


def test_without_terms_it_is_the_plain_estimate(simulate: Callable[..., object]) -> None:
    data = simulate(3000, 2)
    nothing = np.empty((3000, 0))
    for goal in survival_goals(data):
        found, plain = standardised_means(goal, nothing, data.arm), plain_means(goal, data.arm)
        assert found.value == pytest.approx(plain.value, rel=0.01)
        errors = [standard_error(m.influence[:, 1] - m.influence[:, 0], data.subjects) for m in (found, plain)]
        assert errors[0] == pytest.approx(errors[1], rel=0.03)


@pytest.mark.parametrize("interactions", [(), (0, 1)])
def test_interval_is_that_of_the_jackknife(simulate: Callable[..., object], interactions: tuple[int, ...]) -> None:
    data = simulate(150, 3, confounding=0.5)
    terms = data.covariates[:, :2]
    goals = [MeasureGoalData("score", data.measured, "higher"), *survival_goals(data)]
    for goal in goals:

        def estimate(rows: np.ndarray, goal: GoalData = goal) -> np.ndarray:
            own = goal.take(rows), terms[rows], data.arm[rows]
            return standardised_means(*own, interactions=interactions, periods=12, degree=1)

        whole = np.arange(150)
        found = estimate(whole)
        left_out = np.array([np.diff(estimate(np.delete(whole, i)).value)[0] for i in whole])
        jackknife = np.sqrt(149 / 150 * ((left_out - left_out.mean()) ** 2).sum())
        error = standard_error(found.influence[:, 1] - found.influence[:, 0], data.subjects)
        assert error == pytest.approx(jackknife, rel=0.15)


def test_confounding_is_removed(simulate: Callable[..., object]) -> None:
    data = simulate(8000, 4, confounding=1.0)
    measure = MeasureGoalData("score", data.measured, "higher")
    for goal, truth in zip(
        (*survival_goals(data), measure), (data.true_risk, true_days_free(), data.true_mean), strict=True
    ):
        standardised = standardised_means(goal, data.covariates, data.arm)
        augmented = augmented_means(goal, data.covariates, data.arm, standardised)
        for means in (standardised, augmented):
            difference = means.difference(1, 0, data.subjects)
            assert difference.low <= truth[1] - truth[0] <= difference.high
            assert means.value == pytest.approx(truth, rel=0.06, abs=0.6)
        assert abs(np.diff(plain_means(goal, data.arm).value)[0] - np.diff(truth)[0]) > abs(
            np.diff(standardised.value)[0] - np.diff(truth)[0]
        )


def test_augmentation_makes_up_for_a_wrong_outcome_model() -> None:
    """The outcome bends with x, the regression does not; who is treated follows a logistic line."""
    random = np.random.default_rng(5)
    x = random.normal(size=20_000)
    arm = (random.random(20_000) < 1 / (1 + np.exp(-x))).astype(int)
    y = np.where(arm == 1, x**2, -(x**2)) + random.normal(size=20_000)  # true means 1 and -1
    goal, terms = MeasureGoalData("y", y, "higher"), x[:, None]
    standardised = standardised_means(goal, terms, arm, interactions=(0,))
    wrong = standardised.difference(1, 0, np.arange(20_000))
    right = augmented_means(goal, terms, arm, standardised).difference(1, 0, np.arange(20_000))
    assert not wrong.low <= 2.0 <= wrong.high
    assert right.low <= 2.0 <= right.high


def test_pseudo_values_are_the_values_where_nothing_is_censored() -> None:
    random = np.random.default_rng(6)
    days, event = np.ceil(random.exponential(50, 200)), random.integers(1, 3, 200)
    for goal in (EventGoalData("e", days, event, 60.0), RmstGoalData("e", days, event, 60.0)):
        assert pseudo_values(goal) == pytest.approx(goal.value, abs=1e-9)


def test_rows_in_no_arm_are_averaged_over_but_not_fitted(simulate: Callable[..., object]) -> None:
    data = simulate(1000, 7)
    arm = np.where(data.covariates[:, 0] > 1.0, -1, data.arm)
    goal = MeasureGoalData("score", data.measured, "higher")
    found = standardised_means(goal, data.covariates, arm)
    kept = np.flatnonzero(arm >= 0)
    own = standardised_means(goal.take(kept), data.covariates[kept], arm[kept])
    assert found.expected[kept] == pytest.approx(own.expected)
    assert found.value[0] > own.value[0] + 1  # those left out score higher by 10 for each unit of the covariate
