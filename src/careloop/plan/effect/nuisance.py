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


class OutcomeModel(Protocol):
    """What a goal comes to under each of K options, learned from other rows than those it is asked about."""

    def expected(self, covariates: Array) -> Array:
        """E[goal | covariates, option] (n, K)."""

    def complete(self, covariates: Array, goal: GoalData, arm: Array) -> Array:
        """The goal's value (n,) under the option given, completed where not seen; NaN for rows in no arm (-1)."""


@dataclass(frozen=True)
class MeasureModel:
    """Regressions of a measure and of whether it is taken (each K of them)."""

    mean: tuple[Predictor, ...]
    observed: tuple[Predictor, ...]

    def expected(self, covariates: Array) -> Array:
        """E[measure | covariates, option] (n, K)."""
        return np.column_stack([predict(covariates) for predict in self.mean])

    def complete(self, covariates: Array, goal: GoalData, arm: Array) -> Array:
        """The expectation, corrected where the measure was taken by the inverse probability of that, (n,)."""
        completed = np.full(len(arm), np.nan)
        for a in np.unique(arm[arm >= 0]):
            rows = np.flatnonzero(arm == a)
            own, own_goal = covariates[rows], goal.take(rows)
            probability = np.maximum(self.observed[a](own), KNOWN_FLOOR)
            completed[rows] = complete_measure(own_goal, self.mean[a](own), probability)
        return completed


def complete_measure(goal: GoalData, expected: Array, probability_known: Array) -> Array:
    """m + R / r * (Y - m) (n,), R being 1 where Y was measured, which has probability r."""
    return expected + goal.known / probability_known * (goal.value - expected)


@dataclass(frozen=True)
class SurvivalOutcomeModel:
    """A survival model for each option, asked about `goal`'s risk or days by its horizon."""

    options: tuple[SurvivalModel, ...]
    goal: SurvivalGoalData

    def about(self, goal: SurvivalGoalData) -> SurvivalOutcomeModel:
        """The same models asked about another goal of the same follow-up, with a horizon no later."""
        return replace(self, goal=goal)

    def expected(self, covariates: Array) -> Array:
        """E[goal | covariates, option] (n, K)."""
        return np.column_stack([model.expected(covariates, self.goal) for model in self.options])

    def complete(self, covariates: Array, goal: GoalData, arm: Array) -> Array:
        """The value as completed by `SurvivalModel.complete`, (n,)."""
        completed = np.full(len(arm), np.nan)
        if goal.kind == "measure":
            return completed
        for a in np.unique(arm[arm >= 0]):
            rows = np.flatnonzero(arm == a)
            completed[rows] = self.options[a].complete(covariates[rows], goal.take(rows))
        return completed


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
