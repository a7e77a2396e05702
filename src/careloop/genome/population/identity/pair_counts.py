"""What two people's genotypes have in common, counted over variants for all pairs of two sets of people at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop.genome.genotypes.source import MISSING

_SPARSE = 0.02  # a smaller share of missing genotypes is multiplied quicker as a sparse matrix


class PairCounts:
    """Counts of variants by both people's genotypes, (first, second) each, among variants that both have called.

    Made of matrix products of zeros and ones, which float32 has exactly up to 16 million variants.
    """

    def __init__(self, first: int, second: int) -> None:
        shape = (first, second)
        self.called, self.both_het, self._signs, self._first_het, self._second_het = (
            np.zeros(shape, np.float32) for _ in range(5)
        )

    def add(self, first: NDArray[np.int8], second: NDArray[np.int8]) -> None:
        """Count more variants: copies of one allele (variants, first) and (variants, second); the same array once."""
        one = _Parts(first)
        other = one if second is first else _Parts(second)
        self.both_het += one.het.T @ other.het
        self._signs += one.sign.T @ other.sign
        self.called += len(first) - one.lacks[:, None] - other.lacks[None, :]
        self._first_het += one.het.sum(axis=0)[:, None]
        self._second_het += other.het.sum(axis=0)[None, :]
        if one.missing is None and other.missing is None:
            return
        if one.missing is not None and other.missing is not None:
            overlap = one.missing.T @ other.missing
            self.called += overlap.toarray() if hasattr(overlap, "toarray") else overlap
        if other.missing is not None:
            self._first_het -= (other.missing.T @ one.het).T
        if one.missing is not None:
            self._second_het -= one.missing.T @ other.het

    @property
    def opposite(self) -> NDArray[np.float64]:
        """Where the two are homozygous for different alleles, sharing none (IBS 0)."""
        homozygous = self.called - self._first_het - self._second_het + self.both_het
        return (homozygous - self._signs).astype(np.float64) / 2

    @property
    def equal(self) -> NDArray[np.float64]:
        """Where the two have the same genotype."""
        return self.called - self._first_het - self._second_het + 2 * self.both_het - self.opposite

    @property
    def kinship(self) -> NDArray[np.float64]:
        """KING-robust kinship coefficients: 0.5 for the same person, NaN where the person with fewer has no het.

        Manichaikul et al., Bioinformatics 2010;26:2867, equation 11: robust to differences between populations.
        """
        both = self.both_het.astype(np.float64)
        one_het = self._first_het - both, self._second_het - both
        fewer = both + np.minimum(*one_het)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = 0.5 - (4 * self.opposite + one_het[0] + one_het[1]) / (4 * fewer)
        return np.where(fewer > 0, found, np.nan)


class _Parts:
    """A block's genotypes as matrices of float32: heterozygous, sign of the homozygous, and missing where any is."""

    def __init__(self, copies: NDArray[np.int8]) -> None:
        self.het = (copies == 1).astype(np.float32)
        self.sign = (copies == 2).astype(np.float32) - (copies == 0)
        gaps = copies == MISSING
        self.lacks = gaps.sum(axis=0, dtype=np.float32)
        self.missing: Any = None
        if share := gaps.mean():
            self.missing = gaps.astype(np.float32)
            if share < _SPARSE:
                from scipy.sparse import csc_matrix

                self.missing = csc_matrix(self.missing)
