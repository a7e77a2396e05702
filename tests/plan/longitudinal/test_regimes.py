"""Repeated treatment: the three estimators against closed forms and simple cases; regression for contrast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate import kaplan_meier
from careloop.plan.longitudinal.courses import Courses, fit_chances, prescribed, regime_weights
from careloop.plan.longitudinal.regimes import Method, marginal_structural_model, regime_effects

METHODS: tuple[Method, ...] = ("g_computation", "weighting", "doubly_robust")
REGIMES = {"never": (0, 0, 0), "always": (1, 1, 1)}
ALWAYS = -1.6375  # 3 x -0.4 + 0.5 x (-0.5 - 0.25 - 0.125): see `linear`


def linear(n: int, seed: int, given: Any = None) -> Courses:
    """Three treatments that lower the next covariate by 0.5, with an unseen cause behind covariates and outcome."""
    random = np.random.default_rng(seed)
    cause = random.normal(size=n)
    covariate = 0.7 * cause + random.normal(size=n)
    covariates, treatments = [], []
    for t in range(3):
        covariates.append(covariate)
        natural = random.random(n) < 1 / (1 + np.exp(-0.2 - 0.4 * covariate))
        treatments.append(natural.astype(float) if given is None else given(t, covariate[:, None], natural))
        covariate = 0.5 * covariate - 0.5 * treatments[t] + 0.7 * cause + random.normal(size=n)
    treatment = np.column_stack(treatments)
    outcome = cause + 0.5 * covariate - 0.4 * treatment.sum(axis=1) + random.normal(size=n)
    return Courses(np.stack(covariates, axis=1)[:, :, None], treatment, outcome, "continuous")


def when_high(time: int, covariates: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    return (covariates[:, 0] > 0).astype(float)


@pytest.fixture(scope="module")
def courses() -> Courses:
    return linear(8000, 1)


@pytest.mark.parametrize("method", METHODS)
def test_feedback_is_handled_where_regression_fails(courses: Courses, method: Method) -> None:
    effect = regime_effects(courses, REGIMES, method=method, resamples=40).contrasts[0].difference
    assert effect.value == pytest.approx(ALWAYS, abs=0.25)
    assert effect.low < ALWAYS < effect.high
    columns = np.column_stack([np.ones(len(courses)), courses.treatment, courses.covariates[:, :, 0]])
    adjusted = np.linalg.lstsq(columns, courses.outcome, rcond=None)[0][1:4].sum()
    unadjusted = np.linalg.lstsq(columns[:, :4], courses.outcome, rcond=None)[0][1:4].sum()
    assert abs(adjusted - ALWAYS) > 0.25
    assert abs(unadjusted - ALWAYS) > 0.25


@pytest.mark.parametrize("method", METHODS)
def test_a_rule_that_looks_at_the_patient(courses: Courses, method: Method) -> None:
    truth = linear(300_000, 2, when_high).outcome.mean()
    found = regime_effects(courses, {"when high": when_high}, method=method, resamples=40).regimes[0]
    assert found.mean.value == pytest.approx(truth, abs=0.08)
    assert found.followers > found.effective_sample > 50


def test_the_marginal_structural_model_has_the_average_slope(courses: Courses) -> None:
    model = marginal_structural_model(courses, resamples=40)
    assert model.per_treated_time.value == pytest.approx(ALWAYS / 3, abs=0.1)
    assert model.per_treated_time.low < ALWAYS / 3 < model.per_treated_time.high
    assert model.effective_sample < len(courses)


def survival(n: int, seed: int, *, lost: float) -> Courses:
    """Treatment randomised once and kept; those whose follow-up is lost are lost by chance."""
    random = np.random.default_rng(seed)
    given, frailty = random.integers(0, 2, n), random.normal(size=n)
    outcome, free = np.full((n, 3), np.nan), np.ones(n, dtype=bool)
    for t in range(3):
        free &= random.random(n) >= lost
        event = random.random(n) < 1 / (1 + np.exp(2 + 0.8 * given - frailty))
        outcome[free, t] = event[free]
        free &= ~event
    alive = np.hstack([np.ones((n, 1), dtype=bool), outcome[:, :-1] == 0])
    known = np.where(alive, frailty[:, None], np.nan)[:, :, None]
    return Courses(known, np.tile(given[:, None], 3).astype(float), outcome, "survival")


@pytest.mark.parametrize("method", METHODS)
def test_a_randomised_trial_agrees_with_kaplan_meier(method: Method) -> None:
    courses = survival(6000, 1, lost=0.1)
    found = regime_effects(courses, REGIMES, method=method, resamples=30)
    last = np.where((courses.outcome == 1).any(axis=1), 1, 0)
    days = np.isfinite(courses.outcome).sum(axis=1) + np.where(last, 0.0, 0.5)
    for arm, regime in enumerate(found.regimes):
        rows = courses.treatment[:, 0] == arm
        times, free = kaplan_meier(days[rows], last[rows])
        assert regime.mean.value == pytest.approx(1 - free[times <= 3][-1], abs=0.02)
        assert regime.mean.low < regime.mean.value < regime.mean.high


def test_a_binary_end_outcome_stays_a_probability() -> None:
    courses = linear(4000, 3)
    binary = Courses(courses.covariates, courses.treatment, (courses.outcome > 0).astype(float), "binary")
    for method in METHODS:
        means = regime_effects(binary, REGIMES, method=method, resamples=20).regimes
        assert 0 < means[1].mean.value < means[0].mean.value < 1


def test_loss_that_depends_on_the_past_is_weighted_for() -> None:
    courses = linear(8000, 5)
    lost = np.random.default_rng(0).random(8000) < 1 / (1 + np.exp(1 - courses.covariates[:, 2, 0]))
    outcome = np.where(lost, np.nan, courses.outcome)
    partly = Courses(courses.covariates, courses.treatment, outcome, "continuous")
    whole = regime_effects(courses, {"when high": when_high}).regimes[0].mean
    for method in METHODS:
        found = regime_effects(partly, {"when high": when_high}, method=method, resamples=20).regimes[0].mean
        assert found.value == pytest.approx(whole.value, abs=0.12)


def test_weights_of_all_courses_add_up_to_all(courses: Courses) -> None:
    chances = fit_chances(courses, np.ones(len(courses)))
    total = sum(
        regime_weights(courses, prescribed(courses, regime), chances)[:, -1].sum() for regime in np.ndindex(2, 2, 2)
    )
    assert total == pytest.approx(8 * len(courses), rel=0.05)


def test_without_followers_there_is_no_estimate() -> None:
    found = regime_effects(linear(300, 1), REGIMES)
    assert found.regimes[0].mean.value is None
    assert "count as only" in found.contrasts[0].difference.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outcome": np.zeros((5, 3))}, "must be"),
        ({"treatment": np.full((5, 3), 2.0)}, "0 or 1"),
        ({"covariates": np.full((5, 3, 1), np.nan)}, "first time must be known"),
    ],
)
def test_wrong_courses_are_told(change: dict[str, np.ndarray], words: str) -> None:
    arrays = {"covariates": np.zeros((5, 3, 1)), "treatment": np.zeros((5, 3)), "outcome": np.zeros(5)} | change
    with pytest.raises(InputError, match=words):
        Courses(**arrays, kind="continuous")


def test_a_fixed_regime_has_one_treatment_a_time(courses: Courses) -> None:
    with pytest.raises(InputError, match="one 0 or 1 for each of the 3 times"):
        regime_effects(courses, {"short": (1, 1)})
