"""Linear regression of a quantitative trait on each variant: exact with missing genotypes, by sums over all people.

By Frisch, Waugh and Lovell the effect is that of what is left of the genotype beside the covariates. People whose
genotype is missing are taken out of every sum again, so that each variant's fit is that of the people who have it, as
PLINK 2's; only the sums over those who miss cost more than a matrix product for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop.genome.association.regression.design import Design
from careloop.genome.association.regression.estimates import (
    CONST_ALLELE,
    MAX_VIF,
    RANK_DEFICIENT,
    TOO_FEW,
    VIF_TOO_HIGH,
    CountedGenotypes,
    Estimates,
    counted,
)

_SPARSE_SHARE = 0.1  # of missing genotypes, above which sums over them are faster as a full matrix product
_RIDGE = 1e-12  # keeps the batched inverse defined where a covariate is lost with those who miss a genotype
_LOST = 1e6  # inverse of a covariate's share that is left, above which it is lost


class LinearRegression:
    """Regression of one design's trait on blocks of variants; may be called from several threads."""

    def __init__(self, design: Design) -> None:
        residual = design.trait - design.basis @ (design.basis.T @ design.trait)
        self._scale = float(np.linalg.norm(residual))
        both = np.column_stack([design.basis, residual / self._scale])
        self._columns = both
        self._upper = np.triu_indices(both.shape[1])
        self._products = both[:, self._upper[0]] * both[:, self._upper[1]]
        self.predictors = both.shape[1]  # covariates, intercept and genotype

    def estimate(self, block: NDArray[Any]) -> Estimates:
        """Effects of a block (variants, people) of genotypes or dosages of the design's people."""
        found = counted(block, np.float64)
        sums = found.values @ self._columns
        squares = np.einsum("vn,vn->v", found.values, found.values)
        with np.errstate(all="ignore"):
            left, with_trait, of_trait, lost = self._reduced(found, sums, squares)
            beta = with_trait / left
            degrees = found.n - self.predictors
            variance = np.maximum(of_trait - beta * with_trait, 0) / degrees
            error = np.sqrt(variance / left)
            spread = squares - found.n * (2 * found.frequency) ** 2
            code = np.zeros(len(beta), np.int8)
            code[~(left > spread / MAX_VIF)] = VIF_TOO_HIGH
            code[lost] = RANK_DEFICIENT
            code[found.constant] = CONST_ALLELE
            code[degrees <= 0] = TOO_FEW
        beta, error = (np.where(code == 0, values * self._scale, np.nan) for values in (beta, error))
        return Estimates(beta, error, found.n, found.frequency, code, np.zeros(len(beta), np.bool_))

    def _reduced(
        self, found: CountedGenotypes, sums: NDArray[np.float64], squares: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Sums of what is left beside the covariates: genotype squared, with the trait, trait squared; lost covariates.

        The trait has unit length, and none of it is in the covariates, where nobody is missing.
        """
        with_basis, with_trait = sums[:, :-1], sums[:, -1]
        if not found.missing.size:
            left = squares - np.einsum("vk,vk->v", with_basis, with_basis)
            return left, with_trait, np.ones(len(sums)), np.zeros(len(sums), np.bool_)
        gone = self._of_missing(found)
        inverse = np.linalg.inv((1 + _RIDGE) * np.eye(gone.shape[1] - 1) - gone[:, :-1, :-1])
        trait_with_basis = -gone[:, :-1, -1]
        by_genotype = np.einsum("vjk,vk->vj", inverse, with_basis)
        left = squares - np.einsum("vk,vk->v", by_genotype, with_basis)
        with_trait = with_trait - np.einsum("vk,vk->v", by_genotype, trait_with_basis)
        explained = np.einsum("vj,vjk,vk->v", trait_with_basis, inverse, trait_with_basis, optimize=True)
        lost = np.einsum("vkk->vk", inverse).max(axis=1) > _LOST
        return left, with_trait, 1 - gone[:, -1, -1] - explained, lost

    def _of_missing(self, found: CountedGenotypes) -> NDArray[np.float64]:
        """Sums over those who miss each variant, of products of covariates and trait: (variants, k + 1, k + 1)."""
        from scipy.sparse import csr_array

        variants, people = found.values.shape
        if found.missing.size > _SPARSE_SHARE * found.values.size:
            absent = np.zeros(found.values.size)
            absent[found.missing] = 1
            upper = absent.reshape(variants, people) @ self._products
        else:
            starts = np.searchsorted(found.missing, people * np.arange(variants + 1))
            parts = (np.ones(found.missing.size), found.missing % people, starts)
            upper = csr_array(parts, shape=(variants, people)) @ self._products
        full = np.empty((variants, self.predictors, self.predictors))
        full[:, self._upper[0], self._upper[1]] = upper
        full[:, self._upper[1], self._upper[0]] = upper
        return full
