"""Estimators of many outputs over sequences: several labels at once, each with a probability, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from careloop import InputError
from careloop.models.inputs import Floats
from careloop.models.sequence.arrays import AnySequences, TokenSpace
from careloop.models.sequence.estimators import Validation, _SequenceEstimator, row_weights
from careloop.models.sequence.training.fitting import Recipe, SupervisedWork, Targets

if TYPE_CHECKING:
    import torch

FEWEST_COUNTED = 0.5  # rows with a label, and rows without, that a base rate stands for: its log-odds stay finite
SMALLEST_SPREAD = 1e-6  # relative to the largest number: a smaller standard deviation is rounding


class SequenceLabels(_SequenceEstimator):
    """Several labels at once (such as next year's diagnoses), each with a probability of its own.

    One network with an output a label; given the sequence, labels are taken as independent of each other. Training
    begins at the labels' base rates. A label that is NaN in a row is unknown and does not count.

    Fitted: `networks_`, `names_`, `base_rates_` (k,) of the training rows, `epochs_`, `space_`.
    """

    def fit(
        self,
        X: AnySequences,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        space: TokenSpace,
        validation: Validation | None = None,
        **options: Any,
    ) -> Self:
        """Fit on rows X (n) and labels y (n, k) of 0, 1 or NaN.

        Options as `SequenceClassifier.fit` has them, and `names` (k) of the labels, their numbers by default.
        """
        from careloop.models.sequence.losses import labels_loss

        refuse_class_weight(self.class_weight)
        self.names_ = target_names(columns_of(y, len(X)), options.pop("names", None))
        training = self._targets(X, y, sample_weight)
        self.base_rates_ = base_rates(training)
        held = None if validation is None else self._targets(*validation)
        self._fit(training, held, labels_loss, len(self.names_), options | {"space": space})
        return self

    def _targets(self, X: AnySequences, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Targets:
        values = columns_of(y, len(X), wanted=len(self.names_))
        if not (np.isnan(values) | (values == 0) | (values == 1)).all():
            raise InputError("labels must be 0, 1, or NaN where unknown; got other numbers")
        return Targets(X, values.astype(np.float32), row_weights(sample_weight, len(X)).astype(np.float32))

    def _work(self, training: Targets, validation: Targets | None, loss: Any, recipe: Recipe) -> SupervisedWork:
        return LabelsWork(training, validation, loss, recipe)

    def predict_proba(self, X: AnySequences) -> Floats:
        """Probabilities (n, k) of the labels in the order of `names_`, the mean over the members."""
        return np.mean([expit(outputs) for outputs in self._outputs(X)], axis=0)

    def _own_state(self) -> dict[str, Any]:
        return {"labels": list(self.names_), "base_rates": self.base_rates_.tolist()}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.names_, self.base_rates_ = tuple(state["labels"]), np.asarray(state["base_rates"])


class LabelsWork(SupervisedWork):
    """Supervised work on labels, whose best constant has a closed form; a search would miss that of rare labels."""

    def best_constant(self, outputs: int) -> torch.Tensor:
        """The log-odds (k,) of the base rates."""
        import torch

        return torch.from_numpy(logit(base_rates(self.training)).astype(np.float32))


class SequenceRegressor(_SequenceEstimator):
    """One or several numbers from event sequences, by squared error of the standardised numbers.

    Each number counts alike whatever its unit: it is standardised by mean and standard deviation of the training rows,
    and predicted in its own unit. NaN is unknown and does not count.

    Fitted: `networks_`, `names_`, `means_` (k,), `spreads_` (k,), `epochs_`, `space_`.
    """

    def fit(
        self,
        X: AnySequences,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        space: TokenSpace,
        validation: Validation | None = None,
        **options: Any,
    ) -> Self:
        """Fit on rows X (n) and numbers y (n,) or (n, k); options as `SequenceLabels.fit` has them."""
        from careloop.models.sequence.losses import squared_loss

        refuse_class_weight(self.class_weight)
        values = columns_of(y, len(X))
        self.names_ = target_names(values, options.pop("names", None))
        self.means_, self.spreads_ = means_and_spreads(values, row_weights(sample_weight, len(X)))
        training = self._targets(X, y, sample_weight)
        held = None if validation is None else self._targets(*validation)
        self._fit(training, held, squared_loss, len(self.names_), options | {"space": space})
        return self

    def _targets(self, X: AnySequences, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Targets:
        values = columns_of(y, len(X), wanted=len(self.names_))
        scaled = (values - self.means_) / self.spreads_
        return Targets(X, scaled.astype(np.float32), row_weights(sample_weight, len(X)).astype(np.float32))

    def predict(self, X: AnySequences) -> Floats:
        """The numbers (n, k) in their own units, in the order of `names_`; the mean over the members."""
        return np.mean(self._outputs(X), axis=0) * self.spreads_ + self.means_

    def _own_state(self) -> dict[str, Any]:
        return {"numbers": list(self.names_), "means": self.means_.tolist(), "spreads": self.spreads_.tolist()}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.names_ = tuple(state["numbers"])
        self.means_, self.spreads_ = np.asarray(state["means"]), np.asarray(state["spreads"])


def refuse_class_weight(class_weight: str | None) -> None:
    """InputError where classes are to be weighted."""
    if class_weight is not None:
        raise InputError(f"class_weight is for SequenceClassifier only; got {class_weight!r}, leave it out")


def columns_of(y: ArrayLike, rows: int, *, wanted: int | None = None) -> Floats:
    """Targets (n,) or (n, k) as (n, k). InputError for another shape, other than `wanted` columns, or infinity."""
    values = np.asarray(y, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise InputError(f"y must have {rows} rows of one or more columns; got shape {values.shape}")
    if np.isinf(values).any():
        raise InputError("y must hold finite numbers, or NaN where unknown; got infinite ones")
    if wanted is not None and values.shape[1] != wanted:
        raise InputError(f"y must have as many columns as there are names, {wanted}; got {values.shape[1]}")
    return values


def target_names(values: Floats, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the columns of (n, k). InputError where they do not fit, or no row of a column is known."""
    found = tuple(map(str, range(values.shape[1]))) if names is None else tuple(names)
    if len(found) != values.shape[1] or len(set(found)) < len(found):
        raise InputError(f"names must be {values.shape[1]} different ones, one a column of y; got {len(set(found))}")
    unknown = np.isnan(values).all(axis=0)
    if unknown.any():
        raise InputError(f"y: {found[int(unknown.argmax())]} is known of no training row; leave this column out")
    return found


def base_rates(training: Targets) -> Floats:
    """Share (k,) of the rows that have each label, of those of which it is known, by weight; short of 0 and of 1."""
    shares = ~np.isnan(training.values) * training.weights[:, None].astype(np.float64)
    known, having = shares.sum(axis=0), (shares * np.nan_to_num(training.values)).sum(axis=0)
    fewest = np.minimum(FEWEST_COUNTED, known / 2)
    having = np.clip(having, fewest, known - fewest)
    return np.divide(having, known, out=np.full_like(known, 0.5), where=known > 0)


def means_and_spreads(values: Floats, weights: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation (k,) of the known rows of (n, k), by weight; 1 for a number that never differs."""
    shares = ~np.isnan(values) * weights[:, None]
    total = np.maximum(shares.sum(axis=0), np.finfo(np.float64).tiny)
    means = (shares * np.nan_to_num(values)).sum(axis=0) / total
    spreads = np.sqrt((shares * np.nan_to_num(values - means) ** 2).sum(axis=0) / total)
    return means, np.where(spreads > SMALLEST_SPREAD * np.nanmax(np.abs(values), axis=0), spreads, 1.0)
