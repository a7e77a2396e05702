"""What training rows fix for every later row: medians, scales, missing indicators, and the range of the population."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from careloop import InputError

Scheme = Literal["native", "standardised", "scaled"]

# A non-negative feature more skewed than an exponential distribution (skewness 2) enters linear models as log(1 + x).
SKEWED = 2.0
# Densifying more cells than this (2 GiB of float64) is refused: a sparse matrix is sparse for a reason.
MAX_DENSE_CELLS = 2**28
# Where a sum over all rows is all that is needed, rows are made dense this many cells at a time (128 MiB).
BLOCK_CELLS = 2**24
# A value may lie outside the training range by this fraction of the range: the largest of n values is soon exceeded.
WIDENED = 0.25
# Share of training rows that lie nearer to the training centre than the limit of the distance rule.
DISTANCE_QUANTILE = 0.999
# Likewise for the share of a row's features that is missing; a limit below the floor would reject one missing value.
MISSING_QUANTILE, MISSING_FLOOR = 0.999, 0.25


@dataclass(frozen=True)
class Preprocessing:
    """Maps feature values (n, p), NaN where missing, to the estimator's input (n, q); fitted on training rows only.

    `native` passes values on as they are (trees place missing values themselves). `standardised` takes log(1 + x) of
    `logged` columns, puts the training median in place of a missing value, subtracts the mean, divides by the standard
    deviation and appends one 0/1 column for each column in `indicators` that says whether it was missing. `scaled`, for
    CSR, puts medians in place and divides by the standard deviation only, so that zeros stay zeros.
    """

    scheme: Scheme
    names: tuple[str, ...]
    median: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    logged: np.ndarray
    missing_share: np.ndarray
    indicators: tuple[int, ...] = ()

    @property
    def owners(self) -> np.ndarray:
        """For each of the q input columns, which of the p features it comes from (indicators: their feature)."""
        return np.concatenate([np.arange(len(self.names)), np.array(self.indicators, dtype=np.int64)])

    def reference(self) -> np.ndarray:
        """The mean (1, q) of the estimator's inputs over the training rows."""
        centre = self.mean / self.scale if self.scheme == "scaled" else np.zeros(len(self.names))
        return np.concatenate([centre, self.missing_share[list(self.indicators)]])[None]

    def apply(self, values: Any) -> Any:
        """The estimator's input for (n, p) feature values."""
        if values.shape[1] != len(self.names):
            raise InputError(f"the model reads {len(self.names)} features, got {values.shape[1]}: use its own recipe")
        if self.scheme == "native":
            return values
        if self.scheme == "scaled":
            from scipy.sparse import csr_matrix

            values = values if is_sparse(values) else csr_matrix(values)
            return fill_stored(values, self.median).multiply(1.0 / self.scale).tocsr()
        dense = np.asarray(dense_values(values), dtype=np.float64)
        missing = np.isnan(dense[:, list(self.indicators)]).astype(np.float64)
        filled = np.where(np.isnan(dense), self.median, dense)
        filled[:, self.logged] = np.log1p(np.maximum(filled[:, self.logged], 0.0))
        return np.hstack([(filled - self.mean) / self.scale, missing])


def fit_preprocessing(values: Any, names: tuple[str, ...], scheme: Scheme) -> Preprocessing:
    """Fit on training rows only. `standardised` of a CSR matrix becomes `scaled`."""
    p = len(names)
    zeros, ones, none = np.zeros(p), np.ones(p), np.zeros(p, dtype=bool)
    if scheme == "native":
        return Preprocessing("native", names, zeros, zeros, ones, none, zeros)
    if is_sparse(values):
        median = stored_medians(values)
        mean, variance = column_moments(fill_stored(values, median))
        return Preprocessing("scaled", names, median, mean, positive(np.sqrt(variance)), none, zeros)
    dense = np.asarray(values, dtype=np.float64)
    missing = np.isnan(dense)
    median = np.array([np.median(c[~m]) if not m.all() else 0.0 for c, m in zip(dense.T, missing.T, strict=True)])
    filled = np.where(missing, median, dense)
    logged = skewed_columns(filled)
    filled[:, logged] = np.log1p(filled[:, logged])
    scale = positive(filled.std(axis=0))
    share, indicators = missing.mean(axis=0), distinct_missing(missing)
    return Preprocessing("standardised", names, median, filled.mean(axis=0), scale, logged, share, indicators)


def stored_medians(values: Any) -> np.ndarray:
    """Median of what is not missing, for the columns of a CSR matrix that hold NaN; 0 for the others."""
    columns, median = values.tocsc(), np.zeros(values.shape[1])
    for j in np.unique(values.indices[np.isnan(values.data)]):
        column = columns[:, [j]].toarray()
        median[j] = np.median(column[~np.isnan(column)]) if not np.isnan(column).all() else 0.0
    return median


