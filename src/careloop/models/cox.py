"""Cox's proportional hazards model: Newton's method on the ridge-penalised Efron partial likelihood."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from careloop import InputError
from careloop.models.inputs import Floats, check_matrix, check_survival

MAX_HALVINGS = 30  # 2**-30 of a Newton step is below what float64 can tell apart in the likelihood


class CoxPH(BaseEstimator):
    """Cox regression with Efron's treatment of ties; its methods are scikit-survival's.

    `l2` penalises half the squared coefficients of standardised columns, per event, so that its meaning depends neither
    on units nor on the sample's size; it is what keeps collinear or separating columns finite. `l2=0` is the plain
    partial likelihood.

    Fitted: `coef_` (p,) log hazard ratios per unit of X, `mean_` (p,), `unique_times_` (k,) the event times,
    `baseline_survival_` (k,) at X = mean_, `log_likelihood_`, `covariance_` (p, p) inverse of the penalised
    information.

    Sources: Cox 1972 (JRSS B 34); Efron 1977 (JASA 72) for ties in likelihood and baseline.
    """

    def __init__(self, l2: float = 1e-4, *, tolerance: float = 1e-9, max_iterations: int = 50) -> None:
        self.l2 = l2
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on X (n, p) without missing values and y (n,), a structured array of event and time."""
        if self.l2 < 0:
            raise InputError(f"The ridge penalty l2 must not be negative; got {self.l2}.")
        matrix = check_matrix(self, X, dtype=np.float64, ensure_min_samples=2)
        event, time = check_survival(y, len(matrix))
        self.mean_ = matrix.mean(axis=0)
        spread = matrix.std(axis=0)
        spread[spread <= 1e-12 * np.maximum(1.0, np.abs(self.mean_))] = 1.0  # a constant column: rounding is no spread
        risk_sets = _RiskSets.of((matrix - self.mean_) / spread, event, time)
        coefficients, information = self._maximise(risk_sets)
        self.coef_ = coefficients / spread
        self.covariance_ = np.linalg.pinv(information, hermitian=True) / np.outer(spread, spread)
        self.unique_times_, hazard = risk_sets.baseline_hazard(coefficients)
        self.baseline_survival_ = np.exp(-np.cumsum(hazard))
        return self

    def _maximise(self, risk_sets: _RiskSets) -> tuple[Floats, Floats]:
        """Coefficients of the standardised columns and the penalised information at the maximum."""
        penalty = self.l2 * risk_sets.events
        at = np.zeros(risk_sets.X.shape[1])
        value, gradient, information = risk_sets.derivatives(at)
        information += penalty * np.eye(len(at))
        for _ in range(self.max_iterations):
            step = _solve(information, gradient - penalty * at)
            for _ in range(MAX_HALVINGS):
                new, new_gradient, new_information = risk_sets.derivatives(at + step)
                new -= 0.5 * penalty * ((at + step) ** 2).sum()
                if new >= value:
                    break
                step = step / 2
            else:
                break  # no step along Newton's direction gains anything: this is the maximum to float64's precision
            gained, value, at, gradient = new - value, new, at + step, new_gradient
            information = new_information + penalty * np.eye(len(at))
            if gained <= self.tolerance * (1 + abs(value)) and np.abs(step).max() <= np.sqrt(self.tolerance):
                break
        else:
            warnings.warn("CoxPH did not converge; raise l2 or max_iterations.", ConvergenceWarning, stacklevel=3)
        self.log_likelihood_ = float(value + 0.5 * penalty * (at**2).sum())
        return at, information

    def predict(self, X: Any) -> Floats:
        """Log hazard ratio (n,) against a person with the training means."""
        check_is_fitted(self)
        return (check_matrix(self, X, dtype=np.float64, reset=False) - self.mean_) @ self.coef_

    def predict_survival_function(self, X: Any, return_array: Literal[True] = True) -> Floats:
        """Survival probabilities (n, k) at `unique_times_`."""
        with np.errstate(over="ignore", divide="ignore"):
            return np.exp(np.outer(np.exp(self.predict(X)), np.log(self.baseline_survival_)))

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Parameters and figures for JSON, and arrays by name; `from_state` gives the same predictions bit for bit."""
        check_is_fitted(self)
        plain = {"parameters": self.get_params(), "log_likelihood": self.log_likelihood_}
        return plain, {name: getattr(self, f"{name}_") for name in _ARRAYS}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `get_state` described."""
        model = cls(**state["parameters"])
        for name in _ARRAYS:
            setattr(model, f"{name}_", np.asarray(arrays[name]))
        model.log_likelihood_ = state["log_likelihood"]
        model.n_features_in_ = len(model.coef_)
        return model


