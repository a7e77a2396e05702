"""Completed outcomes agree with Aalen-Johansen and Kaplan-Meier by lifelines, and are right on average."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.plan.effect import goals
from careloop.plan.effect.goals import (
    EventGoalData,
    MeasureGoalData,
    complete_event,
    complete_measure,
    known_weights,
    plain_estimate,
    require_told,
)


def _goal(seed: int, n: int = 300) -> EventGoalData:
    random = np.random.default_rng(seed)
    event, competing, censored = (random.exponential(scale, n) for scale in (900, 1500, 700))
    follow_up = np.minimum(np.minimum(event, competing), censored)
    kind = np.where(censored <= follow_up, 0, np.where(event <= competing, 1, 2))
    return EventGoalData("outcome", np.ceil(follow_up / 5) * 5, kind, 400.0)


def test_plain_risk_equals_aalen_johansen_of_lifelines_with_its_standard_error() -> None:
    from lifelines import AalenJohansenFitter

    goal = _goal(0)
    # lifelines breaks ties at random: without ties both are the same estimator
    goal = EventGoalData("outcome", goal.follow_up_days + np.linspace(0, 1, 300), goal.event, 400.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = AalenJohansenFitter(calculate_variance=True).fit(goal.follow_up_days, goal.event, 1)
    risk, influence = plain_estimate(goal)
    assert risk == pytest.approx(fitted.cumulative_density_.loc[:400.0].iloc[-1].item(), abs=1e-12)
    error = np.sqrt(fitted.variance_.loc[:400.0].iloc[-1].item())
    assert np.sqrt((influence**2).sum()) == pytest.approx(error, rel=0.02)


def test_plain_risk_without_competing_events_equals_kaplan_meier_with_greenwoods_error() -> None:
    from lifelines import KaplanMeierFitter

    goal = _goal(1)
    goal = EventGoalData("outcome", goal.follow_up_days, (goal.event > 0).astype(int), 400.0)
    fitted = KaplanMeierFitter().fit(goal.follow_up_days, goal.event)
    table = fitted.event_table.loc[:400.0]
    greenwood = (table.observed / (table.at_risk * (table.at_risk - table.observed))).sum()
    risk, influence = plain_estimate(goal)
    assert risk == pytest.approx(1 - fitted.predict(400.0), abs=1e-12)
    assert np.sqrt((influence**2).sum()) == pytest.approx(fitted.predict(400.0) * np.sqrt(greenwood), rel=0.01)


@given(seed=st.integers(0, 2**20), n=st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_mean_completed_outcome_and_weighted_events_equal_aalen_johansen(seed: int, n: int) -> None:
    goal = _goal(seed, n)
    if goals.shortfall(goal):
        return
    risk = plain_estimate(goal)[0]
    assert (known_weights(goal, np.zeros(n, int)) * goal.value).mean() == pytest.approx(risk, abs=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goals, "GRID_POINTS", 10_000)
        assert complete_event(goal, np.full(n, risk)).mean() == pytest.approx(risk, abs=1e-9)


def test_completed_outcome_is_the_outcome_itself_without_censoring() -> None:
    goal = EventGoalData("outcome", np.array([10.0, 20, 400, 500, 30]), np.array([1, 2, 0, 1, 1]), 400.0)
    np.testing.assert_array_equal(complete_event(goal, np.full(5, 0.3)), [1, 0, 0, 0, 1])


def test_completing_uses_covariates_but_keeps_the_mean_even_with_a_wrong_working_model(
    simulate: Callable[..., object],
) -> None:
    data = simulate(40_000, 1)
    rows = data.arm == 0
    goal = EventGoalData("outcome", data.follow_up_days[rows], data.event[rows], 365.0)
    right = complete_event(goal, data.expected_risk[rows, 0])
    wrong = complete_event(goal, np.random.default_rng(0).uniform(0.05, 0.95, rows.sum()))
    error = right.std() / np.sqrt(rows.sum())
    assert right.mean() == pytest.approx(data.true_risk[0], abs=4 * error)
    assert wrong.mean() == pytest.approx(data.true_risk[0], abs=5 * error)
    ignorant = complete_event(goal, np.full(rows.sum(), data.true_risk[0]))
    assert ((right - data.expected_risk[rows, 0]) ** 2).mean() < ((ignorant - data.expected_risk[rows, 0]) ** 2).mean()


def test_completed_measure_is_right_if_either_part_is() -> None:
    random = np.random.default_rng(0)
    n = 200_000
    x = random.normal(size=n)
    probability = 1 / (1 + np.exp(-x))
    value = 3 + 2 * x + random.normal(size=n)
    goal = MeasureGoalData("score", np.where(random.random(n) < probability, value, np.nan), "higher")
    assert np.nanmean(goal.measured) > 3.5  # those measured differ
    wrong_model = complete_measure(goal, np.zeros(n), probability)
    wrong_probability = complete_measure(goal, 3 + 2 * x, np.full(n, 0.5))
    assert wrong_model.mean() == pytest.approx(3, abs=0.1)
    assert wrong_probability.mean() == pytest.approx(3, abs=0.05)


def test_an_arm_that_cannot_tell_is_named() -> None:
    arm = np.array([0, 0, 1, 1])
    short = EventGoalData("outcome", np.array([500.0, 500, 100, 200]), np.array([0, 0, 1, 0]), 365.0)
    with pytest.raises(InputError, match=r"in 'drug' all follow-up ends by day 200.*shorten outcome.horizon_days"):
        require_told(short, arm, ("control", "drug"))
    missing = MeasureGoalData("score", np.array([1.0, 2, np.nan, np.nan]), "higher")
    with pytest.raises(InputError, match="in 'drug' measure 'score' was taken of none"):
        require_told(missing, arm, ("control", "drug"))
