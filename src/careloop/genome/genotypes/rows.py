"""Which rows of a table are asked for: a slice or numbers, checked, and parted into runs that lie side by side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from careloop import InputError


def row_numbers(asked: NDArray[np.int64] | slice, total: int) -> NDArray[np.int64]:
    """Return the rows that are asked for, as ascending numbers below `total`.

    Raises:
        InputError: rows that are not ascending, or outside the table.
    """
    if isinstance(asked, slice):
        return np.arange(*asked.indices(total), dtype=np.int64)
    rows = np.asarray(asked, dtype=np.int64)
    if rows.ndim != 1 or (rows.size > 1 and (np.diff(rows) <= 0).any()):
        raise InputError("rows of variants are asked for in ascending order, each once; sort them")
    if rows.size and (rows[0] < 0 or rows[-1] >= total):
        raise InputError(f"rows of variants are asked for from 0 to {total - 1:,}; got {rows[0]:,} to {rows[-1]:,}")
    return rows


def sample_numbers(asked: NDArray[np.int64] | None, total: int) -> NDArray[np.int64] | None:
    """Return the samples that are asked for, in any order, None for all of them.

    Raises:
        InputError: numbers outside the table.
    """
    if asked is None:
        return None
    samples = np.asarray(asked, dtype=np.int64)
    if samples.size and (samples.min() < 0 or samples.max() >= total):
        raise InputError(f"samples are asked for by rows from 0 to {total - 1:,}; got another")
    return None if np.array_equal(samples, np.arange(total)) else samples


def runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of rows that lie side by side: place of the first in `rows`, first row, one behind the last."""
    if not rows.size:
        return
    starts = np.concatenate(([0], np.flatnonzero(np.diff(rows) != 1) + 1, [rows.size]))
    for at, end in pairwise(starts):
        yield int(at), int(rows[at]), int(rows[end - 1]) + 1
