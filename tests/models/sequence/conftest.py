"""Simulated event sequences for tests of the networks over them."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.models.sequence.arrays import FIRST_CODE, Sequences, TokenSpace

CODES, QUANTILES = 8, 5


def simulated_sequences(rows: int, seed: int, *, most: int = 12) -> Sequences:
    """Random histories; even codes have numbers."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, most + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    code = random.integers(FIRST_CODE, FIRST_CODE + CODES, offsets[-1]).astype(np.int32)
    quantile = np.where(code % 2 == 0, random.integers(1, QUANTILES + 1, len(code)), 0).astype(np.uint8)
    value = np.where(quantile > 0, (quantile - 3.0) / 2, np.nan).astype(np.float32)
    time = np.concatenate([np.sort(random.uniform(9000, 10000, n)) for n in lengths] or [np.empty(0)])
    return Sequences(offsets, code, quantile, value, time=time, at=np.full(rows, 10_010.0))


@pytest.fixture(scope="session")
def space() -> TokenSpace:
    """Eight codes, of which the last two are ancestors of the others."""
    ancestors = np.zeros((FIRST_CODE + CODES, 1), dtype=np.int32)
    ancestors[FIRST_CODE : FIRST_CODE + CODES - 2, 0] = FIRST_CODE + CODES - 2 + np.arange(CODES - 2) % 2
    return TokenSpace(FIRST_CODE + CODES, QUANTILES, ancestors)


@pytest.fixture(scope="session")
def sequences() -> Sequences:
    """Three hundred rows."""
    return simulated_sequences(300, seed=1)
