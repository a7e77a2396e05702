"""Batches hold every row once, keep to their room, waste little of it, and show times as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.models.sequence.arrays import NOW, Sequences
from careloop.models.sequence.batches import batch_rows, padded, padding_share

torch = pytest.importorskip("torch")


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=300),
    tokens=st.integers(1, 500),
    seed=st.none() | st.integers(0, 100),
)
def test_every_row_is_in_one_batch_that_keeps_to_its_room(lengths: list[int], tokens: int, seed: int | None) -> None:
    sizes = np.array(lengths)
    batches = batch_rows(sizes, tokens, random=None if seed is None else np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * (sizes[rows].max() + 1) <= tokens for rows in batches)
    assert 0 <= padding_share(sizes, batches) < 1


def test_little_is_padding_where_a_plain_shuffle_pads_half() -> None:
    lengths = np.minimum(np.random.default_rng(0).geometric(1 / 40, 20_000), 512)
    random = np.random.default_rng(1)
    plain = np.array_split(random.permutation(len(lengths)), len(lengths) // 64)
    assert padding_share(lengths, batch_rows(lengths, 4096, random=random)) < 0.03 < 0.5 < padding_share(lengths, plain)


def test_batches_come_in_another_order_each_time_and_the_same_for_the_same_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 2000)
    first, again, other = (batch_rows(lengths, 512, random=np.random.default_rng(s)) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=False))


def test_a_batch_shows_events_and_the_prediction_time(sequences: Sequences) -> None:
    rows = sequences.take(np.arange(40))
    batch = padded(rows)
    for row, (begin, end) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        n = end - begin
        assert batch.last[row] == n
        assert batch.is_event[row].tolist() == [True] * (n + 1) + [False] * (batch.code.shape[1] - n - 1)
        assert batch.code[row, : n + 1].tolist() == [*rows.code[begin:end].tolist(), NOW]
        times = np.append(rows.time[begin:end], rows.at[row])
        np.testing.assert_allclose(batch.before[row, : n + 1], rows.at[row] - times, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(batch.gap[row, : n + 1], np.diff(times, prepend=times[0]), rtol=1e-6, atol=1e-5)
        assert not batch.code[row, n + 1 :].any()
        assert not batch.gap[row, n + 1 :].any()
