"""Estimators of many outputs over sequences: several labels at once, each with a probability, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from careloop import InputError
from careloop.models.sequence.arrays import AnySequences, TokenSpace
from careloop.models.sequence.estimators import Validation, _SequenceEstimator, row_weights
from careloop.models.sequence.fitting import Recipe, SupervisedWork, Targets

if TYPE_CHECKING:
    import torch

FEWEST_COUNTED = 0.5  # rows with, and rows without, a label that a base rate stands for, so that its log-odds are finite
SMALLEST_SPREAD = 1e-6  # relative to the largest number: below it rounding is all the spread there is


class WorkFrom(SupervisedWork):
    """Supervised work that begins at outputs (k,) which are known."""

    def __init__(
        self, training: Targets, validation: Targets | None, loss: Any, recipe: Recipe, *, begin: NDArray[np.float64]
    ) -> None:
        super().__init__(training, validation, loss, recipe)
        self.begin = begin

    def best_constant(self, outputs: int) -> torch.Tensor:
        """The known outputs."""
        import torch

        return torch.from_numpy(self.begin.astype(np.float32))


class _ManyOutputs(_SequenceEstimator):
    """Targets (n, k) with NaN where unknown, their names, and where training begins."""

    def _begin_fit(self, y: ArrayLike, rows: int, names: Sequence[str] | None) -> NDArray[np.float64]:
        """The targets (n, k), with `names_` set."""
        if self.class_weight is not None:
            raise InputError(f"class_weight is for SequenceClassifier only; got {self.class_weight!r}, leave it out")
        values = np.asarray(y, dtype=np.float64)
        self.is_flat_ = values.ndim == 1
        values = two_dimensional(values, rows)
        self.names_ = tuple(names) if names is not None else tuple(str(place) for place in range(values.shape[1]))
        if len(self.names_) != values.shape[1] or len(set(self.names_)) < len(self.names_):
            raise InputError(f"names must be {values.shape[1]} different ones, one a column of y; got {self.names_[:5]}")
        unknown = np.isnan(values).all(axis=0)
        if unknown.any():
            raise InputError(
                f"y: {self.names_[int(unknown.argmax())]} is known of no training row; leave this column out"
            )
        return values

    def _work(self, training: Targets, validation: Targets | None, loss: Any, recipe: Recipe) -> SupervisedWork:
        return WorkFrom(training, validation, loss, recipe, begin=self._begin(training))

    def _begin(self, training: Targets) -> NDArray[np.float64]:
        raise NotImplementedError

    def _targets(self, X: AnySequences, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Targets:
        values = two_dimensional(np.asarray(y, dtype=np.float64), len(X))
        if values.shape[1] != len(self.names_):
            raise InputError(f"validation targets must have the training targets' {len(self.names_)} columns")
        weights = row_weights(sample_weight, len(X)).astype(np.float32)
        return Targets(X, self._scaled(values).astype(np.float32), weights)

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError


class SequenceLabels(_ManyOutputs):
    """Several labels at once (such as next year's diagnoses), each with a probability of its own.

    One network, of which every label has an output; labels are independent of each other given the sequence. Training
    begins at the labels' base rates. A label of a row that is NaN is unknown and counts nowhere.

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

        values = self._begin_fit(y, len(X), options.pop("names", None))
        training = self._targets(X, values, sample_weight)
        self.base_rates_ = base_rates(values, training.weights)
        held = None if validation is None else self._targets(*validation)
        self._fit(training, held, labels_loss, len(self.names_), options | {"space": space})
        return self

    def _begin(self, training: Targets) -> NDArray[np.float64]:
        return np.log(self.base_rates_ / (1 - self.base_rates_))

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not (np.isnan(values) | np.isin(values, (0, 1))).all():
            raise InputError("labels must be 0, 1, or NaN where unknown; got other numbers")
        return values

    def predict_proba(self, X: AnySequences) -> NDArray[np.float64]:
        """Probabilities (n, k) of the labels in the order of `names_`, the mean over the members."""
        return np.mean([expit(outputs) for outputs in self._outputs(X)], axis=0)

    def _own_state(self) -> dict[str, Any]:
        return {"labels": list(self.names_), "base_rates": self.base_rates_.tolist()}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.names_, self.base_rates_ = tuple(state["labels"]), np.asarray(state["base_rates"])


class SequenceRegressor(_ManyOutputs):
    """One or several numbers from event sequences, by squared error of the standardised numbers.

    Each number counts alike whatever its unit: it is standardised by mean and standard deviation of the training rows,
    and predicted in its own unit. NaN is unknown and counts nowhere.

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

        values = self._begin_fit(y, len(X), options.pop("names", None))
        if np.isinf(values).any():
            raise InputError("numbers to predict must be finite, or NaN where unknown; got infinite ones")
        self.means_, self.spreads_ = means_and_spreads(values, row_weights(sample_weight, len(X)))
        training = self._targets(X, values, sample_weight)
        held = None if validation is None else self._targets(*validation)
        self._fit(training, held, squared_loss, len(self.names_), options | {"space": space})
        return self

    def _begin(self, training: Targets) -> NDArray[np.float64]:
        return np.zeros(len(self.names_))  # the standardised mean

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (values - self.means_) / self.spreads_

    def predict(self, X: AnySequences) -> NDArray[np.float64]:
        """The numbers in their own units, (n, k), or (n,) where y was; the mean over the members."""
        found = np.mean(self._outputs(X), axis=0) * self.spreads_ + self.means_
        return found[:, 0] if self.is_flat_ else found

    def _own_state(self) -> dict[str, Any]:
        numbers = {"means": self.means_.tolist(), "spreads": self.spreads_.tolist()}
        return {"numbers": list(self.names_), "is_flat": self.is_flat_, **numbers}

    def _take_state(self, state: dict[str, Any]) -> None:
        self.names_, self.is_flat_ = tuple(state["numbers"]), state["is_flat"]
        self.means_, self.spreads_ = np.asarray(state["means"]), np.asarray(state["spreads"])


def two_dimensional(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Values (n,) or (n, k) as (n, k). InputError for any other shape."""
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise InputError(f"y must have {rows} rows of one or more columns; got shape {values.shape}")
    return values


def base_rates(values: NDArray[np.float64], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Share (k,) of the known rows of (n, k) that have each label, by weight, short of 0 and of 1."""
    shares = ~np.isnan(values) * np.asarray(weights, dtype=np.float64)[:, None]
    known, having = shares.sum(axis=0), (shares * np.nan_to_num(values)).sum(axis=0)
    fewest = np.minimum(FEWEST_COUNTED, known / 2)
    return np.divide(np.clip(having, fewest, known - fewest), known, out=np.full_like(known, 0.5), where=known > 0)


def means_and_spreads(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (k,) of the known rows of (n, k), by weight; 1 for a number that never differs."""
    shares = ~np.isnan(values) * weights[:, None]
    total = np.maximum(shares.sum(axis=0), np.finfo(np.float64).tiny)
    means = (shares * np.nan_to_num(values)).sum(axis=0) / total
    squares = (shares * np.nan_to_num(values - means) ** 2).sum(axis=0) / total
    largest = np.nanmax(np.abs(values), axis=0)
    spreads = np.sqrt(squares)
    return means, np.where(spreads > SMALLEST_SPREAD * largest, spreads, 1.0)
