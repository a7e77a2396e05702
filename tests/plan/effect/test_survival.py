"""Completed outcomes agree with lifelines, closed forms and known truth, also where censoring depends on covariates."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.plan.effect import survival
from careloop.plan.effect.goals import EventGoalData, RmstGoalData, shortfall
from careloop.plan.effect.hazards import Hazard
from careloop.plan.effect.survival import SurvivalModel, fit_survival, plain_estimate

HORIZON = 400.0


def _goal(seed: int, n: int = 300) -> EventGoalData:
    random = np.random.default_rng(seed)
    event, competing, censored = (random.exponential(scale, n) for scale in (900, 1500, 700))
    follow_up = np.minimum(np.minimum(event, competing), censored)
    kind = np.where(censored <= follow_up, 0, np.where(event <= competing, 1, 2))
    return EventGoalData("outcome", np.ceil(follow_up / 5) * 5, kind, HORIZON)


def _days(goal: EventGoalData) -> RmstGoalData:
    return RmstGoalData("days", goal.follow_up_days, goal.event, goal.horizon_days)


def _nothing(n: int) -> np.ndarray:
    return np.empty((n, 0))


def test_plain_risk_equals_aalen_johansen_of_lifelines_with_its_standard_error() -> None:
    from lifelines import AalenJohansenFitter

    goal = _goal(0)
    # lifelines breaks ties at random: without ties both are the same estimator
    goal = EventGoalData("outcome", goal.follow_up_days + np.linspace(0, 1, 300), goal.event, HORIZON)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = AalenJohansenFitter(calculate_variance=True).fit(goal.follow_up_days, goal.event, 1)
    risk, influence = plain_estimate(goal)
    assert risk == pytest.approx(fitted.cumulative_density_.loc[:HORIZON].iloc[-1].item(), abs=1e-12)
    error = np.sqrt(fitted.variance_.loc[:HORIZON].iloc[-1].item())
    assert np.sqrt((influence**2).sum()) == pytest.approx(error, rel=0.02)


def test_plain_days_free_equal_lifelines_with_the_textbook_standard_error() -> None:
    """Variance: sum over event times of (area still to come)^2 d / (n (n - d)) (Klein & Moeschberger 2003, 4.5)."""
    from lifelines import KaplanMeierFitter
    from lifelines.utils import restricted_mean_survival_time

    goal = _days(_goal(1))
    fitted = KaplanMeierFitter().fit(goal.follow_up_days, goal.event > 0)
    days, influence = plain_estimate(goal)
    assert days == pytest.approx(restricted_mean_survival_time(fitted, t=HORIZON), rel=1e-9)
    table = fitted.event_table.loc[1:HORIZON]
    times = np.append(table.index.to_numpy(), HORIZON)
    free = fitted.predict(times[:-1]).to_numpy()
    to_come = (free * np.diff(times))[::-1].cumsum()[::-1]
    variance = (to_come**2 * table.observed / (table.at_risk * (table.at_risk - table.observed))).sum()
    assert np.sqrt((influence**2).sum()) == pytest.approx(np.sqrt(variance), rel=0.01)


@given(seed=st.integers(0, 2**20), n=st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_mean_completed_values_equal_the_plain_estimates(seed: int, n: int) -> None:
    goal = _goal(seed, n)
    if shortfall(goal):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survival, "GRID_POINTS", 10_000)
        patch.setattr(survival, "CENSORING_FLOOR", 1e-9)
        for asked, tolerance in ((goal, 1e-3), (_days(goal), 0.5)):
            completed = fit_survival(_nothing(n), asked).complete(_nothing(n), asked)
            assert completed.mean() == pytest.approx(plain_estimate(asked)[0], abs=tolerance)


@given(
    rows=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 2)), min_size=1, max_size=60),
    horizon=st.integers(1, 500),
)
@settings(max_examples=60, deadline=None)
def test_completed_values_are_the_values_where_nothing_is_censored(rows: list[tuple[int, int]], horizon: int) -> None:
    days = np.array([day for day, _ in rows], float)
    event = np.where(days < horizon, np.maximum([kind for _, kind in rows], 1), [kind for _, kind in rows])
    x = np.linspace(-1, 1, len(rows))[:, None]
    for goal in (EventGoalData("o", days, event, float(horizon)), RmstGoalData("d", days, event, float(horizon))):
        completed = fit_survival(x, goal).complete(x, goal)
        np.testing.assert_allclose(completed, goal.value, atol=1e-9)


def _constant(rate: float, slope: float) -> Hazard:
    """Daily hazard rate * exp(slope * x0), in jumps a quarter of a day apart."""
    times = np.arange(1, 4 * int(HORIZON) + 1) / 4
    return Hazard(times, -rate * np.append(0.0, times), lambda x: np.exp(slope * x[:, 0]))


def test_expectations_equal_the_closed_forms_of_constant_hazards() -> None:
    x = np.array([[-1.0], [0.0], [1.5]])
    model = SurvivalModel(_constant(0.002, 0.8), _constant(0.001, -0.5), _constant(0.001, 0.0))
    outcome, total = 0.002 * np.exp(0.8 * x[:, 0]), 0.002 * np.exp(0.8 * x[:, 0]) + 0.001 * np.exp(-0.5 * x[:, 0])
    goal = _goal(0)
    risk = outcome / total * (1 - np.exp(-total * HORIZON))
    np.testing.assert_allclose(model.expected(x, goal), risk, rtol=2e-3)
    np.testing.assert_allclose(model.expected(x, _days(goal)), (1 - np.exp(-total * HORIZON)) / total, rtol=2e-3)
    halfway = model.course(x, HORIZON)
    place = int(np.abs(halfway.days - 200).argmin())
    left = HORIZON - halfway.days[place]
    risk_left = outcome / total * (1 - np.exp(-total * left))
    np.testing.assert_allclose(halfway.expectation(goal)[:, place], risk_left, rtol=2e-3)


def _informative(seed: int, n: int) -> tuple[np.ndarray, EventGoalData, float, float]:
    """Sicker patients are lost sooner: covariates, the goal, true risk and true days free."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    rate, loss = 0.002 * np.exp(0.8 * x[:, 0] + 0.4 * x[:, 1]), 0.0015 * np.exp(1.0 * x[:, 0])
    days, lost = random.exponential(1 / rate), random.exponential(1 / loss)
    goal = EventGoalData("outcome", np.ceil(np.minimum(days, lost)), (days <= lost).astype(int), HORIZON)
    population = 0.002 * np.exp(0.8 * x[:, 0] + 0.4 * x[:, 1])
    free = (1 - np.exp(-population * HORIZON)) / population
    return x, goal, float(1 - np.exp(-population * HORIZON).mean()), float(free.mean())


