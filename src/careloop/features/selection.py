"""Keep fewer columns: of correlated ones one, then the most important; decided on training rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from careloop import InputError
from careloop.features.definition import SelectionSection
from careloop.features.matrix import FeatureMatrix

BLOCK = 256  # columns whose correlations with all others are held at a time
PERMUTATIONS = 5
HELD_APART = 0.25  # share of subjects on which permutation importance is measured
SEED = 0


def select_columns(
    matrix: FeatureMatrix, y: ArrayLike, weights: ArrayLike | None, selection: SelectionSection
) -> tuple[str, ...]:
    """The names to keep, in the matrix's order; `matrix`, `y` and `weights` are those of training rows.

    First, of two columns whose absolute correlation is above `correlation_above`, the one with more missing values
    goes, then the one whose name sorts later. Then the `keep_top` most important of the rest stay. `y` (n,) holds two
    classes, `weights` (n,) are sample weights or null for equal ones. Without either rule all names are returned.

    Raises:
        InputError: `y` has another length than the matrix, or not two classes.
    """
    labels = np.asarray(y)
    if labels.shape != (matrix.keys.height,):
        raise InputError(f"selection: y must have one label a row, {matrix.keys.height}, got shape {labels.shape}")
    kept = np.arange(len(matrix.names))
    if selection.correlation_above is not None:
        kept = uncorrelated(matrix.values, matrix.names, selection.correlation_above)
    if selection.keep_top is not None and selection.keep_top < len(kept):
        narrowed = matrix.select([matrix.names[i] for i in kept])
        gains = _importance(narrowed, labels, weights, selection.by)
        # Ties go to the earlier name, so that the result does not depend on the order of columns.
        order = sorted(range(len(kept)), key=lambda i: (-gains[i], narrowed.names[i]))
        kept = np.sort(kept[order[: selection.keep_top]])
    return tuple(matrix.names[i] for i in kept)


def uncorrelated(values: Any, names: Sequence[str], threshold: float) -> np.ndarray:
    """Columns that stay when of each pair with absolute Pearson correlation above `threshold` one goes.

    Columns are taken by fewest missing values, then name; each stays unless it is correlated with one that stayed.
    Missing values take the column's mean: for two columns missing in the same rows that is the correlation of the
    known values, and columns missing in different rows are less alike.
    """
    missing = _missing(values)
    order = np.array(sorted(range(len(names)), key=lambda i: (missing[i], names[i])), dtype=np.int64)
    stayed = np.zeros(len(names), dtype=bool)
    for begin in range(0, len(order), BLOCK):
        block = order[begin : begin + BLOCK]
        rivals = np.concatenate([np.flatnonzero(stayed), block])
        alike = np.abs(_correlations(values, block, rivals)) > threshold
        for i, column in enumerate(block):
            stayed[column] = not (alike[i] & stayed[rivals]).any()
    return np.flatnonzero(stayed)


def _missing(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return np.isnan(values).sum(axis=0)
    return np.bincount(values.indices[np.isnan(values.data)], minlength=values.shape[1])


def _correlations(values: Any, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlations (left, right) with missing values at the mean; 0 for a column without variation."""
    result = np.empty((len(left), len(right)))
    standard_left = _standard(values, left)
    for begin in range(0, len(right), BLOCK):
        part = slice(begin, begin + BLOCK)
        result[:, part] = standard_left.T @ _standard(values, right[part])
    return result


def _standard(values: Any, columns: np.ndarray) -> np.ndarray:
    """Columns (n, k) with mean 0 and length 1, missing values at 0."""
    part = values[:, columns]
    part = part.astype(np.float64) if isinstance(part, np.ndarray) else part.toarray().astype(np.float64)
    known = ~np.isnan(part)
    part[~known] = 0
    part -= part.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    part[~known] = 0
    length = np.sqrt((part**2).sum(axis=0))
    return part / np.where(length > 0, length, 1)


def _importance(matrix: FeatureMatrix, y: np.ndarray, weights: ArrayLike | None, by: str) -> np.ndarray:
    from careloop.models import LightGBM

    sample_weight = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if by == "gain":
        return LightGBM(seed=SEED).fit(matrix.values, y, sample_weight).feature_importances_
    return _permutation_importance(matrix, y, sample_weight)


def _permutation_importance(matrix: FeatureMatrix, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rise of the weighted log loss on subjects held apart from the fit when a column is permuted, mean of several."""
    from sklearn.metrics import log_loss

    from careloop.models import LightGBM

    random = np.random.default_rng(SEED)
    subjects = np.unique(matrix.keys["subject_id"].to_numpy())
    apart = np.isin(
        matrix.keys["subject_id"].to_numpy(), random.permutation(subjects)[: int(len(subjects) * HELD_APART)]
    )
    model = LightGBM(seed=SEED).fit(matrix.values[~apart], y[~apart], weights[~apart])

    def loss(values: Any) -> float:
        return log_loss(y[apart], model.predict_proba(values), sample_weight=weights[apart], labels=model.classes_)

    held = matrix.values[apart]
    before = loss(held)
    rise = np.zeros(held.shape[1])
    # A column that no tree uses cannot change a prediction.
    for column in np.flatnonzero(model.feature_importances_):
        losses = [loss(_permuted(held, int(column), random)) for _ in range(PERMUTATIONS)]
        rise[column] = np.mean(losses) - before
    return rise


def _permuted(values: Any, column: int, random: np.random.Generator) -> Any:
    order = random.permutation(values.shape[0])
    if isinstance(values, np.ndarray):
        shuffled = values.copy()
        shuffled[:, column] = values[order, column]
        return shuffled
    from scipy.sparse import hstack

    return hstack([values[:, :column], values[order][:, [column]], values[:, column + 1 :]], format="csr")
