"""Regressions learned for adjustment: a penalised linear model or small trees, whichever predicts better.

The candidate with the lowest cross-validated loss on the rows it is fitted on is taken; with few rows only linear ones
stand. None of them needs to be right for the effects to be right (see `doubly_robust`), only reasonably close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Array = np.ndarray

PENALTIES = (0.01, 0.1, 1.0)  # inverse strengths C of the logistic models and proportional hazards tried
RIDGE_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
INNER_FOLDS = 3
FEWEST_FOR_TREES = 200
TREES: dict[str, Any] = {
    "n_estimators": 80,
    "learning_rate": 0.06,
    "num_leaves": 7,
    "min_child_samples": 20,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "random_state": 0,
}

Predictor = Callable[[Array], Array]


def fit_regression(covariates: Array, target: Array, weight: Array, *, kind: Literal["risk", "mean"]) -> Predictor:
    """Fit the candidate with the lowest cross-validated loss; a constant where the target does not vary."""
    if len(target) == 0 or np.ptp(target) == 0.0 or covariates.shape[1] == 0:
        constant = float(np.average(target, weights=weight)) if len(target) else 0.0
        return lambda rows: np.full(len(rows), constant)
    rare = min((target == 0).sum(), (target == 1).sum()) if kind == "risk" else len(target)
    candidates = _candidates(kind, len(target))
    if rare < 2 * INNER_FOLDS or len(candidates) == 1:
        return candidates[0](covariates, target, weight)
    fold = inner_folds(target)
    losses = []
    for fit in candidates:
        predicted = np.empty(len(target))
        for k in range(INNER_FOLDS):
            train = fold != k
            predicted[~train] = fit(covariates[train], target[train], weight[train])(covariates[~train])
        losses.append(np.average(_loss(predicted, target, kind), weights=weight))
    return candidates[int(np.argmin(losses))](covariates, target, weight)


def inner_folds(target: Array) -> Array:
    """Folds of like target: rows in order of target are dealt out, in shuffled groups of one row a fold."""
    random = np.random.default_rng(0)
    order = np.lexsort((random.random(len(target)), target))
    fold = np.empty(len(target), dtype=int)
    groups = -(-len(target) // INNER_FOLDS)
    dealt = np.concatenate([random.permutation(INNER_FOLDS) for _ in range(groups)])
    fold[order] = dealt[: len(target)]
    return fold


def _loss(predicted: Array, target: Array, kind: str) -> Array:
    if kind == "mean":
        return (predicted - target) ** 2
    safe = np.clip(predicted, 1e-4, 1 - 1e-4)
    return -(target * np.log(safe) + (1 - target) * np.log(1 - safe))


def _candidates(kind: str, rows: int) -> list[Callable[[Array, Array, Array], Predictor]]:
    """Strongest penalty first; trees last."""
    if kind == "mean":
        return [_ridge] + ([_mean_trees] if rows >= FEWEST_FOR_TREES else [])
    linear = [_logistic(c) for c in PENALTIES]
    return linear + ([_risk_trees] if rows >= FEWEST_FOR_TREES else [])


def _ridge(covariates: Array, target: Array, weight: Array) -> Predictor:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=RIDGE_STRENGTHS).fit(covariates, target, sample_weight=weight)
    return lambda rows: np.asarray(model.predict(rows), dtype=float)


def _logistic(inverse_strength: float) -> Callable[[Array, Array, Array], Predictor]:
    from sklearn.linear_model import LogisticRegression

    def fit(covariates: Array, target: Array, weight: Array) -> Predictor:
        model = LogisticRegression(C=inverse_strength, max_iter=500).fit(covariates, target, sample_weight=weight)
        return lambda rows: np.asarray(model.predict_proba(rows)[:, 1], dtype=float)

    return fit


def _risk_trees(covariates: Array, target: Array, weight: Array) -> Predictor:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(**TREES).fit(covariates, target, sample_weight=weight)
    return lambda rows: np.asarray(model.predict_proba(rows), dtype=float)[:, 1]


def _mean_trees(covariates: Array, target: Array, weight: Array) -> Predictor:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(**TREES).fit(covariates, target, sample_weight=weight)
    return lambda rows: np.asarray(model.predict(rows), dtype=float)
