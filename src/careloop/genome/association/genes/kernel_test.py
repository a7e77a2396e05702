"""The sequence kernel association test: whether a gene's variants matter, in either direction, beside covariates.

Wu et al., Rare-variant association testing for sequencing data with SKAT, Am J Hum Genet 2011;89:82. P values of the
mixture of chi-squares by Kuonen's saddlepoint approximation, Biometrika 1999;86:929 (some per cent of P).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from careloop.genome.association.regression.design import Design
from careloop.genome.association.regression.logistic import null_fit

_SAME = 1e-4  # of the standard deviation: this close to the mean the approximation is replaced by its limit
_NEGLIGIBLE = 1e-8  # of the largest eigenvalue


class KernelTest:
    """The test of one design's trait; genotypes are centred by the covariates' fit without a gene."""

    def __init__(self, design: Design) -> None:
        fitted = design.basis @ (design.basis.T @ design.trait)
        if design.kind == "binary":
            fitted = (1 + np.tanh(design.basis @ null_fit(design) / 2)) / 2
            self._weight = fitted * (1 - fitted)
        else:
            degrees = len(design.trait) - design.basis.shape[1]
            self._weight = np.full(len(fitted), float(((design.trait - fitted) ** 2).sum()) / degrees)
        self._residual = design.trait - fitted
        self._weighted = self._weight[:, None] * design.basis
        self._inverse = np.linalg.inv(design.basis.T @ self._weighted)

    def p_value(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
        """P of genotypes (variants, people) without missing ones, each variant with its weight."""
        scaled = values * weights[:, None]
        statistic = float(((scaled @ self._residual) ** 2).sum())
        beside = scaled @ self._weighted
        covariance = (scaled * self._weight) @ scaled.T - beside @ self._inverse @ beside.T
        return mixture_tail(statistic, np.linalg.eigvalsh(covariance).astype(np.float64))


def mixture_tail(q: float, eigenvalues: NDArray[np.float64]) -> float:
    """P(sum of eigenvalue times chi-square of one degree > q)."""
    from scipy.optimize import brentq
    from scipy.special import log_ndtr, ndtr

    shares = eigenvalues[eigenvalues > _NEGLIGIBLE * max(eigenvalues.max(initial=0), 0)]
    if not shares.size or q <= 0:
        return float("nan") if not shares.size else 1.0
    if shares.size == 1:
        return float(2 * ndtr(-np.sqrt(q / shares[0])))
    mean, spread = shares.sum(), np.sqrt(2 * (shares**2).sum())
    if abs(q - mean) < _SAME * spread:  # Lugannani and Rice's limit at the mean
        return float(0.5 - 8 * (shares**3).sum() / (6 * np.sqrt(2 * np.pi) * spread**3))

    def slope(at: float) -> float:
        return float((shares / (1 - 2 * at * shares)).sum() - q)

    highest = 1 / (2 * shares.max())
    lowest = -shares.size / (2 * q) - highest
    at = brentq(slope, lowest, highest * (1 - 1e-12), xtol=1e-300, rtol=1e-12)
    cumulant = -np.log1p(-2 * at * shares).sum() / 2
    w = np.sign(at) * np.sqrt(2 * (at * q - cumulant))
    v = at * np.sqrt(2 * ((shares / (1 - 2 * at * shares)) ** 2).sum())
    return float(np.exp(log_ndtr(-(w + np.log(v / w) / w))))