_ARRAYS = ("coef", "mean", "covariance", "unique_times", "baseline_survival")


def _solve(information: Floats, gradient: Floats) -> Floats:
    try:
        return cho_solve(cho_factor(information), gradient)
    except LinAlgError:  # collinear columns and no ridge: the shortest of the equally good steps
        return np.linalg.lstsq(information, gradient, rcond=None)[0]


@dataclass(frozen=True)
class _RiskSets:
    """Rows sorted by time, latest first, so that every risk set is a prefix and its sums are cumulative sums.

    The d deaths tied at one time have d terms; the l-th (l = 0..d-1) takes the share l/d of the tied deaths out of the
    risk set.
    """

    X: Floats  # (n, p), standardised
    died: NDArray[np.intp]  # (d,) rows that died
    prefix_end: NDArray[np.intp]  # (d,) last row of the term's risk set
    share: Floats  # (d,) l/d of the term
    group: NDArray[np.intp]  # (d,) event time of the term, 0 = latest
    times: Floats  # (g,) event times, latest first

    @classmethod
    def of(cls, X: Floats, event: NDArray[np.bool_], time: Floats) -> _RiskSets:
        order = np.lexsort((~event, -time))
        X, event, time = X[order], event[order], time[order]
        died = np.flatnonzero(event)
        times, first, group, deaths = np.unique(-time[died], return_index=True, return_inverse=True, return_counts=True)
        share = (np.arange(len(died)) - first[group]) / deaths[group]
        prefix_end = np.searchsorted(-time, -time[died], side="right") - 1
        return cls(X, died, prefix_end, share, group, -times)

    @property
    def events(self) -> int:
        return len(self.died)

    def _risks(self, coefficients: Floats) -> tuple[Floats, Floats, Floats, float]:
        """Linear predictor, exp of it (n,), the risk total of every term (d,), and the shift that kept exp finite."""
        score = self.X @ coefficients
        shift = score.max()
        risk = np.exp(score - shift)
        tied = np.bincount(self.group, weights=risk[self.died])
        total = np.cumsum(risk)[self.prefix_end] - self.share * tied[self.group]
        return score, risk, np.maximum(total, np.finfo(float).tiny), shift

    def derivatives(self, coefficients: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood, its gradient (p,) and its information (p, p), in O(n p^2) by two matrix products."""
        score, risk, total, shift = self._risks(coefficients)
        weighted = self.X * risk[:, None]
        tied = np.zeros((len(self.times), self.X.shape[1]))
        np.add.at(tied, self.group, weighted[self.died])
        means = np.cumsum(weighted, axis=0)[self.prefix_end] - self.share[:, None] * tied[self.group]
        means /= total[:, None]
        value = float((score[self.died] - shift - np.log(total)).sum())
        gradient = self.X[self.died].sum(axis=0) - means.sum(axis=0)
        # A row counts with 1/total in every term whose risk set holds it, less the shares of its own ties.
        ends = np.bincount(self.prefix_end, weights=1 / total, minlength=len(risk))
        weight = np.cumsum(ends[::-1])[::-1]
        weight[self.died] -= np.bincount(self.group, weights=self.share / total)[self.group]
        return value, gradient, (weighted * weight[:, None]).T @ self.X - means.T @ means

    def baseline_hazard(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Event times in rising order (k,) and Efron's hazard increments at them for X = 0 (k,)."""
        _, _, total, shift = self._risks(coefficients)
        increments = np.bincount(self.group, weights=np.exp(-shift) / total).astype(np.float64)
        return self.times[::-1].copy(), increments[::-1].copy()
