"""Venn-Abers intervals: equal to isotonic regression by brute force, and valid in a simulation with known risks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from careloop.predict.intervals import venn_abers
from careloop.train.package import TuningScores


def scores(risk: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> TuningScores:
    order = np.argsort(risk, kind="stable")
    weight = np.ones(len(risk)) if weight is None else weight
    return TuningScores(risk[order], label[order].astype(float), weight[order])


def brute_force(tuning: TuningScores, risk: float, label: float) -> float:
    """Isotonic regression fitted with the new row in it, read at the new row; weights as the module scales them."""
    scaled = tuning.weight * tuning.weight.sum() / (tuning.weight**2).sum()
    fitted = IsotonicRegression().fit(
        np.append(tuning.risk, risk), np.append(tuning.label, label), sample_weight=np.append(scaled, 1.0)
    )
    return float(fitted.predict([risk])[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 50))
def test_equal_to_brute_force(seed: int, n: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    risk = random.integers(1, levels, n) / levels  # ties, and new risks between and beyond the tuning rows'
    tuning = scores(risk, random.random(n) < risk, random.uniform(0.5, 4.0, n))
    new = np.concatenate([risk[:5], random.random(10), [0.0, 1.0]])
    low, high = venn_abers(tuning).interval(new)
    p0 = np.array([brute_force(tuning, r, 0.0) for r in new])
    p1 = np.array([brute_force(tuning, r, 1.0) for r in new])
    np.testing.assert_allclose(low, np.minimum(p0, new), atol=1e-9)
    np.testing.assert_allclose(high, np.maximum(p1, new), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_intervals_hold_the_risk_and_rise_with_it(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    low, high = venn_abers(scores(random.random(n), random.random(n) < 0.3)).interval(np.linspace(0, 1, 101))
    risk = np.linspace(0, 1, 101)
    assert ((low >= 0) & (low <= risk) & (risk <= high) & (high <= 1)).all()
    assert (np.diff(low) >= -1e-12).all()
    assert (np.diff(high) >= -1e-12).all()


@pytest.mark.parametrize("distortion", [0.5, 1.0, 2.0], ids=["too flat", "right", "too steep"])
def test_the_truth_lies_between_the_means_of_p0_and_p1_for_any_model(distortion: float) -> None:
    """Validity on average: within groups of risk, the share with the outcome lies between mean low and mean high."""
    random = np.random.default_rng(1)
    groups: list[list[tuple[float, float, bool]]] = [[], [], [], []]
    for _ in range(60):
        score = random.normal(size=(2, 400))
        risk = 1 / (1 + np.exp(-distortion * score))
        label = random.random((2, 400)) < 1 / (1 + np.exp(-score))
        found = venn_abers(scores(risk[0], label[0]))
        low, high = found.interval(risk[1])
        for i, group in enumerate(np.digitize(risk[1], [0.25, 0.5, 0.75])):
            groups[group].append((low[i], high[i], bool(label[1, i])))
    for group in groups:
        low, high, outcome = np.array(group, dtype=float).mean(axis=0)
        noise = 3 * np.sqrt(outcome * (1 - outcome) / len(group))
        assert low - noise <= outcome <= high + noise


def test_intervals_narrow_with_more_rows_and_widen_with_uneven_weights() -> None:
    random = np.random.default_rng(2)
    risk = random.random(4000)
    label, new = random.random(4000) < risk, np.linspace(0.1, 0.9, 50)
    width = [
        np.subtract(*venn_abers(scores(risk[:n], label[:n])).interval(new)[::-1]).mean() for n in (100, 1000, 4000)
    ]
    assert width[0] > 2 * width[1] > 2 * width[2]
    uneven = np.where(np.arange(4000) % 20 == 0, 50.0, 0.1)
    low, high = venn_abers(scores(risk, label, uneven)).interval(new)
    assert (high - low).mean() > 2 * width[2]


def test_a_hundred_thousand_rows_are_no_trouble() -> None:
    random = np.random.default_rng(3)
    risk = random.random(100_000)
    found = venn_abers(scores(risk, random.random(100_000) < risk))
    low, high = found.interval(risk)
    assert np.abs((low + high) / 2 - risk).mean() < 0.03
