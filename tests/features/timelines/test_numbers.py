"""Edges, mean and deviation against numpy and polars, and what condensing costs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from careloop.features.timelines.numbers import POINTS, Numbers

some_numbers = hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(-100, 100, width=16))


@given(values=some_numbers, cut=st.integers(0, 80), quantiles=st.integers(2, 50))
def test_edges_are_those_of_numpy_however_the_numbers_come(values: np.ndarray, cut: int, quantiles: int) -> None:
    cut = min(cut, len(values))
    both = Numbers.of(values[:cut]).plus([Numbers.of(values[cut:])])
    # Ranks in whole numbers, because k / quantiles as a float can fall on the other side of a step.
    ranks = [-(-k * len(values) // quantiles) for k in range(1, quantiles)]
    expected = np.quantile(values.astype(float), (np.array(ranks) - 0.5) / len(values), method="inverted_cdf")
    assert both.edges(quantiles) == tuple(expected)
    assert both.edges(quantiles) == Numbers.of(values).edges(quantiles)


def test_quantiles_have_equal_shares_as_polars_cuts_them() -> None:
    values = np.random.default_rng(0).normal(size=999).astype(np.float32)
    edges = Numbers.of(values).edges(10)
    inside = [pl.Series(values).quantile(k / 10, interpolation="higher") for k in range(1, 10)]
    np.testing.assert_allclose(edges, inside, atol=0.02)
    counts = np.bincount(np.searchsorted(edges, values), minlength=10)
    assert counts.min() >= 99
    assert counts.max() <= 100


@given(values=some_numbers)
def test_mean_and_deviation_are_those_of_numpy_after_clipping(values: np.ndarray) -> None:
    low, high = np.quantile(values.astype(float), [0.005, 0.995], method="inverted_cdf")
    clipped = np.clip(values.astype(float), low, high)
    mean, deviation = Numbers.of(values).mean_and_deviation()
    assert mean == pytest.approx(clipped.mean(), abs=1e-9)
    assert deviation == pytest.approx(clipped.std(), abs=1e-9)


def test_a_slip_of_the_keyboard_does_not_set_the_scale() -> None:
    values = np.random.default_rng(0).normal(4, 0.5, 2000).astype(np.float32)
    values[:5] *= 1e6
    mean, deviation = Numbers.of(values).mean_and_deviation()
    assert mean == pytest.approx(4, abs=0.05)
    assert deviation == pytest.approx(0.5, abs=0.05)


def test_many_distinct_values_are_condensed_with_little_loss() -> None:
    random = np.random.default_rng(0)
    parts = [np.append(random.lognormal(0, 1, 20_000), np.full(5000, 1.5)).astype(np.float32) for _ in range(10)]
    total = Numbers.of(parts[0])
    for part in parts[1:]:
        total = total.plus([Numbers.of(part)])
        assert len(total.values) <= 4 * POINTS
    everything = np.concatenate(parts).astype(float)
    assert total.weights.sum() == len(everything)
    for k, edge in enumerate(total.edges(20), start=1):
        rank = np.searchsorted(np.sort(everything), edge, side="left") / len(everything)
        assert rank <= k / 20 + 0.001
        assert (everything <= edge).mean() >= k / 20 - 0.001
    low, high = np.quantile(everything, [0.005, 0.995])
    mean, deviation = total.mean_and_deviation()
    assert mean == pytest.approx(np.clip(everything, low, high).mean(), rel=0.002)
    assert deviation == pytest.approx(np.clip(everything, low, high).std(), rel=0.005)
