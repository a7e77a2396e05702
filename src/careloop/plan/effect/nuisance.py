"""The fitted parts that effects are adjusted by: covariates as numbers, outcome models per option, propensities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from careloop import InputError
from careloop.plan.effect.goals import Array, GoalData, MeasureGoalData
from careloop.plan.effect.learners import Predictor, fit_regression
from careloop.plan.effect.survival import fit_survival

MOST_CELLS = 200_000_000  # of the dense covariate matrix: 1.6 GB
FARTHEST = 5.0  # standard deviations to which covariates are pulled in: one wild value must not steer a line
KNOWN_FLOOR = 0.05  # smallest probability of a seen measure that a weight is built on: no row counts more than 20-fold


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


class OptionModel(Protocol):
    """What a goal comes to under one option, learned from other rows than those it is asked about."""

    def expected(self, covariates: Array, goal: Any) -> Array:
        """E[goal | covariates] (n,); of the goal, only kind and horizon matter."""

    def complete(self, covariates: Array, goal: Any) -> Array:
        """The goal's value (n,) of rows given the option, completed where it was not seen."""


@dataclass(frozen=True)
class MeasureModel:
    """Regressions of a measure, and of whether it is taken, under one option."""

    mean: Predictor
    observed: Predictor

    def expected(self, covariates: Array, goal: MeasureGoalData) -> Array:
        """E[measure | covariates] (n,)."""
        return self.mean(covariates)

    def complete(self, covariates: Array, goal: MeasureGoalData) -> Array:
        """The measure as m + R / r * (Y - m) (n,), R being 1 where Y was taken, which has probability r."""
        expected, probability = self.mean(covariates), np.maximum(self.observed(covariates), KNOWN_FLOOR)
        return expected + goal.known / probability * (goal.value - expected)


@dataclass(frozen=True)
class OutcomeModel:
    """A model of the goal under each of K options."""

    options: tuple[OptionModel, ...]
    goal: GoalData

    def about(self, goal: GoalData) -> OutcomeModel:
        """The same survival models asked about another goal of the same follow-up: days, or an earlier horizon."""
        return replace(self, goal=goal)

    def expected(self, covariates: Array) -> Array:
        """E[goal | covariates, option] (n, K)."""
        return np.column_stack([model.expected(covariates, self.goal) for model in self.options])

    def complete(self, covariates: Array, arm: Array, goal: GoalData) -> Array:
        """The value (n,) that these rows have of `goal` under the option given, completed where not seen.

        NaN for a row in no arm (-1).
        """
        completed = np.full(len(arm), np.nan)
        for a in np.unique(arm[arm >= 0]):
            rows = np.flatnonzero(arm == a)
            completed[rows] = self.options[a].complete(covariates[rows], goal.take(rows))
        return completed


def fit_outcome_model(covariates: Array, arm: Array, goal: GoalData, options: int) -> OutcomeModel:
    """One model per option on its rows (n, p)."""
    fitted = []
    for a in range(options):
        rows = np.flatnonzero(arm == a)
        own = goal.take(rows)
        fitted.append(
            _fit_measure(covariates[rows], own)
            if isinstance(own, MeasureGoalData)
            else fit_survival(covariates[rows], own)
        )
    return OutcomeModel(tuple(fitted), goal)


def _fit_measure(covariates: Array, goal: MeasureGoalData) -> MeasureModel:
    return MeasureModel(
        mean=fit_regression(covariates[goal.known], goal.value[goal.known], kind="mean"),
        observed=fit_regression(covariates, goal.known.astype(float), kind="risk"),
    )


def fit_propensity(
    covariates: Array, arm: Array, options: int, *, assignment: Literal["randomised", "observed"]
) -> Predictor:
    """P(option | covariates) (n, K), rows summing to 1: shares of the arms, or one risk regression per option."""
    shares = np.bincount(arm, minlength=options) / len(arm)
    if assignment == "randomised":
        return lambda rows: np.tile(shares, (len(rows), 1))
    modelled = range(1 if options == 2 else options)  # of two options, the one is the other's complement
    fitted = [fit_regression(covariates, (arm == a).astype(float), kind="risk") for a in modelled]

    def predict(rows: Array) -> Array:
        each = np.column_stack([one(rows) for one in fitted])
        return np.hstack([each, 1.0 - each]) if options == 2 else each / each.sum(axis=1, keepdims=True)

    return predict
