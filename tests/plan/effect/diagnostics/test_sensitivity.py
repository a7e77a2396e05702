"""Sensitivity to an unmeasured confounder: against a linear model's closed form and a confounder left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.plan.effect.diagnostics.sensitivity import BiasBound, robustness, strength_of
from careloop.plan.effect.doubly_robust import Scores


def scores_of(y: np.ndarray, arm: np.ndarray, expected: np.ndarray, propensity: np.ndarray) -> Scores:
    """AIPW scores from given nuisance values."""
    onehot = arm[:, None] == np.arange(2)
    value = expected + np.where(onehot, (y[:, None] - expected) / propensity, 0.0)
    return Scores(value, expected, propensity, y, arm, np.arange(len(arm)))


def confounded(n: int, strength: float, seed: int) -> tuple[Scores, Scores, np.ndarray]:
    """Scores without and with the confounder u (binary), by their true conditional means; no effect of the option."""
    random = np.random.default_rng(seed)
    x, u = random.integers(0, 2, n), random.integers(0, 2, n)
    probability = 0.5 + 0.15 * (2 * x - 1) + strength * (2 * u - 1)
    arm = (random.random(n) < probability).astype(int)
    y = x + 1.0 * u + random.normal(size=n)
    long_e = np.column_stack([1 - probability, probability])
    long_m = np.column_stack([x + 1.0 * u] * 2)
    short_p = 0.5 + 0.15 * (2 * x - 1)
    short_e = np.column_stack([1 - short_p, short_p])
    u_given = [0.5 * (1 - (short_p + strength)) / (1 - short_p), 0.5 * (short_p + strength) / short_p]
    short_m = np.column_stack([x + u_given[0], x + u_given[1]])
    return scores_of(y, arm, short_m, short_e), scores_of(y, arm, long_m, long_e), x[:, None].astype(float)


def test_bias_of_a_confounder_left_out_is_within_its_bound() -> None:
    short, long, _ = confounded(200_000, 0.2, 1)
    bias = (short.value[:, 1] - short.value[:, 0]).mean() - (long.value[:, 1] - long.value[:, 0]).mean()
    assert bias > 0.3  # the confounder matters
    rows = np.arange(len(short.arm))
    m_short, m_long = short.expected[rows, short.arm], long.expected[rows, long.arm]
    outcome_share = ((m_long - m_short) ** 2).mean() / ((short.completed - m_short) ** 2).mean()

    def spread(scores: Scores) -> float:
        return float((1 / scores.propensity).sum(axis=1).mean())  # E[alpha^2]

    treatment_share = 1 - spread(short) / spread(long)
    bound = BiasBound.of(short, 1, 0)
    reach = strength_of(outcome_share, treatment_share) * bound.scale
    assert abs(bias) <= reach * 1.02
    assert abs(bias) >= 0.7 * reach  # and the bound is not far off: the confounder moves both in the same people


def test_robustness_value_is_where_the_bound_meets_zero() -> None:
    short, _, x = confounded(4_000, 0.2, 2)
    found = robustness(short, ("a", "b"), (1, 0), covariates=x, names=("x",))
    bound = BiasBound.of(short, 1, 0)
    assert bound.at(strength_of(found.value, found.value)).value == pytest.approx(0.0, abs=1e-6)
    edge = bound.at(strength_of(found.limit, found.limit))
    assert edge.low == pytest.approx(0.0, abs=1e-6)
    assert 0 < found.limit < found.value < 1


def test_linear_model_gives_cinelli_and_hazlett() -> None:
    """With equal propensities, S^2 = 4 E[residual^2], and RV solves r^2 / (1 - r) = (difference / S)^2."""
    random = np.random.default_rng(3)
    n = 5_000
    arm, e = random.integers(0, 2, n), np.full((n, 2), 0.5)
    y = 0.3 * arm + random.normal(size=n)
    means = np.column_stack([np.full(n, y[arm == 0].mean()), np.full(n, y[arm == 1].mean())])
    scores = scores_of(y, arm, means, e)
    found = robustness(scores, ("a", "b"), (1, 0), covariates=np.zeros((n, 0)), names=())
    bound = BiasBound.of(scores, 1, 0)
    f2 = (bound.difference / bound.scale) ** 2
    assert found.value == pytest.approx((np.sqrt(f2**2 + 4 * f2) - f2) / 2, rel=1e-6)
    assert bound.scale**2 == pytest.approx(4 * ((y - means[np.arange(n), arm]) ** 2).mean(), rel=1e-6)
    assert found.yardsticks == ()


def test_no_difference_has_nothing_to_explain_away() -> None:
    random = np.random.default_rng(4)
    arm = random.integers(0, 2, 400)
    scores = scores_of(random.normal(size=400), arm, np.zeros((400, 2)), np.full((400, 2), 0.5))
    found = robustness(scores, ("a", "b"), (1, 0), covariates=random.normal(size=(400, 2)), names=("p", "q"))
    assert found.limit == 0.0
    assert "not told apart" in found.words
    assert len(found.yardsticks) == 2


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_stronger_confounder_reaches_farther(outcome: float, weak: float, strong: float) -> None:
    low, high = sorted((weak, strong))
    assert strength_of(outcome, low) <= strength_of(outcome, high)
