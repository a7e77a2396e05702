"""The leading eigenvectors of a large symmetric matrix that can only be multiplied: block Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Multiply = Callable[[NDArray[np.float32]], NDArray[np.float64]]
EXTRA = 10  # columns beyond those asked for; they let the last ones converge as quickly as the first
TOLERANCE = 1e-3  # of each eigenvalue; components that mean something stand apart and are far closer by then
MOST_ROUNDS = 40
_EXHAUSTED = 1e-6  # of the largest eigenvalue: what is left outside the subspace is rounding


@dataclass(frozen=True)
class Eigenvectors:
    """`values` (count,), the largest first; `vectors` (n, count) of unit norm; `rounds`: how often it was multiplied.

    `residual`: the largest |A v - value v| as a share of its value.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    rounds: int
    residual: float


def leading_eigenvectors(multiply: Multiply, size: int, count: int, *, seed: int = 0) -> Eigenvectors:
    """Find the `count` largest eigenvalues of a positive semi-definite matrix (size, size) and their vectors.

    `multiply` takes (size, columns) and returns the matrix times it. All rounds' vectors are kept and made orthogonal
    to each other (Golub and Van Loan, Matrix Computations, 4th edition, section 10.3.6; Halko et al., SIAM J Sci
    Comput 2011;33:2580 for genotypes), so that close eigenvalues converge too; it ends when the residuals of all that
    are asked for are within 1e-3 of their values, or after 40 rounds.
    """
    width = min(count + EXTRA, size)
    block = _orthonormal(np.random.default_rng(seed).standard_normal((size, width)))
    basis, images = np.empty((size, 0)), np.empty((size, 0))
    rounds = 0
    while True:
        rounds += 1
        basis, images = np.hstack([basis, block]), np.hstack([images, multiply(block.astype(np.float32))])
        found = _ritz(basis, images, count, rounds)
        block = _beyond(basis, images[:, -block.shape[1] :], found.values[0])
        if found.residual <= TOLERANCE or not block.size or rounds >= MOST_ROUNDS:
            return found


def _beyond(basis: NDArray[np.float64], images: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Orthonormal directions of `images` outside of the subspace that `basis` spans; none where only rounding is."""
    rest = images - basis @ (basis.T @ images)
    directions, lengths, _ = np.linalg.svd(rest, full_matrices=False)
    new = directions[:, lengths > _EXHAUSTED * largest][:, : len(basis) - basis.shape[1]]
    return _orthonormal(new - basis @ (basis.T @ new))  # once more, against rounding


def _ritz(basis: NDArray[np.float64], images: NDArray[np.float64], count: int, rounds: int) -> Eigenvectors:
    """The best eigenvectors within the subspace that `basis` spans; `images` is the matrix times it."""
    projected = basis.T @ images
    values, inner = np.linalg.eigh((projected + projected.T) / 2)
    values, inner = values[::-1][:count], inner[:, ::-1][:, :count]
    vectors = basis @ inner
    residuals = np.linalg.norm(images @ inner - vectors * values, axis=0)
    largest = float(np.max(residuals / np.maximum(values, np.finfo(float).tiny)))
    return Eigenvectors(values, vectors, rounds, largest)


def _orthonormal(columns: NDArray[Any]) -> NDArray[np.float64]:
    return np.linalg.qr(columns)[0]
