"""Gradient-boosted trees for a binary outcome: LightGBM, deterministic, with early stopping on given rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.inputs import check_labels, check_matrix, check_weights


class LightGBM(ClassifierMixin, BaseEstimator):
    """LightGBM binary classifier; missing values and CSR matrices are taken as they are.

    With `validation` in `fit` rounds end after `patience` rounds without a better log loss there; otherwise
    `n_estimators` are made.

    Fitted: `booster_` (lightgbm.Booster), `classes_`.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_child_samples: int = 20,
        reg_lambda: float = 1.0,
        subsample: float = 0.8,
        colsample_bytree: float = 0.8,
        patience: int = 50,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.patience = patience
        self.seed = seed
        self.threads = threads

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, validation: tuple[Any, ...] | None = None
    ) -> Self:
        """Fit on X (n, p), NaN allowed, and two classes y (n,); `validation` is (X, y) or (X, y, sample_weight)."""
        import lightgbm

        matrix, labels = self._matrix(X, y=y)
        self.classes_, targets = check_labels(labels)
        parameters = self._parameters()
        rows = lightgbm.Dataset(matrix, targets, weight=check_weights(sample_weight, matrix), params=parameters)
        held = [] if validation is None else [self._validation_rows(rows, *validation)]
        stop: list[Callable[..., Any]] = [lightgbm.early_stopping(self.patience, verbose=False)] if held else []
        booster = lightgbm.train(parameters, rows, self.n_estimators, valid_sets=held, callbacks=stop)
        self.booster_ = lightgbm.Booster(
            model_str=booster.model_to_string(num_iteration=booster.best_iteration or None)
        )
        return self

    def _matrix(self, X: Any, **rules: Any) -> Any:
        return check_matrix(self, X, dtype=np.float32, accept_sparse="csr", ensure_all_finite="allow-nan", **rules)

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_child_samples,
            "lambda_l2": self.reg_lambda,
            "bagging_fraction": self.subsample,
            "bagging_freq": 1,
            "feature_fraction": self.colsample_bytree,
            "seed": self.seed,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def _validation_rows(self, rows: Any, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        matrix, labels = self._matrix(X, y=y, reset=False)
        if not np.isin(labels, self.classes_).all():
            raise InputError("The validation labels hold a class that the training labels lack; draw the split again.")
        return rows.create_valid(matrix, labels == self.classes_[1], weight=check_weights(sample_weight, matrix))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-odds (n,) of the second class."""
        check_is_fitted(self)
        matrix = self._matrix(X, reset=False)
        return np.asarray(self.booster_.predict(matrix, raw_score=True, num_threads=self.threads))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (n, 2) of the two `classes_`."""
        probability = expit(self.decision_function(X))
        return np.column_stack([1 - probability, probability])

    def predict(self, X: Any) -> NDArray[Any]:
        """The likelier class (n,)."""
        likelier = (self.decision_function(X) > 0).astype(int)
        return self.classes_[likelier]

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Share of the total gain that every column brought (p,)."""
        check_is_fitted(self)
        gain = self.booster_.feature_importance("gain")
        return gain / max(gain.sum(), np.finfo(float).tiny)

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters and LightGBM's model text for JSON; there are no arrays."""
        check_is_fitted(self)
        plain = {"parameters": self.get_params(), "classes": self.classes_.tolist(), "columns": self.n_features_in_}
        return plain | {"booster": self.booster_.model_to_string()}, {}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `get_state` described."""
        import lightgbm

        model = cls(**state["parameters"])
        model.classes_, model.n_features_in_ = np.asarray(state["classes"]), state["columns"]
        model.booster_ = lightgbm.Booster(model_str=state["booster"])
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags
