"""Changed inputs are noticed at once, unchanged ones are not, whatever their distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from careloop import InputError
from careloop.outcome.stream.inputs import sequential_ranks, watch_inputs


def _times(n: int) -> np.ndarray:
    return np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")


def _watch(reference: np.ndarray, stream: np.ndarray, alpha: float = 0.05):
    names = [f"lab_{k}" for k in range(stream.shape[1])]
    return watch_inputs(reference, stream, names=names, times=_times(len(stream)), alpha=alpha)


def test_ranks_are_counted_among_reference_and_stream_so_far() -> None:
    class Half:
        def random(self, n: int) -> np.ndarray:
            return np.full(n, 0.5)

    rank = sequential_ranks(np.array([1.0, 3.0]), np.array([2.0, 2.5, np.nan, 3.0]), Half())
    # 2 among (1, 3): one below; 2.5 among (1, 2, 3): two; missing below all four; 3 among five with one equal.
    assert rank == pytest.approx([1.5 / 3, 2.5 / 4, 0.5 / 5, (4 + 0.5 * 2) / 6])


def test_ranks_of_exchangeable_values_are_uniform_even_with_ties() -> None:
    random = np.random.default_rng(0)
    values = random.poisson(2.0, 3000).astype(float)
    rank = sequential_ranks(values[:500], values[500:], random)
    assert kstest(rank, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(rank[1:], rank[:-1])[0, 1]) < 0.05


def test_a_new_unit_is_noticed_within_ten_patients() -> None:
    random = np.random.default_rng(1)
    reference, stream = random.lognormal(0, 0.4, (500, 3)), random.lognormal(0, 0.4, (400, 3))
    stream[300:, 1] *= 88.4
    found = _watch(reference, stream)
    assert [each.alarm for each in found] == [False, True, False]
    assert 300 < found[1].alarm_row <= 310
    assert found[1].direction == "lab_1: values higher than before"
    assert found[1].since == str(_times(400)[300].astype("datetime64[s]"))


def test_a_laboratory_that_goes_silent_is_noticed() -> None:
    random = np.random.default_rng(2)
    reference, stream = random.normal(size=(500, 1)), random.normal(size=(200, 1))
    stream[100:, 0] = np.nan
    (found,) = _watch(reference, stream)
    assert found.alarm_row is not None
    assert 100 < found.alarm_row <= 112
    assert "lower" in (found.direction or "")


def test_unchanged_inputs_raise_few_alarms() -> None:
    """At a budget of 20 % over both inputs, one of them skewed and one with few values."""
    alarms = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        values = np.column_stack([random.lognormal(0, 1, 600), random.poisson(1, 600)])
        alarms += any(each.alarm for each in _watch(values[:100], values[100:], alpha=0.2))
    assert alarms <= 0.2 * 40


def test_later_rows_change_no_earlier_evidence_even_with_ties() -> None:
    values = np.random.default_rng(3).poisson(1, (150, 2)).astype(float)
    early, late = (_watch(values[:40], values[40:end]) for end in (90, 150))
    for before, after in zip(early, late, strict=True):
        assert before.log10 == pytest.approx(after.log10[:50])


def test_shapes_and_a_short_reference_are_refused() -> None:
    with pytest.raises(InputError, match="one column a feature"):
        _watch(np.zeros((30, 2)), np.zeros((5, 3)))
    with pytest.raises(InputError, match="at least 20 reference rows, got 4"):
        _watch(np.zeros((4, 2)), np.zeros((5, 2)))
