"""How far rows of numbers lie from rows that are known: by their covariance, by their nearest, by their mean's shape.

Each distance is a frozen dataclass of arrays with `of(rows)` to fit it and `distance(rows)` -> (n,), at least 0, larger
the less alike. Rows are (n, d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

Rows = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

MOST_DIRECTIONS = 128  # kept of the covariance; what lies outside of them is judged by its length alone
MOST_NEIGHBOURS = 2000  # rows searched; Sun et al. 2022 (table 4) lose nothing with a hundredth of ImageNet
ROWS_AT_ONCE = 256
# A column that hardly varied in a few known rows may vary more in the next: its spread is read as at least this part of
# the median column's.
LEAST_SPREAD = 0.1
LEAST = 1e-6  # in place of zero, where something is divided by it
STEEPEST = 0.999  # a correlation above this is read as this, because its inverse hyperbolic tangent has no end


class Distance(Protocol):
    """What all distances do; their fields are arrays, so that they can be stored by name."""

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Fit to known rows."""
        ...

    def distance(self, rows: Rows) -> Floats:
        """How far each row lies."""
        ...


@dataclass(frozen=True, eq=False)
class Covariance:
    """Mahalanobis' distance from the mean, by a covariance that is shrunk so that few rows suffice for it.

    Columns are standardised, then the covariance is that of Ledoit and Wolf (J Multivar Anal 2004;88:365), kept by its
    largest directions (d, r) with their variances (r,) and the mean variance `rest` of all others. Lee et al. (NeurIPS
    2018) use this distance on a network's features; without classes, as here, it is that of Ren et al. (arXiv
    2106.09022, section 2).
    """

    mean: Floats
    spread: Floats
    directions: Floats
    variances: Floats
    rest: Floats

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Fit to rows (n, d), of which there may be fewer than columns."""
        from sklearn.covariance import ledoit_wolf_shrinkage

        values = np.asarray(rows, dtype=np.float64)
        mean, spread = values.mean(axis=0), values.std(axis=0)
        spread = np.maximum(spread, LEAST_SPREAD * float(np.median(spread)) + LEAST)
        standard = (values - mean) / spread
        shrinkage = float(ledoit_wolf_shrinkage(standard, assume_centered=True))
        _, singular, directions = np.linalg.svd(standard, full_matrices=False)
        kept = min(len(singular), MOST_DIRECTIONS)
        found = singular**2 / len(standard)
        mu = float(found.sum()) / standard.shape[1]
        left_over = float(found[kept:].sum()) / max(1, standard.shape[1] - kept)
        variances, rest = ((1 - shrinkage) * v + shrinkage * mu + LEAST for v in (found[:kept], left_over))
        return cls(mean, spread, directions[:kept].T, variances, np.array(rest))

    def distance(self, rows: Rows) -> Floats:
        """Mahalanobis' distance over the square root of the number of columns, about 1 for a known row."""
        standard = (np.asarray(rows, dtype=np.float64) - self.mean) / self.spread
        along = standard @ self.directions
        outside = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        found = np.sqrt(((along**2 / self.variances).sum(axis=1) + outside / self.rest) / len(self.mean))
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Nearest:
    """Euclidean distance to the k-th nearest known row, all rows scaled to length 1 (Sun et al., ICML 2022).

    `known` (n, d) float32 of length 1; `k` is the square root of their number, which grows with it as the paper's does.
    """

    known: NDArray[np.float32]
    k: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Keep the rows, or `MOST_NEIGHBOURS` of them spread evenly."""
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_NEIGHBOURS)).round().astype(np.int64))
        return cls(_unit(rows[chosen]), np.array(max(1, round(len(chosen) ** 0.5)), dtype=np.int64))

    def distance(self, rows: Rows) -> Floats:
        """Distance 0 to 2."""
        found = [self._far(_unit(rows[at : at + ROWS_AT_ONCE])) for at in range(0, len(rows), ROWS_AT_ONCE)]
        return np.concatenate([np.empty(0), *found])

    def _far(self, rows: NDArray[np.float32]) -> Floats:
        squared = np.maximum(2.0 - 2.0 * (rows @ self.known.T).astype(np.float64), 0.0)
        return np.sqrt(np.partition(squared, int(self.k) - 1, axis=1)[:, int(self.k) - 1])


@dataclass(frozen=True, eq=False)
class Template:
    """How badly rows correlate with the mean of the known rows, which an inverted image does worst.

    Correlations are compared after Fisher's transformation (Biometrika 1915;10:507), in which known rows have `centre`
    and `spread`; the distance is exp of how many spreads a row lies below the centre, so that its logarithm is linear.
    """

    mean: Floats
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Fit to known rows."""
        mean = _centred(np.asarray(rows, dtype=np.float64).mean(axis=0, keepdims=True))[0]
        found = _agreement(rows, mean)
        return cls(mean, np.array(found.mean()), np.array(max(float(found.std()), LEAST)))

    def distance(self, rows: Rows) -> Floats:
        """About 1 for a known row, above for one that agrees less."""
        return np.asarray(np.exp((self.centre - _agreement(rows, self.mean)) / self.spread), dtype=np.float64)


DISTANCES: dict[str, type[Covariance] | type[Nearest] | type[Template]] = {
    "covariance": Covariance,
    "nearest": Nearest,
    "template": Template,
}


def check_rows(rows: Floats, known: int | None = None) -> Floats:
    """The rows, if they are (n, d) finite numbers of as many columns as known. InputError otherwise."""
    if rows.ndim != 2 or (known is not None and rows.shape[1] != known) or not np.isfinite(rows).all():
        wanted = "(n, d)" if known is None else f"(n, {known})"
        raise InputError(
            f"Embeddings must be {wanted} finite numbers, got shape {rows.shape}; use those of the model's own network"
        )
    return rows


def _unit(rows: Rows) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


def _centred(rows: Floats) -> Floats:
    """Rows without their mean, of length 1; a row of one value becomes zeros."""
    less = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(less / np.maximum(np.linalg.norm(less, axis=1, keepdims=True), LEAST), dtype=np.float64)


def _agreement(rows: Rows, mean: Floats) -> Floats:
    correlation = _centred(np.asarray(rows, dtype=np.float64)) @ mean
    return np.asarray(np.arctanh(np.clip(correlation, -STEEPEST, STEEPEST)), dtype=np.float64)
