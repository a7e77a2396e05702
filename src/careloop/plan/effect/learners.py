"""Regressions learned for adjustment: a straight or bent line, or small trees on what a line leaves.

Lines are penalised; a bent one also has a bend of every covariate, so that being far from the middle on either side may
count. The candidate with the lowest cross-validated loss on the rows it is fitted on is taken, with few rows only from
lines. None of them needs to be right for the effects to be right (see `doubly_robust`), only reasonably close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from careloop.evaluate.calibration import expit, logit

Array = np.ndarray

PENALTIES = (0.01, 0.1, 1.0)  # inverse strengths C of the logistic models and proportional hazards tried
MIDDLE_PENALTY = 0.1  # of the line that trees start from
BEND_SCALE = 3.0  # a bend of a normal covariate then has about its standard deviation
FARTHEST_LOG_ODDS = 30.0  # beyond, a probability is 0 or 1 to the last digit that counts
RIDGE_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
INNER_FOLDS = 3
FEWEST_FOR_TREES = 200
TREES: dict[str, Any] = {
    "n_estimators": 50,
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_child_samples": 20,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "random_state": 0,
}

Predictor = Callable[[Array], Array]
Learner = Callable[..., Predictor]  # covariates (n, p), then what is to be learned about them


def fit_regression(covariates: Array, target: Array, *, kind: Literal["risk", "mean"]) -> Predictor:
    """Fit the candidate with the lowest cross-validated loss; a constant where the target does not vary."""
    if len(target) == 0 or np.ptp(target) == 0.0 or covariates.shape[1] == 0:
        constant = float(target.mean()) if len(target) else 0.0
        return lambda rows: np.full(len(rows), constant)
    rare = min((target == 0).sum(), (target == 1).sum()) if kind == "risk" else len(target)
    candidates = _candidates(kind, len(target))
    if rare < 2 * INNER_FOLDS:
        return candidates[0](covariates, target)
    fold = inner_folds(target)
    losses = []
    for fit in candidates:
        predicted = np.empty(len(target))
        for k in range(INNER_FOLDS):
            train = fold != k
            predicted[~train] = fit(covariates[train], target[train])(covariates[~train])
        losses.append(_loss(predicted, target, kind).mean())
    return candidates[int(np.argmin(losses))](covariates, target)


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


def _candidates(kind: str, rows: int) -> list[Learner]:
    """Strongest penalty first; trees last."""
    lines: list[Learner] = [_ridge] if kind == "mean" else [_logistic(c) for c in PENALTIES]
    trees = _mean_trees if kind == "mean" else _risk_trees
    return [*lines, *(bent(line) for line in lines), *([trees] if rows >= FEWEST_FOR_TREES else [])]


def bent(learner: Learner) -> Learner:
    """The same learner (covariates, ...) -> predictor, given also a bend of every covariate with over two values."""

    def fit(covariates: Array, *rest: Any) -> Predictor:
        outermost = (covariates == covariates.min(axis=0)) | (covariates == covariates.max(axis=0))
        columns = np.flatnonzero(~outermost.all(axis=0))

        def widened(rows: Array) -> Array:
            return np.hstack([rows, BEND_SCALE * (np.sqrt(1.0 + rows[:, columns] ** 2) - 1.0)])

        predict = learner(widened(covariates), *rest)
        return lambda rows: predict(widened(rows))

    return fit


def _ridge(covariates: Array, target: Array) -> Predictor:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=RIDGE_STRENGTHS).fit(covariates, target)
    return lambda rows: np.asarray(model.predict(rows), dtype=float)


def _logistic(inverse_strength: float) -> Learner:
    from sklearn.linear_model import LogisticRegression

    def fit(covariates: Array, target: Array) -> Predictor:
        model = LogisticRegression(C=inverse_strength, max_iter=500).fit(covariates, target)
        return lambda rows: np.asarray(model.predict_proba(rows)[:, 1], dtype=float)

    return fit


def _risk_trees(covariates: Array, target: Array) -> Predictor:
    """Trees on what a line leaves: shrunken trees alone would be slow to follow it."""
    from lightgbm import LGBMClassifier

    line = _logistic(MIDDLE_PENALTY)(covariates, target)
    start = logit(line(covariates))
    model = LGBMClassifier(**TREES).fit(covariates, target, init_score=start)

    def predict(rows: Array) -> Array:
        log_odds = logit(line(rows)) + np.asarray(model.predict_proba(rows, raw_score=True), dtype=float)
        return expit(np.clip(log_odds, -FARTHEST_LOG_ODDS, FARTHEST_LOG_ODDS))

    return predict


def _mean_trees(covariates: Array, target: Array) -> Predictor:
    from lightgbm import LGBMRegressor

    line = _ridge(covariates, target)
    model = LGBMRegressor(**TREES).fit(covariates, target, init_score=line(covariates))
    return lambda rows: line(rows) + np.asarray(model.predict(rows), dtype=float)
