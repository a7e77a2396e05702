"""The effect on the treated: against its truth where it differs from the effect on everybody, and the NSW trial."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.plan.effect.doubly_robust import Scores
from careloop.plan.effect.treated import effect_on_treated

OPTIONS = ("control", "drug")


def scores_of(n: int, seed: int, *, outcome: str, propensity: str) -> tuple[Scores, float]:
    """Effect 1 + x grows with x, and so does the chance of the drug; nuisances right or wrong as named."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, n)
    chance = 1 / (1 + np.exp(-1.5 * x))
    arm = (random.random(n) < chance).astype(int)
    y = 2 * x + arm * (1 + x) + random.normal(size=n)
    means = np.column_stack([2 * x, 2 * x + 1 + x]) if outcome == "right" else np.zeros((n, 2))
    e = chance if propensity == "right" else np.full(n, 0.5)
    value = np.zeros((n, 2))
    truth = float(np.average(1 + x, weights=chance))
    return Scores(value, means, np.column_stack([1 - e, e]), y, arm, np.arange(n)), truth


@pytest.mark.parametrize(("outcome", "propensity"), [("right", "right"), ("right", "wrong"), ("wrong", "right")])
def test_right_if_either_part_is(outcome: str, propensity: str) -> None:
    scores, truth = scores_of(100_000, 1, outcome=outcome, propensity=propensity)
    found = effect_on_treated(scores, OPTIONS, 1, 0)
    assert found.difference.value == pytest.approx(truth, abs=0.04)
    assert truth > 1.2  # not the effect on everybody, which is 1


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        scores, truth = scores_of(600, 100 + seed, outcome="right", propensity="right")
        found = effect_on_treated(scores, OPTIONS, 1, 0).difference
        inside += found.low <= truth <= found.high
    assert 180 <= inside <= 199


def test_treated_without_match_are_left_out_and_counted() -> None:
    n = 1_000
    arm = np.repeat([0, 1], n // 2)
    e = np.where(np.arange(n) >= 900, 0.99, 0.5)
    scores = Scores(
        np.zeros((n, 2)), np.zeros((n, 2)), np.column_stack([1 - e, e]), arm.astype(float), arm, np.arange(n)
    )
    found = effect_on_treated(scores, OPTIONS, 1, 0)
    assert found.without_match == pytest.approx(0.2)
    assert found.patients == 400
    assert found.effective_sample == pytest.approx(500)
    assert found.difference.value == pytest.approx(1.0)