def test_censoring_by_covariates_is_made_up_for_where_kaplan_meier_is_biased() -> None:
    x, goal, risk, days = _informative(0, 12_000)
    half = np.arange(12_000) % 2 == 0
    for asked, truth in ((goal, risk), (_days(goal), days)):
        plain, influence = plain_estimate(asked)
        assert abs(plain - truth) > 5 * np.sqrt((influence**2).sum())
        completed = np.empty(12_000)
        for rows in (half, ~half):
            model = fit_survival(x[~rows], asked.take(np.flatnonzero(~rows)))
            completed[rows] = model.complete(x[rows], asked.take(np.flatnonzero(rows)))
        error = completed.std() / np.sqrt(12_000)
        assert abs(completed.mean() - truth) < 3 * error


@pytest.mark.parametrize("wrong", ["censoring", "outcome"])
def test_completed_values_are_right_on_average_if_either_the_censoring_or_the_course_is(wrong: str) -> None:
    x, goal, risk, days = _informative(1, 20_000)
    right = {"censoring": _constant(0.0015, 1.0), "outcome": _constant(0.002, 0.8)}
    # The right hazard of the outcome also has x1; wrong ones know no covariates and are half or twice as high.
    right["outcome"] = Hazard(
        right["outcome"].times, right["outcome"].log_baseline, lambda rows: np.exp(0.8 * rows[:, 0] + 0.4 * rows[:, 1])
    )
    none = Hazard(np.empty(0), np.zeros(1), lambda rows: np.ones(len(rows)))
    hazards = {**right, "censoring" if wrong == "censoring" else "outcome": _constant(0.001, 0.0)}
    one_wrong = SurvivalModel(hazards["outcome"], none, hazards["censoring"])
    both_wrong = SurvivalModel(_constant(0.001, 0.0), none, _constant(0.001, 0.0))
    for asked, truth in ((goal, risk), (_days(goal), days)):
        completed = one_wrong.complete(x, asked)
        error = completed.std() / np.sqrt(len(x))
        assert abs(completed.mean() - truth) < 4 * error
        assert abs(both_wrong.complete(x, asked).mean() - truth) > 5 * error