def fill_stored(values: Any, median: np.ndarray) -> Any:
    """A CSR matrix as float64 with its stored NaN replaced by their column's median."""
    filled = values.astype(np.float64, copy=True)
    missing = np.isnan(filled.data)
    filled.data[missing] = median[filled.indices[missing]]
    return filled


def skewed_columns(filled: np.ndarray) -> np.ndarray:
    """Which columns (n, p) are non-negative, take more than two values and have a skewness above `SKEWED`."""
    deviation = positive(filled.std(axis=0))
    skewness = (((filled - filled.mean(axis=0)) / deviation) ** 3).mean(axis=0)
    candidates = (filled.min(axis=0) >= 0) & (skewness > SKEWED)
    return np.array([bool(c) and len(np.unique(filled[:, j])) > 2 for j, c in enumerate(candidates)], dtype=bool)


def distinct_missing(missing: np.ndarray) -> tuple[int, ...]:
    """The first column of each distinct pattern of missing rows: a code's five aggregations are missing together."""
    seen: dict[bytes, int] = {}
    for j in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)):
        seen.setdefault(np.packbits(missing[:, j]).tobytes(), int(j))
    return tuple(seen.values())


@dataclass(frozen=True)
class TrainingPopulation:
    """The range of the training rows: what a row must look like for the model to have seen its like.

    low, high: (p,) range of each feature, NaN where it was never seen; mean, scale: (p,) of the seen values;
    missing_limit: largest share of missing features; distance_limit: largest root mean square of standardised values.
    """

    rows: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    missing_limit: float
    distance_limit: float

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest accepted value (p,) of each feature: the training range widened by `WIDENED` of itself."""
        margin = WIDENED * (self.high - self.low)
        return self.low - margin, self.high + margin

    def distance(self, block: np.ndarray) -> np.ndarray:
        """Root mean square of the standardised values of each row (n, p), over the features that are not missing."""
        squares = ((block - self.mean) / self.scale) ** 2
        present = np.maximum((~np.isnan(squares)).sum(axis=1), 1)
        return np.sqrt(np.nansum(squares, axis=1) / present)


def fit_population(values: Any) -> TrainingPopulation:
    """Range, centre and limits of the training rows (n, p)."""
    low, high = np.full(values.shape[1], np.inf), np.full(values.shape[1], -np.inf)
    for block in row_blocks(values):
        low, high = np.fmin(low, np.fmin.reduce(block)), np.fmax(high, np.fmax.reduce(block))
    mean, variance = column_moments(values)
    low, high = np.where(np.isfinite(low), low, np.nan), np.where(np.isfinite(high), high, np.nan)
    bare = TrainingPopulation(values.shape[0], low, high, mean, positive(np.sqrt(variance)), 1.0, np.inf)
    shares = np.concatenate([np.isnan(block).mean(axis=1) for block in row_blocks(values)])
    distances = np.concatenate([bare.distance(block) for block in row_blocks(values)])
    missing_limit = max(float(np.quantile(shares, MISSING_QUANTILE)), MISSING_FLOOR)
    distance_limit = float(np.quantile(distances, DISTANCE_QUANTILE))
    return TrainingPopulation(values.shape[0], low, high, mean, bare.scale, missing_limit, distance_limit)


def column_moments(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column over the values that are not missing; 0 where all are."""
    count, total = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for block in row_blocks(values):
        count, total = count + (~np.isnan(block)).sum(axis=0), total + np.nansum(block, axis=0)
    mean = total / np.maximum(count, 1)
    squares = sum((np.nansum((block - mean) ** 2, axis=0) for block in row_blocks(values)), np.zeros_like(mean))
    return mean, squares / np.maximum(count, 1)


def row_blocks(values: Any) -> Iterator[np.ndarray]:
    """Dense float64 blocks of rows, in order."""
    rows = max(1, BLOCK_CELLS // max(values.shape[1], 1))
    for start in range(0, values.shape[0], rows):
        block = values[start : start + rows]
        yield np.asarray(block.toarray() if is_sparse(block) else block, dtype=np.float64)


def dense_values(values: Any) -> np.ndarray:
    """The values as a dense array; InputError if they are too many for that."""
    if not is_sparse(values):
        return np.asarray(values)
    if values.shape[0] * values.shape[1] > MAX_DENSE_CELLS:
        raise InputError(
            f"this model needs dense features, and {values.shape[0]:,} x {values.shape[1]:,} is too many: "
            "raise features.min_subjects, set features.selection.keep_top, or use lightgbm"
        )
    return values.toarray()


def is_sparse(values: Any) -> bool:
    """Whether values is a scipy.sparse matrix, asked without importing scipy."""
    return hasattr(values, "tocsr")


def positive(scale: np.ndarray) -> np.ndarray:
    """A scale to divide by: 1 where the column is constant."""
    return np.where(scale > 1e-12, scale, 1.0)
