"""Ragged rows are taken, cut, stacked and spread over parts as plain lists would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.models.sequence.arrays import EVENT_ARRAYS, SequenceParts, Sequences, TokenSpace, stacked


def as_lists(sequences: Sequences) -> list[tuple[list[tuple[float, ...]], float]]:
    """Each row's events, and its prediction time."""
    columns = [np.nan_to_num(np.asarray(getattr(sequences, name), dtype=float), nan=-99.0) for name in EVENT_ARRAYS]
    events = list(zip(*(column.tolist() for column in columns), strict=True))
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return [(events[begin:end], at) for (begin, end), at in zip(bounds, sequences.at.tolist(), strict=True)]


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 299), max_size=20), most=st.none() | st.integers(0, 6))
def test_rows_are_taken_with_their_latest_events(sequences: Sequences, rows: list[int], most: int | None) -> None:
    whole = as_lists(sequences)
    taken = as_lists(sequences.take(np.array(rows, dtype=np.intp), most=most))
    assert taken == [
        (whole[r][0][max(0, len(whole[r][0]) - most) :] if most is not None else whole[r][0], whole[r][1]) for r in rows
    ]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), rows=st.lists(st.integers(0, 49), max_size=20))
def test_parts_are_used_as_one(sequences: Sequences, seed: int, rows: list[int]) -> None:
    order = np.random.default_rng(seed).permutation(50)
    halves = (sequences.take(order[:20]), sequences.take(order[20:]))
    part, row = np.repeat([0, 1], [20, 30]), np.concatenate([np.arange(20), np.arange(30)])
    back = np.argsort(order)
    parts = SequenceParts(halves, part[back], row[back])
    chosen = np.array(rows, dtype=np.intp)
    assert as_lists(parts.take(chosen)) == as_lists(sequences.take(chosen))
    assert parts.lengths.tolist() == sequences.lengths[:50].tolist()
    assert as_lists(stacked(halves)) == as_lists(sequences.take(order))


def test_arrays_of_other_lengths_and_ancestors_that_are_no_tokens_are_refused(sequences: Sequences) -> None:
    with pytest.raises(InputError, match="at must match 300 rows"):
        Sequences(**{**vars(sequences), "at": sequences.at[1:]})
    with pytest.raises(InputError, match="ancestors must be tokens, 0 to 4"):
        TokenSpace(5, 10, np.full((5, 1), 5, dtype=np.int32))
    with pytest.raises(InputError, match="one row for each of 6 tokens"):
        TokenSpace(6, 10, np.zeros((5, 1), dtype=np.int32))
