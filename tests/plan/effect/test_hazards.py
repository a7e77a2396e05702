"""Hazards agree with Kaplan-Meier and scikit-survival, and use covariates only where these tell something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.plan.effect.hazards import _Leaving, _ridge, _trees, fit_hazard


def _leaving(random: np.random.Generator, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days rounded up, so that there are ties, and whether the row left before day 500 or an end of its own."""
    days, end = random.exponential(300 / rate), np.minimum(random.exponential(600, len(rate)), 500)
    return np.ceil(np.minimum(days, end) / 5) * 5, days <= end


@given(seed=st.integers(0, 2**20), n=st.integers(2, 80))
@settings(max_examples=40, deadline=None)
def test_without_covariates_the_curve_is_kaplan_meiers(seed: int, n: int) -> None:
    from lifelines import KaplanMeierFitter

    days, happened = _leaving(np.random.default_rng(seed), np.ones(n))
    hazard = fit_hazard(np.empty((n, 0)), days, happened)
    asked = np.array([0.0, 50, 123, 480])
    expected = KaplanMeierFitter().fit(days, happened).predict(asked).to_numpy()
    np.testing.assert_allclose(np.exp(hazard.log_baseline_at(asked)), expected, atol=2e-6)
    assert (np.diff(hazard.log_baseline) < 0).all()


def test_a_jump_counts_from_its_day_on_and_not_before() -> None:
    hazard = fit_hazard(np.empty((4, 0)), np.array([10.0, 20, 20, 30]), np.array([True, True, False, False]))
    np.testing.assert_allclose(np.exp(hazard.log_baseline_before(np.array([10.0, 20, 25]))), [1, 3 / 4, 1 / 2])
    np.testing.assert_allclose(np.exp(hazard.log_baseline_at(np.array([9.0, 10, 20]))), [1, 3 / 4, 1 / 2])


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_lines_are_those_of_scikit_survival_under_the_same_penalty(strength: float) -> None:
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4))
    days, happened = _leaving(random, np.exp(x @ [0.8, -0.4, 0.2, 0.0]))
    fitted = CoxPHSurvivalAnalysis(alpha=strength, ties="breslow").fit(x, Surv.from_arrays(happened, days))
    slopes = _ridge(strength)(x, _Leaving.of(days, happened))(np.eye(4))
    np.testing.assert_allclose(slopes, fitted.coef_, atol=2e-3)


def test_where_covariates_tell_nothing_hazards_hardly_differ() -> None:
    spreads = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        x = random.normal(size=(400, 6))
        spreads.append(np.log(fit_hazard(x, *_leaving(random, np.ones(400))).relative(x)).std())
    assert np.median(spreads) < 0.05
    assert max(spreads) < 0.3


def test_lines_and_trees_are_taken_where_they_predict_better() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(1500, 4))
    for shape in (0.7 * x[:, 0] - 0.4 * x[:, 1], np.where(np.abs(x[:, 0]) > 1, 1.2, -0.4)):
        hazard = fit_hazard(x, *_leaving(random, np.exp(shape)))
        assert np.corrcoef(np.log(hazard.relative(x)), shape)[0, 1] > 0.85  # a line has none with the bent shape


def test_trees_read_relative_hazards_from_ties_and_short_follow_up() -> None:
    random = np.random.default_rng(2)
    x = random.integers(0, 2, size=(4000, 1)).astype(float)
    line = _trees(x, _Leaving.of(*_leaving(random, np.exp(0.7 * x[:, 0]))))
    low, high = line(np.array([[0.0], [1.0]]))
    assert high - low == pytest.approx(0.7, abs=0.12)


def test_with_hardly_any_leaving_everybody_is_alike() -> None:
    x = np.random.default_rng(3).normal(size=(100, 2))
    happened = np.zeros(100, bool)
    happened[:3] = True
    np.testing.assert_array_equal(fit_hazard(x, np.arange(100.0), happened).relative(x), 1.0)
    np.testing.assert_array_equal(fit_hazard(x, np.arange(100.0), ~happened & False).log_baseline, [0.0])
