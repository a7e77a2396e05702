"""Inverse probability weighting: against closed forms, lifelines, the jackknife and simulations with known truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate import aalen_johansen
from careloop.plan.effect.doubly_robust import standard_error
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData, RmstGoalData
from careloop.plan.effect.parametric.weighting import (
    plain_means,
    weighted_hazard_means,
    weighted_means,
    weighted_statistic,
)

HORIZON = 365.0


def goals_of(data) -> list[GoalData]:
    return [
        EventGoalData("outcome", data.follow_up_days, data.event, HORIZON),
        RmstGoalData("free", data.follow_up_days, data.event, HORIZON),
        MeasureGoalData("score", data.measured, "higher"),
    ]


def true_days_free() -> np.ndarray:
    """Mean days free of any event by the horizon under each option, from the simulation's constant hazards."""
    x = np.random.default_rng(0).normal(size=(200_000, 4))
    base = 0.0012 * np.exp(0.7 * x[:, 0] + 0.4 * x[:, 1])
    total = np.column_stack([base, base * np.exp(-0.5)]) + 0.0004 * np.exp(0.3 * x[:, [1]])
    return ((1 - np.exp(-total * HORIZON)) / total).mean(axis=0)


def true_differences(data) -> list[float]:
    return [float(t[1] - t[0]) for t in (data.true_risk, true_days_free(), data.true_mean)]


def jackknife_error(estimate: Callable[[np.ndarray], float], n: int) -> float:
    left_out = np.array([estimate(np.delete(np.arange(n), i)) for i in range(n)])
    return float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))


def test_with_one_binary_covariate_it_is_direct_standardisation() -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 2, 600)
    arm = (random.random(600) < np.where(x == 1, 0.8, 0.3)).astype(int)
    y = 3.0 * x + arm + random.normal(size=600)
    found = weighted_means(MeasureGoalData("y", y, "higher"), x[:, None].astype(float), arm)
    for a in (0, 1):
        by_hand = sum((x == k).mean() * y[(x == k) & (arm == a)].mean() for k in (0, 1))
        assert found.value[a] == pytest.approx(by_hand, abs=1e-6)


def test_plain_means_are_the_product_limit_curves_of_the_arms(simulate: Callable[..., object]) -> None:
    data = simulate(500, 2)
    event, free, measure = (plain_means(goal, data.arm) for goal in goals_of(data))
    for a in (0, 1):
        own = data.arm == a
        cut = np.minimum(data.follow_up_days[own], HORIZON)
        codes = np.where(data.follow_up_days[own] <= HORIZON, data.event[own], 0)
        assert event.value[a] == pytest.approx(aalen_johansen(cut, codes)[1][-1])
        assert measure.value[a] == pytest.approx(np.nanmean(data.measured[own]))
        from lifelines import KaplanMeierFitter
        from lifelines.utils import restricted_mean_survival_time

        curve = KaplanMeierFitter().fit(data.follow_up_days[own], data.event[own] > 0)
        assert free.value[a] == pytest.approx(restricted_mean_survival_time(curve, HORIZON), rel=1e-6)


def test_weighted_curve_is_that_of_lifelines() -> None:
    from lifelines import KaplanMeierFitter

    random = np.random.default_rng(3)
    days, event = np.ceil(random.exponential(50, 300)), random.integers(0, 2, 300)
    weight = random.random(300) * 3 + 0.1
    risk, _ = weighted_statistic(EventGoalData("e", days, event, 40.0), weight)
    with warnings.catch_warnings(action="ignore"):  # it says that its own variance is biased
        curve = KaplanMeierFitter().fit(days, event, weights=weight)
    assert risk == pytest.approx(1 - float(curve.predict(40.0)), abs=1e-9)


@pytest.mark.parametrize("kind", [EventGoalData, RmstGoalData])
def test_derivatives_by_weight_are_those_of_the_statistic(kind) -> None:
    random = np.random.default_rng(4)
    days, event = np.ceil(random.exponential(5, 80)), random.integers(0, 3, 80)  # many ties
    goal, weight = kind("e", days, event, 8.0), random.random(80) + 0.5
    value, by_weight = weighted_statistic(goal, weight)
    for row in range(80):
        more = weight.copy()
        more[row] += 1e-6
        assert (weighted_statistic(goal, more)[0] - value) / 1e-6 == pytest.approx(by_weight[row], rel=1e-3, abs=1e-5)
    assert weight @ by_weight == pytest.approx(0.0, abs=1e-9)  # all weights doubled change nothing


