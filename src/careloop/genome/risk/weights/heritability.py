"""Heritability from summary statistics by LD score regression, with a block jackknife.

Bulik-Sullivan et al., LD Score regression distinguishes confounding from polygenicity, Nat Genet 2015;47:291: the
expected test statistic of variant j is n h2 l_j / M + intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

_ROUNDS = 3  # of weighting by the variances that the last estimate implies
_PARTS = 200  # of the jackknife, as ldsc has it
_MIN_VARIANTS = 10
_LEAST_RANGE = 0.01  # of LD scores, below which the regression has no slope to tell from an intercept


@dataclass(frozen=True)
class Heritability:
    """`h2` of the trait by these variants and the regression's `intercept`, each with its standard error.

    The intercept is 1 where nothing but polygenic effects inflates the statistics; an error is None where the
    intercept was given.
    """

    h2: float
    h2_error: float
    intercept: float
    intercept_error: float | None


def ld_score_regression(
    chi_squared: NDArray[np.float64],
    scores: NDArray[np.float64],
    people: NDArray[np.float64],
    *,
    intercept: float | None = None,
) -> Heritability:
    """Regress test statistics on LD scores, variants in the order of the genome, each array (variants,).

    The intercept is estimated unless it is given; it is 1 where all LD scores are alike, as of independent variants.

    Raises:
        InputError: fewer than ten variants.
    """
    if chi_squared.size < _MIN_VARIANTS:
        raise InputError(f"LD score regression needs {_MIN_VARIANTS} variants at least; got {chi_squared.size}")
    scores = np.maximum(scores, 1)
    slope_of = people * scores / chi_squared.size  # what h2 is multiplied by
    free = intercept is None and bool(np.ptp(scores) > _LEAST_RANGE)
    h2, constant = max(float((chi_squared.mean() - 1) / slope_of.mean()), 0.0), 1.0 if intercept is None else intercept
    parts = np.array_split(np.arange(chi_squared.size), min(_PARTS, chi_squared.size))
    for _ in range(_ROUNDS):
        weights = 1 / (scores * (constant + max(h2, 0.0) * slope_of) ** 2)
        design = np.stack([slope_of, np.ones_like(slope_of)] if free else [slope_of])
        target = chi_squared - (0.0 if free else constant)
        squares = np.stack([(design[:, part] * weights[part]) @ design[:, part].T for part in parts])
        products = np.stack([(design[:, part] * weights[part]) @ target[part] for part in parts])
        found = np.linalg.solve(squares.sum(axis=0), products.sum(axis=0))
        h2, constant = float(found[0]), float(found[1]) if free else constant
    without = np.linalg.solve(squares.sum(axis=0) - squares, (products.sum(axis=0) - products)[:, :, None])[:, :, 0]
    spread = (len(parts) - 1) / len(parts) * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return Heritability(h2, float(np.sqrt(spread[0])), constant, float(np.sqrt(spread[1])) if free else None)
