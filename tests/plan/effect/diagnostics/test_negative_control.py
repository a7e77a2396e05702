"""Negative controls and the placebo arm: nothing is found where nothing is, and confounding that is left is."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.negative_control import (
    ControlEffect,
    control_effects,
    placebo_arm,
    systematic_error,
)
from careloop.plan.effect.doubly_robust import Scores, cross_fit_propensity, cross_fit_scores
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import subject_folds

OPTIONS = ("control", "drug")


def observed(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Covariate x and hidden u, both of which drive the choice of the drug."""
    random = np.random.default_rng(seed)
    x, u = random.normal(size=(2, n))
    arm = (random.random(n) < 1 / (1 + np.exp(-(0.7 * x + 0.9 * u)))).astype(int)
    return x, u, arm, random


def scores_for(covariates: np.ndarray, arm: np.ndarray, goal: MeasureGoalData) -> Scores:
    subjects = np.arange(len(arm))
    fold = subject_folds(subjects, 3, 0)
    propensity = cross_fit_propensity(covariates, arm, 2, fold=fold, assignment="observed")
    return cross_fit_scores(covariates, arm, goal, subjects=subjects, propensity=propensity, fold=fold)


def test_negative_control_tells_whether_confounding_is_left() -> None:
    x, u, arm, random = observed(3_000, 1)
    goal = MeasureGoalData("control", x + u + random.normal(size=3_000), "higher")
    without, with_it = x[:, None], np.column_stack([x, u])
    biased = control_effects([(goal, scores_for(without, arm, goal))], OPTIONS, reference="control")
    right = control_effects([(goal, scores_for(with_it, arm, goal))], OPTIONS, reference="control")
    assert [effect.null for effect in (*biased, *right)] == [False, True]
    assert biased[0].difference.value > 0.5
    assert (biased[0].option, biased[0].versus) == ("drug", "control")


def control(value: float, error: float) -> ControlEffect:
    estimate = Estimate(value, value - 1.959963984540054 * error, value + 1.959963984540054 * error)
    return ControlEffect("c", "drug", "control", estimate, estimate, abs(value) < 1.96 * error)


def test_systematic_error_is_recovered_and_widens_the_interval() -> None:
    """Errors drawn from a known distribution: 200 controls, mean 0.3 and deviation 0.2 beside chance."""
    random = np.random.default_rng(2)
    noise = random.uniform(0.05, 0.3, 200)
    values = random.normal(0.3, 0.2, 200) + random.normal(size=200) * noise
    found = systematic_error([control(v, e) for v, e in zip(values, noise, strict=True)])
    assert found is not None
    assert found.mean == pytest.approx(0.3, abs=0.04)
    assert found.deviation == pytest.approx(0.2, abs=0.04)
    calibrated = found.calibrate(1.0, 0.1)
    assert calibrated.value == pytest.approx(1.0 - found.mean)
    assert calibrated.high - calibrated.value == pytest.approx(1.96 * np.hypot(0.1, found.deviation), rel=1e-3)


def test_without_systematic_error_next_to_nothing_is_added_and_few_controls_say_nothing() -> None:
    random = np.random.default_rng(3)
    found = systematic_error([control(v, 0.1) for v in random.normal(0, 0.1, 50)])
    assert found is not None
    assert abs(found.mean) < 0.04
    assert found.deviation < 0.05
    assert systematic_error([control(0.0, 0.1)] * 4) is None


def test_placebo_arm_finds_nothing_although_the_arms_differ() -> None:
    x, u, arm, random = observed(1_500, 4)
    covariates = np.column_stack([x, u])
    goal = MeasureGoalData("score", x + u + 2.0 * arm + random.normal(size=1_500), "higher")
    scores = scores_for(covariates, arm, goal)
    placebo = placebo_arm(covariates, scores, goal, options=OPTIONS, pair=(1, 0), folds=3)
    assert placebo.null
    assert placebo.draws == 5
    assert placebo.difference.low < 0 < placebo.difference.high


def test_a_reference_arm_too_small_for_a_placebo_says_so() -> None:
    x, _, arm, random = observed(60, 5)
    goal = MeasureGoalData("score", random.normal(size=60), "higher")
    placebo = placebo_arm(x[:, None], scores_for(x[:, None], arm, goal), goal, options=OPTIONS, pair=(1, 0), folds=2)
    assert placebo.difference.value is None
    assert "fewer than 50" in placebo.difference.reason
