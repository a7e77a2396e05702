"""A discrete-time hazard by LightGBM on person-period rows, and cumulative incidence from two causes' hazards."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.inputs import Floats, check_matrix, check_survival, step_values

SMALLEST_SURVIVAL = 1e-12  # keeps -log S finite where a curve reaches zero
MANY_EVENTS = 2000  # above, one fold chooses the rounds: its deviance is steady, in a fifth of the time
PREDICT_ROWS = 200_000  # person-period rows expanded at once


class BoostedHazard(BaseEstimator):
    """Boosted trees for the hazard per period of time; its methods are scikit-survival's.

    Follow-up is cut at quantiles of the event times into `periods`; every person gives one row for every period
    entered, with the period's number as one more column, and LightGBM learns the probability of the event within it. A
    person censored within a period counts by the fraction of it that was observed. The number of rounds is the one with
    the best deviance in `folds`-fold cross-validation by person within the training rows (seeded); then all rows are
    learnt. Missing values and CSR matrices are taken.

    Fitted: `unique_times_` (k,) event times, `cuts_` (periods + 1,) period bounds, `rounds_`, `booster_`.

    Sources: Allison 1982 (Sociological Methodology 13); Tutz and Schmid 2016, Modeling Discrete Time-to-Event Data.
    """

    def __init__(
        self,
        *,
        periods: int = 20,
        learning_rate: float = 0.05,
        num_leaves: int = 6,
        min_child_samples: int = 20,
        max_rounds: int = 500,
        folds: int = 5,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        self.periods = periods
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.max_rounds = max_rounds
        self.folds = folds
        self.seed = seed
        self.threads = threads

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on X (n, p), missing values allowed, and y (n,), a structured array of event and time."""
        import lightgbm

        matrix = self._matrix(X, ensure_min_samples=2)
        event, time = check_survival(y, matrix.shape[0])
        self.unique_times_ = np.unique(time[event])
        self.cuts_ = period_bounds(time[event], self.periods)
        person, period, label, weight = person_periods(event, time, self.cuts_)
        parameters = self._parameters()
        rows = lightgbm.Dataset(_with_period(matrix[person], period), label, weight=weight, params=parameters)
        self.rounds_ = self._choose_rounds(rows, person, event)
        self.booster_ = lightgbm.train(parameters, rows, self.rounds_)
        return self

    def _matrix(self, X: Any, **rules: Any) -> Any:
        return check_matrix(self, X, dtype=np.float32, accept_sparse="csr", ensure_all_finite="allow-nan", **rules)

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_child_samples,
            "feature_fraction": 0.8,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "seed": self.seed,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def _choose_rounds(self, rows: Any, person: NDArray[np.intp], event: NDArray[np.bool_]) -> int:
        import lightgbm

        people = len(event)
        fold_of = np.random.default_rng(self.seed).permutation(people) % min(self.folds, people)
        used = np.unique(fold_of)[:1] if event.sum() > MANY_EVENTS else np.unique(fold_of)
        folds = [(np.flatnonzero(fold_of[person] != f), np.flatnonzero(fold_of[person] == f)) for f in used]
        stop = lightgbm.early_stopping(50, verbose=False)
        found: Any = lightgbm.cv(self._parameters(), rows, self.max_rounds, folds=folds, callbacks=[stop])
        return len(found["valid binary_logloss-mean"])

    def _raw_hazard(self, X: Any) -> Floats:
        """Log odds of the event in every period (n, periods)."""
        check_is_fitted(self)
        matrix = self._matrix(X, reset=False)
        periods = len(self.cuts_) - 1
        at_once = max(1, PREDICT_ROWS // periods)
        parts = [
            self.booster_.predict(
                every_period(matrix[start : start + at_once], periods), raw_score=True, num_threads=self.threads
            )
            for start in range(0, matrix.shape[0], at_once)
        ]
        return np.concatenate(parts).reshape(-1, periods)

    def predict(self, X: Any) -> Floats:
        """Risk score (n,): the log of the cumulative hazard at the end of the last period."""
        return np.log(np.logaddexp(0, self._raw_hazard(X)).sum(axis=1))

    def predict_survival_function(self, X: Any, return_array: Literal[True] = True) -> Floats:
        """Survival probabilities (n, k) at `unique_times_`; the hazard is constant within a period."""
        # -log(1 - sigmoid(z)) = log(1 + exp(z)): the cumulative hazard gained in a period
        return survival_curves(np.logaddexp(0, self._raw_hazard(X)), self.cuts_, self.unique_times_)

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters and LightGBM's model text for JSON, and arrays by name."""
        check_is_fitted(self)
        plain = {"parameters": self.get_params(), "rounds": self.rounds_, "columns": self.n_features_in_}
        return plain | {"booster": self.booster_.model_to_string()}, {
            "cuts": self.cuts_,
            "unique_times": self.unique_times_,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `get_state` described."""
        import lightgbm

        model = cls(**state["parameters"])
        model.rounds_, model.n_features_in_ = state["rounds"], state["columns"]
        model.booster_ = lightgbm.Booster(model_str=state["booster"])
        model.cuts_, model.unique_times_ = np.asarray(arrays["cuts"]), np.asarray(arrays["unique_times"])
        return model


def period_bounds(event_times: Floats, periods: int) -> Floats:
    """0 and the quantiles of the event times (k + 1,) with k <= periods; ties give fewer periods."""
    if periods < 1:
        raise InputError(f"A discrete-time hazard needs at least one period; got periods={periods}.")
    quantiles = np.quantile(event_times, np.arange(1, periods + 1) / periods, method="higher")
    bounds = np.unique(np.concatenate([[0.0], quantiles]))
    return bounds if len(bounds) > 1 else np.array([0.0, 1.0])  # every event at time zero


def person_periods(
    event: NDArray[np.bool_], time: Floats, cuts: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_], Floats]:
    """Person (row of X), period, event in it and observed fraction of person-periods; periods are (start, end]."""
    periods = len(cuts) - 1
    last = np.clip(np.searchsorted(cuts, time, side="left") - 1, 0, periods - 1)
    person = np.repeat(np.arange(len(time)), last + 1)
    period = np.arange(len(person)) - np.repeat(np.cumsum(last + 1) - (last + 1), last + 1)
    is_last = period == last[person]
    label = is_last & event[person]
    observed = np.clip((time[person] - cuts[period]) / (cuts[period + 1] - cuts[period]), 0.0, 1.0)
    weight = np.where(is_last & ~label, observed, 1.0)
    seen = weight > 0
    return person[seen], period[seen], label[seen], weight[seen]


def survival_curves(gained: Floats, cuts: Floats, times: Floats) -> Floats:
    """Survival probabilities (n, k) at `times` (k,), the cumulative hazard gained in each period being (n, periods)."""
    total = np.concatenate([np.zeros((len(gained), 1)), np.cumsum(gained, axis=1)], axis=1)
    after = np.clip(np.searchsorted(cuts, times, side="left"), 1, len(cuts) - 1)
    start, end = cuts[after - 1], cuts[after]
    passed = (times - start) / (end - start)
    return np.exp(-(total[:, after - 1] * (1 - passed) + total[:, after] * passed))


def every_period(matrix: Any, periods: int) -> Any:
    """Every row of X with every period (n * periods, p + 1), person by person."""
    rows = matrix.shape[0]
    return _with_period(matrix[np.repeat(np.arange(rows), periods)], np.tile(np.arange(periods), rows))


def _with_period(matrix: Any, period: NDArray[np.intp]) -> Any:
    column = period.astype(np.float32)[:, None]
    if scipy.sparse.issparse(matrix):
        return scipy.sparse.hstack([matrix, column], format="csr")
    return np.hstack([matrix, column])


def survival_at(estimator: Any, X: Any, times: ArrayLike) -> Floats:
    """Survival probabilities (n, t) of any fitted survival estimator at `times` (t,), as steps of its own curve."""
    return step_values(estimator.predict_survival_function(X, return_array=True), estimator.unique_times_, times)


def cumulative_incidence(first: Any, second: Any, X: Any, times: ArrayLike) -> Floats:
    """Probability (n, t) that the first cause happens by each of `times`, with the second cause competing.

    `first` and `second` are survival estimators fitted on the same rows, each with only its own cause as the event
    (cause-specific hazards). Between the two fits' event times the loss of all-cause survival exp(-(H1 + H2)) is shared
    out by the hazards' increments, so the two incidences and the survival sum to 1. Source: Putter, Fiocco and Geskus
    2007 (Statistics in Medicine 26, section 3.2).
    """
    grid = np.union1d(first.unique_times_, second.unique_times_)
    gained = [
        np.diff(-np.log(np.clip(survival_at(model, X, grid), SMALLEST_SURVIVAL, 1.0)), prepend=0.0)
        for model in (first, second)
    ]
    both = gained[0] + gained[1]
    survival = np.exp(-np.cumsum(both, axis=1))
    lost = -np.diff(survival, prepend=1.0)
    share = np.divide(gained[0], both, out=np.zeros_like(both), where=both > 0)
    incidence = np.cumsum(share * lost, axis=1)
    return 1.0 - step_values(1.0 - incidence, grid, times)
