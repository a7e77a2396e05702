"""What a regression says of each variant of a block, and its P values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Why a variant has no estimate, by PLINK 2's codes; TOO_FEW stands for its SAMPLE_CT<=PREDICTOR_CT.
ERRORS = ("", "CONST_ALLELE", "TOO_FEW", "VIF_TOO_HIGH", "RANK_DEFICIENT", "NOT_CONVERGED", "SEPARATION")
CONST_ALLELE, TOO_FEW, VIF_TOO_HIGH, RANK_DEFICIENT, NOT_CONVERGED, SEPARATION = range(1, len(ERRORS))
MAX_VIF = 50.0  # variance inflation of the genotype by covariates, PLINK 2's default
_ROUNDING = 1e-9  # of sums of dosages; one genotype of a billion people that differs is still more
_SMALLEST = 1e-290  # P values below this are only known by their logarithm


@dataclass(frozen=True)
class Estimates:
    """One value a variant: effect of one more copy of `alt`, its standard error, and what they rest on.

    `n` are the people whose genotype is known, `frequency` that of `alt` among them; `code` is a place in `ERRORS`
    (`beta` and `standard_error` are NaN where it is not 0); `firth` says whose likelihood was penalised.
    """

    beta: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    n: NDArray[np.int64]
    frequency: NDArray[np.float64]
    code: NDArray[np.int8]
    firth: NDArray[np.bool_]


@dataclass(frozen=True)
class CountedGenotypes:
    """A block of genotypes ready for sums: `values` (variants, people) with 0 where missing, and what was counted.

    `missing` are flat places in `values`, ascending.
    """

    values: NDArray[Any]
    missing: NDArray[np.int64]
    n: NDArray[np.int64]
    frequency: NDArray[np.float64]
    constant: NDArray[np.bool_]


def counted(block: NDArray[Any], dtype: type[np.floating[Any]]) -> CountedGenotypes:
    """Genotypes (int8, negative where missing) or dosages (float32, NaN) as floating-point numbers with counts."""
    absent = block < 0 if block.dtype == np.int8 else np.isnan(block)
    missing = np.flatnonzero(absent)
    n = block.shape[1] - np.bincount(missing // block.shape[1], minlength=len(block))
    values = block.astype(dtype)
    values.reshape(-1)[missing] = 0
    sums, largest = values.sum(axis=1, dtype=np.float64), values.max(axis=1)
    constant = sums >= largest * n * (1 - _ROUNDING)  # all equal the largest, and only then
    with np.errstate(invalid="ignore", divide="ignore"):
        return CountedGenotypes(values, missing, n, sums / (2 * n), constant)


def tails(z: NDArray[np.float64], degrees: NDArray[np.float64] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two-sided P values and their -log10, of Student's t with `degrees` of freedom or of the normal distribution.

    The logarithm is also right where the P value is too small for a floating-point number: there the incomplete beta
    function is expanded (DLMF 8.17.7).
    """
    from scipy.special import betaln, hyp2f1, log_ndtr, stdtr

    size = np.abs(z)
    with np.errstate(all="ignore"):
        if degrees is None:
            logarithm = np.log(2) + log_ndtr(-size)
            return np.exp(logarithm), -logarithm / np.log(10)
        p = 2 * stdtr(degrees, -size)
        logarithm = np.log(p)
        tiny = p < _SMALLEST
        if tiny.any():
            half, x = degrees[tiny] / 2, 1 / (1 + size[tiny] ** 2 / degrees[tiny])
            expanded = half * np.log(x) - np.log(half) - betaln(half, 0.5) + np.log(hyp2f1(half, 0.5, half + 1, x))
            logarithm[tiny] = expanded
        return p, -logarithm / np.log(10)
