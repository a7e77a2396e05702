"""Regressions with influences: against scikit-learn, refits, person-period regressions and product-limit curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from careloop import InputError
from careloop.evaluate import aalen_johansen
from careloop.plan.effect.goals import EventGoalData, RmstGoalData
from careloop.plan.effect.parametric.regression import (
    cut_periods,
    expected_under,
    fit_linear,
    fit_logistic,
    fit_pooled_hazard,
    time_basis,
    with_constant,
)


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    return x, (random.random(n) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.0] + 0.3))).astype(float), random.random(n) + 0.5


def survival(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x, arm = random.normal(size=(n, 2)), random.integers(0, 2, n)
    event_day = random.exponential(80 * np.exp(-0.5 * x[:, 0] + 0.3 * arm))
    other_day, censored_day = random.exponential(200, n), random.uniform(20, 150, n)
    days = np.minimum(np.minimum(event_day, other_day), censored_day)
    event = np.where(days == censored_day, 0, np.where(days == event_day, 1, 2))
    return x, arm, np.ceil(days), event


def test_coefficients_are_those_of_scikit_learn() -> None:
    x, y, w = data(400, 1)
    logistic = fit_logistic(with_constant(x), y, w)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=w)
    assert logistic.coefficients[1:] == pytest.approx(reference.coef_[0], abs=1e-5)
    assert logistic.fitted == pytest.approx(reference.predict_proba(x)[:, 1], abs=1e-5)
    line = fit_linear(with_constant(x), x[:, 0] + y, w)
    assert line.coefficients[1:] == pytest.approx(LinearRegression().fit(x, x[:, 0] + y, w).coef_)


@pytest.mark.parametrize("fit", [fit_linear, fit_logistic])
def test_derivatives_by_weight_are_those_of_refitting(fit) -> None:
    x, y, w = data(60, 2)
    found = fit(with_constant(x), y, w)
    for row in (0, 17, 59):
        more = w.copy()
        more[row] += 1e-5
        moved = (fit(with_constant(x), y, more).coefficients - found.coefficients) / 1e-5
        assert moved == pytest.approx(found.by_weight[row], rel=1e-3, abs=1e-6)


def test_separated_target_is_refused_and_collinear_terms_are_not() -> None:
    x, y, w = data(100, 3)
    with pytest.raises(InputError, match="separate"):
        fit_logistic(with_constant(np.column_stack([x, y])), y, w)
    twice = fit_logistic(with_constant(np.column_stack([x, x[:, :1]])), y, w)
    assert twice.fitted == pytest.approx(fit_logistic(with_constant(x), y, w).fitted, abs=1e-6)


def test_periods_hold_follow_up_to_the_day() -> None:
    days = np.array([0.0, 10.0, 10.5, 25.0, 40.0, 31.0])
    periods = cut_periods(days, np.array([1, 1, 1, 0, 1, 0]), 30.0, count=3)
    assert periods.ended.tolist() == [0, 0, 1, 3, 3, 3]  # the last event comes after the horizon
    assert periods.exposed.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0.5], [1, 1, 1], [1, 1, 1]]


def test_hazards_are_those_of_a_regression_on_person_periods() -> None:
    x, arm, days, event = survival(150, 4)
    periods = cut_periods(days, event, 100.0, count=10)
    basis, weight = time_basis(periods, 2), np.random.default_rng(0).random(150) + 0.5
    model = fit_pooled_hazard(periods, x, arm, basis=basis, weight=weight)
    rows, months = np.nonzero(periods.exposed)
    in_arm = np.column_stack([(arm[rows] == a)[:, None] * basis[months] for a in (0, 1)])
    happened = periods.happened(1)[rows, months].astype(float)
    flat = fit_logistic(np.column_stack([x[rows], in_arm]), happened, weight[rows] * periods.exposed[rows, months])
    assert np.concatenate([model.slopes, model.courses.ravel()]) == pytest.approx(flat.coefficients, abs=1e-6)
    by_row = np.zeros_like(model.by_weight)
    np.add.at(by_row, rows, flat.by_weight * periods.exposed[rows, months][:, None])
    assert model.by_weight == pytest.approx(by_row, abs=1e-6)


def test_hazards_free_in_every_period_are_the_aalen_johansen_curve() -> None:
    """Without censoring inside a period and with one parameter a period the model is saturated."""
    random = np.random.default_rng(5)
    days, event = random.integers(1, 7, 500).astype(float), random.integers(0, 3, 500)
    arm = np.zeros(500, dtype=int)
    goal = EventGoalData("event", days, event, 6.0)
    periods = cut_periods(days, event, 6.0, count=6)
    basis, nothing = np.eye(6), np.empty((500, 0))
    outcome, competing = (
        fit_pooled_hazard(periods, nothing, arm, basis=basis, weight=np.ones(500), code=code) for code in (1, 2)
    )
    risk, _ = expected_under(goal, nothing[:1], 0, outcome=outcome, competing=competing)
    # In a period outcomes come before other events, so others are counted among those without an outcome: like ties
    # broken in that order.
    assert risk[0] == pytest.approx(aalen_johansen(days + 0.1 * (event == 2) + 0.2 * (event == 0), event)[1][-1])


@pytest.mark.parametrize("kind", [EventGoalData, RmstGoalData])
def test_expectation_moves_with_the_coefficients_as_stated(kind) -> None:
    x, arm, days, event = survival(200, 6)
    event = np.minimum(event, 1) if kind is RmstGoalData else event
    goal = kind("event", days, event, 100.0)
    periods = cut_periods(days, event, 100.0, count=12)
    basis = time_basis(periods, 2)
    models = [
        fit_pooled_hazard(periods, x, arm, basis=basis, weight=np.ones(200), code=c)
        for c in (1, 2)
        if (event == c).any()
    ]
    outcome, competing = models[0], models[1] if len(models) > 1 else None
    _, moments = expected_under(goal, x, 1, outcome=outcome, competing=competing)
    for which, moment in enumerate(moments):
        for k in (0, 3, 6):  # a slope, a course of the other arm, a course of this arm
            shifted = []
            for step in (-1e-5, 1e-5):
                moved = [_moved(model, k, step if i == which else 0.0) for i, model in enumerate(models)]
                shifted.append(
                    expected_under(goal, x, 1, outcome=moved[0], competing=moved[1] if competing is not None else None)[
                        0
                    ].sum()
                )
            assert (shifted[1] - shifted[0]) / 2e-5 == pytest.approx(moment[k], rel=1e-4, abs=1e-6)


def _moved(model, k: int, step: float):
    slopes, courses = model.slopes.copy(), model.courses.copy()
    if k < len(slopes):
        slopes[k] += step
    else:
        courses.ravel()[k - len(slopes)] += step
    return replace(model, slopes=slopes, courses=courses)


def test_an_arm_without_events_is_refused() -> None:
    x, arm, days, event = survival(100, 7)
    event = np.where(arm == 1, 0, np.minimum(event, 1))
    periods = cut_periods(days, event, 100.0, count=5)
    with pytest.raises(InputError, match="no finite coefficients"):
        fit_pooled_hazard(periods, x, arm, basis=time_basis(periods, 1), weight=np.ones(100))
