"""Correlation r of variants' genotypes, over the people in whom both are called.

r squared of the counts of alleles is Rogers and Huff's measure of linkage disequilibrium for unphased genotypes,
Genetics 2009;182:839; it is what plink2 --r2-unphased and --indep-pairwise have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError


def correlations(values: NDArray[Any], other: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Correlate each variant of `values` with each of `other` (by default with each other): (m, k), signed.

    `values` (m, people) and `other` (k, people) are int8 genotypes (`MISSING` where not called) or dosages (NaN), of
    the same people in the same order. A pair's r is over the people who have both; 0 where one of the two does not
    vary among them, for r is not defined there (and 1 on the diagonal). For genotypes of up to four million people the
    sums are exact.

    Raises:
        InputError: `other` is of another number of people.
    """
    if other is not None and other.shape[1] != values.shape[1]:
        raise InputError(f"variants are correlated over the same people; got {values.shape[1]} and {other.shape[1]}")
    first, first_called = _called(values)
    second, second_called = (first, first_called) if other is None else _called(other)
    products = (first @ second.T).astype(np.float64)
    if first_called is None and second_called is None:
        people: Any = float(values.shape[1])
        covariance = people * products - np.outer(_sums(first), _sums(second))
        left, right = _spread(first), _spread(second)
        return _divided(covariance, left[:, None], right[None], same=other is None)
    ones = np.ones_like(first[:1])
    first_called = np.broadcast_to(ones, first.shape) if first_called is None else first_called
    second_called = np.broadcast_to(ones, second.shape) if second_called is None else second_called
    people, sums = _product(first_called, second_called), _product(first, second_called)
    other_sums = _product(first_called, second)
    left = people * _product(first * first, second_called) - sums**2
    right = people * _product(first_called, second * second) - other_sums**2
    return _divided(people * products - sums * other_sums, left, right, same=other is None)


def _called(values: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Values with 0 where missing, and 1 where called (None where all are)."""
    called = values >= 0  # false for NaN too
    if called.all():
        return values.astype(np.float32), None
    return np.where(called, values, 0).astype(np.float32), called.astype(np.float32)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    return (left @ right.T).astype(np.float64)


def _sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.sum(axis=1, dtype=np.float64)


def _spread(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """People times the sum of squares about the mean, as `covariance` is."""
    squares = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    return values.shape[1] * squares - _sums(values) ** 2


def _divided(
    covariance: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64], *, same: bool
) -> NDArray[np.float64]:
    spread = left * right
    varies = (left > 0) & (right > 0)
    r = np.where(varies, covariance / np.sqrt(np.where(varies, spread, 1)), 0.0).clip(-1, 1)
    if same:
        np.fill_diagonal(r, 1.0)
    return r
