"""The distribution of a code's numbers in bounded memory: exact while few are distinct, else their quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Distinct values kept of one code: below this everything is exact, above it a rank is off by at most 1 in 8192.
POINTS = 4096
CLIPPED_PER_MILLE = 5  # at both ends, before mean and deviation: a misplaced decimal point must not set the scale


@dataclass(frozen=True, eq=False)
class Numbers:
    """Values (n,) float64, in no order, and how many numbers each stands for (n,) int64."""

    values: NDArray[np.float64]
    weights: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Numbers:
        """The distribution of these finite numbers."""
        return _condensed(cls(values.astype(np.float64), np.ones(len(values), dtype=np.int64)))

    def plus(self, others: Sequence[Numbers]) -> Numbers:
        """This distribution and others together."""
        parts = (self, *others)
        values, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "weights"))
        together = Numbers(values, weights)
        # Condensed only now and then, because every time costs some of the ranks' precision.
        return together if len(values) <= 4 * POINTS else _condensed(together)

    def edges(self, quantiles: int) -> tuple[float, ...]:
        """The `quantiles - 1` values between quantiles: the smallest with at least k / quantiles of numbers up to it.

        Hyndman and Fan (1996), definition 1: the inverse of the empirical distribution function. Equal edges stay, so
        that quantile k means the same rank in every code.
        """
        return self._at([(k, quantiles) for k in range(1, quantiles)])

    def mean_and_deviation(self) -> tuple[float, float]:
        """Mean and standard deviation after clipping at the 0.5 and 99.5 percentiles."""
        low, high = self._at([(CLIPPED_PER_MILLE, 1000), (1000 - CLIPPED_PER_MILLE, 1000)])
        some = _distinct(self)  # in order of values, so that sums do not depend on the order of shards
        clipped = np.clip(some.values, low, high)
        mean = float(np.average(clipped, weights=some.weights))
        square = np.average((clipped - mean) ** 2, weights=some.weights)
        return (mean, float(np.sqrt(square))) if low < high else (low, 0.0)

    def _at(self, shares: Sequence[tuple[int, int]]) -> tuple[float, ...]:
        """The value at each share k of n, in whole numbers, so that no rounding moves a rank."""
        order = np.argsort(self.values, kind="stable")
        below = np.cumsum(self.weights[order])
        places = [np.searchsorted(below, -(-k * int(below[-1]) // n)) for k, n in shares]
        return tuple(float(self.values[order][place]) for place in places)


def _distinct(numbers: Numbers) -> Numbers:
    """Each distinct value once, by size."""
    values, which = np.unique(numbers.values, return_inverse=True)
    return Numbers(values, np.bincount(which, weights=numbers.weights).astype(np.int64))


def _condensed(numbers: Numbers) -> Numbers:
    """Each distinct value once; of more than `POINTS`, neighbours in rank become their mean."""
    some = _distinct(numbers)
    if len(some.values) <= POINTS:
        return some
    middle = np.cumsum(some.weights) - some.weights / 2
    begins = np.flatnonzero(np.diff((middle / some.weights.sum() * POINTS).astype(np.int64), prepend=-1))
    together = np.add.reduceat(some.weights, begins)
    return Numbers(np.add.reduceat(some.values * some.weights, begins) / together, together)
