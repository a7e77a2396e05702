"""The DR-learner: one effect where there is one, lines and bends where there are, rows weighted by what they tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.plan.effect.doubly_robust import Scores
from careloop.plan.effect.individual.dr_learner import FEWEST_TO_STACK, convex_shares, dr_learner, stacked


def scores_of(difference: np.ndarray, propensity: np.ndarray, subjects: np.ndarray | None = None) -> Scores:
    n = len(difference)
    value, given = np.column_stack([np.zeros(n), difference]), np.column_stack([1.0 - propensity, propensity])
    who = np.arange(n) if subjects is None else subjects
    return Scores(value, value, given, difference, np.zeros(n, int), who)


def test_one_effect_for_all_stays_nearly_one() -> None:
    """Ten covariates of noise: the ridge alone would spread estimates by sqrt(10 / 500) = 0.14 deviations of noise."""
    spreads = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x, difference = random.normal(size=(500, 10)), 2.0 + random.normal(size=500)
        estimated = dr_learner(x, scores_of(difference, np.full(500, 0.5)), 1)(x)
        assert estimated.mean() == pytest.approx(2.0, abs=0.2)
        spreads.append(estimated.std())
    assert np.mean(spreads) < 0.07


@pytest.mark.parametrize("shape", [lambda x: x[:, 0], lambda x: np.abs(x[:, 0]), lambda x: 2.0 * (x[:, 0] > 0.5)])
def test_lines_bends_and_steps_are_followed(shape) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(1_500, 4))
    true = shape(x)
    estimated = dr_learner(x, scores_of(true + random.normal(size=1_500), np.full(1_500, 0.5)), 1)
    fresh = random.normal(size=(1_000, 4))
    assert np.sqrt(((estimated(fresh) - shape(fresh)) ** 2).mean()) < 0.35 * true.std()


def test_rows_count_by_the_inverse_of_their_variance() -> None:
    """Where the option was given to 2 %, scores are seven times as spread: weighted, they cost little."""
    weighted, plain = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        x = random.normal(size=(400, 3))
        propensity = np.where(random.random(400) < 0.3, 0.02, 0.5)
        noise = random.normal(size=400) * np.sqrt(1.0 / propensity + 1.0 / (1.0 - propensity))
        scores = scores_of(1.0 + x[:, 0] + noise, propensity)
        weighted.append(((dr_learner(x, scores, 1)(x) - 1.0 - x[:, 0]) ** 2).mean())
        same = stacked(x, scores.value[:, 1], np.ones(400), subjects=scores.subjects)
        plain.append(((same(x) - 1.0 - x[:, 0]) ** 2).mean())
    assert np.mean(weighted) < 0.5 * np.mean(plain)


def test_few_patients_get_one_effect() -> None:
    """Rows do not make patients: many rows of few subjects are few."""
    n = 10 * (FEWEST_TO_STACK - 1)
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 2))
    difference, propensity = x[:, 0], random.uniform(0.2, 0.8, n)
    estimated = dr_learner(x, scores_of(difference, propensity, np.arange(n) // 10), 1)(x)
    weight = propensity * (1.0 - propensity)
    assert estimated == pytest.approx(np.full(n, np.average(difference, weights=weight)))


@given(st.integers(0, 1000))
def test_shares_are_convex_and_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, target, weight = random.normal(size=(30, 4)), random.normal(size=30), random.uniform(0.1, 2.0, 30)
    shares = convex_shares(predicted, target, weight)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()

    def loss(mixed: np.ndarray) -> float:
        return float((weight * (predicted @ mixed - target) ** 2).sum())

    others = np.vstack([np.eye(4), random.dirichlet(np.ones(4), 50)])
    assert loss(shares) <= min(loss(other) for other in others) + 1e-4 * loss(shares)


def test_a_perfect_candidate_gets_all() -> None:
    target = np.arange(10.0)
    assert convex_shares(np.column_stack([target, -target]), target, np.ones(10)) == pytest.approx([1.0, 0.0], abs=1e-4)
