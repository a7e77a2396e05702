"""The risk-adjusted chart is the published recursion, and its simulated limit keeps its false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.outcome.stream.cusum import cusum_charts, cusum_limit, risk_adjusted_cusum


def test_charts_follow_the_published_recursion(entered) -> None:
    """Steiner et al. 2000, eq. 2.2: log of (odds ratio or 1) over (1 - risk + odds ratio * risk)."""
    each = entered(200, 0)
    for odds_ratio in (2.0, 0.5):
        chart, expected = 0.0, []
        for risk, label in zip(each.probability, each.label, strict=True):
            step = np.log((odds_ratio if label else 1.0) / (1 - risk + odds_ratio * risk))
            chart = max(0.0, chart + step)
            expected.append(chart)
        found = cusum_charts(each.probability, each.label[None], odds_ratio=2.0)[0 if odds_ratio > 1 else 1][0]
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_limit_keeps_false_alarms_for_these_patients() -> None:
    random = np.random.default_rng(5)
    probability = random.beta(1, 5, 300)
    limit = cusum_limit(probability, alpha=0.1)
    label = random.random((2000, 300)) < probability
    charts = cusum_charts(probability, label, odds_ratio=2.0)
    assert np.mean(np.maximum(*charts).max(axis=1) >= limit) == pytest.approx(0.1, abs=0.03)


def test_a_change_crosses_the_limit(entered) -> None:
    found = risk_adjusted_cusum(
        entered(700, 1, drift=lambda x: x + 1.2 * (np.arange(len(x)) >= 300)), alpha=0.05, model="m", version="1"
    )
    assert found.alarm_row is not None
    assert 300 < found.alarm_row < 500
    assert found.more[found.alarm_row - 1] >= found.limit
