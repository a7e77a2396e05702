"""The fitted parts that effects are adjusted by: covariates as numbers, regressions per arm, propensities.

Every regression is a penalised linear model or a small LightGBM, whichever has the lower cross-validated loss on the
rows it is fitted on; with few rows only the linear one stands. None of them needs to be right for the effects to be
right (see `effect`), only reasonably close.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from careloop import InputError
from careloop.plan.effect.goals import Array, GoalData, known_weights

MOST_CELLS = 200_000_000  # of the dense covariate matrix: 1.6 GB
FARTHEST = 5.0  # standard deviations to which covariates are pulled in: one wild value must not steer a line
PENALTIES = (0.01, 0.1, 1.0)  # inverse strengths C of the logistic models tried
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


@dataclass(frozen=True)
class Design:
    """Feature columns as standardised covariates: medians for missing values, beside an indicator of being missing."""

    names: tuple[str, ...]
    columns: Array  # feature columns kept (not constant)
    flagged: Array  # feature columns with an indicator of being missing
    median: Array
    mean: Array
    scale: Array

    def transform(self, values: Any) -> Array:
        """Covariates (n, len(names)) float64 of feature rows (n, p), NaN where missing, dense or scipy sparse."""
        dense = _dense(values)
        kept = dense[:, self.columns]
        kept = np.where(np.isnan(kept), self.median, kept)
        standard = np.clip((kept - self.mean) / self.scale, -FARTHEST, FARTHEST)
        return np.hstack([standard, np.isnan(dense[:, self.flagged]).astype(float)])


def fit_design(values: Any, names: tuple[str, ...]) -> Design:
    """Learn medians and scales from learning rows (n, p); columns that are constant there are dropped."""
    dense = _dense(values)
    missing = np.isnan(dense)
    seen = ~missing.all(axis=0)
    median = np.zeros(dense.shape[1])
    median[seen] = np.nanmedian(dense[:, seen], axis=0)
    filled = np.where(missing, median, dense)
    mean, scale = filled.mean(axis=0), filled.std(axis=0)
    columns = np.flatnonzero(scale > 0)
    # Columns made from one code are missing together: one indicator for each pattern.
    _, first = np.unique(missing, axis=1, return_index=True)
    flagged = np.array([c for c in sorted(first) if 0 < missing[:, c].sum() < len(dense)], dtype=int)
    labels = [names[c] for c in columns] + [f"{names[c]} missing" for c in flagged]
    return Design(tuple(labels), columns, flagged, median[columns], mean[columns], scale[columns])


def _dense(values: Any) -> Array:
    if values.shape[0] * values.shape[1] > MOST_CELLS:
        raise InputError(
            f"a plan adjusts for every feature at once, at most {MOST_CELLS:,} cells; got {values.shape[0]:,} rows x "
            f"{values.shape[1]:,} features; set features.selection.keep_top"
        )
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)


def subject_folds(subjects: Array, folds: int, seed: int) -> Array:
    """Fold number (n,) of each row, all rows of a subject in one fold; folds are of equal size in subjects."""
    unique, position = np.unique(subjects, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(unique))
    return (np.argsort(order) % folds)[position]


@dataclass(frozen=True)
class OutcomeModel:
    """Expected value of a goal under each option, and for a measure the probability that it is taken."""

    outcome: tuple[Predictor, ...]
    observed: tuple[Predictor, ...] = field(default=())

    def expected(self, covariates: Array) -> Array:
        """E[goal | covariates, option] (n, K)."""
        return np.column_stack([predict(covariates) for predict in self.outcome])

    def probability_known(self, covariates: Array) -> Array:
        """P(measure taken | covariates, option) (n, K)."""
        return np.column_stack([predict(covariates) for predict in self.observed])


def fit_outcome_model(covariates: Array, arm: Array, goal: GoalData, options: int) -> OutcomeModel:
    """One regression per option on its rows with a known value, weighted by the inverse probability of being known."""
    weights = known_weights(goal, arm)
    outcome, observed = [], []
    kind: Literal["risk", "mean"] = "risk" if goal.kind == "event" else "mean"
    for a in range(options):
        rows = np.flatnonzero((arm == a) & (weights > 0))
        outcome.append(fit_regression(covariates[rows], goal.value[rows], weights[rows], kind=kind))
        if goal.kind == "measure":
            rows = np.flatnonzero(arm == a)
            seen = goal.known[rows].astype(float)
            observed.append(fit_regression(covariates[rows], seen, np.ones(len(rows)), kind="risk"))
    return OutcomeModel(tuple(outcome), tuple(observed))


def fit_regression(covariates: Array, target: Array, weight: Array, *, kind: Literal["risk", "mean"]) -> Predictor:
    """Fit the candidate with the lowest cross-validated loss; a constant where the target does not vary."""
    if len(target) == 0 or np.ptp(target) == 0.0 or covariates.shape[1] == 0:
        constant = float(np.average(target, weights=weight)) if len(target) else 0.0
        return lambda rows: np.full(len(rows), constant)
    rare = min((target == 0).sum(), (target == 1).sum()) if kind == "risk" else len(target)
    candidates = _candidates(kind, len(target))
    if rare < 2 * INNER_FOLDS or len(candidates) == 1:
        return candidates[0](covariates, target, weight)
    fold = _inner_folds(target, kind)
    losses = []
    for fit in candidates:
        predicted = np.empty(len(target))
        for k in range(INNER_FOLDS):
            train = fold != k
            predicted[~train] = fit(covariates[train], target[train], weight[train])(covariates[~train])
        losses.append(np.average(_loss(predicted, target, kind), weights=weight))
    return candidates[int(np.argmin(losses))](covariates, target, weight)


def _inner_folds(target: Array, kind: str) -> Array:
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


def fit_propensity(
    covariates: Array, arm: Array, options: int, *, assignment: Literal["randomised", "observed"]
) -> Predictor:
    """P(option | covariates) (n, K), rows summing to 1: shares of the arms, or one risk regression per option."""
    shares = np.bincount(arm, minlength=options) / len(arm)
    if assignment == "randomised":
        return lambda rows: np.tile(shares, (len(rows), 1))
    ones = np.ones(len(arm))
    fitted = [fit_regression(covariates, (arm == a).astype(float), ones, kind="risk") for a in range(options)]
    if options == 2:  # the one is the other's complement
        first = fitted[0]
        return lambda rows: np.column_stack([first(rows), 1.0 - first(rows)])

    def predict(rows: Array) -> Array:
        each = np.column_stack([one(rows) for one in fitted])
        return each / each.sum(axis=1, keepdims=True)

    return predict