def test_interval_knows_that_the_weights_are_estimated(simulate: Callable[..., object]) -> None:
    data = simulate(250, 5, confounding=0.8)
    terms = data.covariates[:, :2]
    for goal in goals_of(data):

        def difference(rows: np.ndarray, goal: GoalData = goal) -> float:
            found = weighted_means(goal.take(rows), terms[rows], data.arm[rows])
            return float(found.value[1] - found.value[0])

        found = weighted_means(goal, terms, data.arm)
        error = standard_error(found.influence[:, 1] - found.influence[:, 0], data.subjects)
        assert error == pytest.approx(jackknife_error(difference, 250), rel=0.1)


def test_estimated_weights_make_a_trial_more_precise(simulate: Callable[..., object]) -> None:
    data = simulate(1500, 6)
    goal = goals_of(data)[2]
    adjusted = weighted_means(goal, data.covariates, data.arm).difference(1, 0, data.subjects)
    plain = plain_means(goal, data.arm).difference(1, 0, data.subjects)
    assert adjusted.high - adjusted.low < 0.9 * (plain.high - plain.low)


def test_intervals_cover_the_truth_about_95_times_in_100(simulate: Callable[..., object]) -> None:
    """25 studies, three goals: of 75 intervals 71 should hold the truth (SD 1.9)."""
    covered = 0
    for seed in range(25):
        data = simulate(500, 200 + seed, confounding=0.5)
        for goal, truth in zip(goals_of(data), true_differences(data), strict=True):
            found = weighted_means(goal, data.covariates, data.arm).difference(1, 0, data.subjects)
            covered += found.low <= truth <= found.high
    assert 66 <= covered <= 75


def test_confounding_is_removed_and_the_plain_difference_keeps_it(simulate: Callable[..., object]) -> None:
    data = simulate(8000, 7, confounding=1.0)
    for goal, truth in zip(goals_of(data), true_differences(data), strict=True):
        adjusted = weighted_means(goal, data.covariates, data.arm).difference(1, 0, data.subjects)
        plain = plain_means(goal, data.arm).difference(1, 0, data.subjects)
        assert adjusted.low <= truth <= adjusted.high
        assert not plain.low <= truth <= plain.high


def test_weighted_hazards_agree_with_weighted_curves(simulate: Callable[..., object]) -> None:
    data = simulate(2000, 8, confounding=0.8)
    for goal in (
        EventGoalData("any", data.follow_up_days, np.minimum(data.event, 1), HORIZON),
        RmstGoalData("free", data.follow_up_days, data.event, HORIZON),
    ):
        curves = weighted_means(goal, data.covariates, data.arm)
        hazards = weighted_hazard_means(goal, data.covariates, data.arm)
        assert hazards.value == pytest.approx(curves.value, rel=0.01)
        errors = [standard_error(m.influence[:, 1] - m.influence[:, 0], data.subjects) for m in (curves, hazards)]
        assert errors[1] == pytest.approx(errors[0], rel=0.05)
    with pytest.raises(InputError, match="competing"):
        weighted_hazard_means(goals_of(data)[0], data.covariates, data.arm)


def test_repeated_rows_of_a_subject_count_once(simulate: Callable[..., object]) -> None:
    data = simulate(300, 9, confounding=0.5)
    thrice = np.repeat(np.arange(300), 3)
    for goal in goals_of(data):
        once = weighted_means(goal, data.covariates, data.arm).difference(1, 0, data.subjects)
        again = weighted_means(goal.take(thrice), data.covariates[thrice], data.arm[thrice])
        repeated = again.difference(1, 0, data.subjects[thrice])
        assert (repeated.value, repeated.low) == pytest.approx((once.value, once.low), rel=1e-6)


def test_rows_in_no_arm_are_part_of_the_population() -> None:
    """Half of the people, all with x = 1, were given neither option: everybody's mean counts them."""
    random = np.random.default_rng(10)
    x = random.integers(0, 2, 4000)
    arm = np.where((x == 1) & (random.random(4000) < 0.7), -1, random.integers(0, 2, 4000))
    y = 10.0 * x + arm + random.normal(size=4000)
    found = weighted_means(MeasureGoalData("y", y, "higher"), x[:, None].astype(float), arm)
    assert found.value == pytest.approx([10 * x.mean(), 10 * x.mean() + 1], abs=0.2)
    assert y[arm == 0].mean() < 10 * x.mean() - 1  # the arm alone is not everybody


def test_an_arm_not_followed_to_the_horizon_is_refused() -> None:
    goal = EventGoalData("e", np.array([5.0, 6.0, 7.0, 40.0, 50.0, 60.0]), np.array([1, 0, 0, 1, 0, 0]), 50.0)
    with pytest.raises(InputError, match="shorten the horizon"):
        plain_means(goal, np.array([0, 0, 0, 1, 1, 1]))
