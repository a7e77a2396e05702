"""Heterogeneity: found where it is, not claimed where it is not, and AUTOC against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.plan.effect.doubly_robust import cross_fit_propensity, cross_fit_scores
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.heterogeneity import Heterogeneity, autoc, heterogeneity, individual_effects
from careloop.plan.effect.nuisance import subject_folds

OPTIONS = ("control", "drug")


def judged(n: int, seed: int, slope: float) -> tuple[Heterogeneity, np.ndarray, np.ndarray]:
    """A randomised drug whose effect is 1 + slope * x0: the judgement, estimated and true effects."""
    random = np.random.default_rng(seed)
    x, arm = random.normal(size=(n, 5)), random.integers(0, 2, n)
    goal = MeasureGoalData("score", x[:, 1] + arm * (1 + slope * x[:, 0]) + random.normal(size=n), "higher")
    subjects = np.arange(n)
    fold = subject_folds(subjects, 4, 0)
    propensity = cross_fit_propensity(x, arm, 2, fold=fold, assignment="randomised")
    scores = cross_fit_scores(x, arm, goal, subjects=subjects, propensity=propensity, fold=fold)
    effects = individual_effects(x, scores, goal, fold=fold, assignment="randomised")
    return heterogeneity(effects, scores, options=OPTIONS, pair=(1, 0), fold=fold), effects[:, 1], 1 + slope * x[:, 0]


def test_effects_that_differ_are_found() -> None:
    found, estimated, true = judged(2_000, 1, 1.0)
    assert found.shown
    assert found.rate.low > 0.5  # treating the highest x0 first: E = mean of a normal's upper tails, about 0.9
    assert found.slope.low > 0.7
    assert np.corrcoef(estimated, true)[0, 1] > 0.9
    means = [group.found.value for group in found.groups]
    assert means == sorted(means)
    assert found.extremes.low > 2.0  # truth: 2 * 1.4
    assert sum(group.patients for group in found.groups) == 2_000


def test_a_spread_of_estimates_is_no_evidence() -> None:
    shown = 0
    for seed in range(5):
        found, estimated, _ = judged(500, 10 + seed, 0.0)
        shown += found.shown
        assert found.spread == pytest.approx(estimated.std())
        assert "not shown" in found.words or found.shown or found.rate.value is None
    assert shown <= 1


def test_autoc_of_perfect_order_is_its_closed_form() -> None:
    """Effects uniform on 0 to 1, treated from the largest: TOC(q) = (1 - q) / 2, AUTOC = 1 / 4."""
    effect = np.random.default_rng(0).random(200_000)
    # Averaged from 2 % on: the mean of (1 - q) / 2 over 0.02 to 1.
    assert autoc(effect, effect, np.ones(len(effect))) == pytest.approx(0.245, abs=0.002)
    assert autoc(-effect, effect, np.ones(len(effect))) == pytest.approx(-0.245, abs=0.002)


@given(st.integers(0, 1000), st.floats(-5, 5))
def test_autoc_ignores_a_shift_of_all_effects(seed: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    priority, found = random.normal(size=(2, 100))
    ones = np.ones(100)
    assert autoc(priority, found + shift, ones) == pytest.approx(autoc(priority, found, ones), abs=1e-9)
