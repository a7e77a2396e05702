"""Questions that a policy tree may ask of a patient: is a feature below a round number, in its own unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from careloop.features.recipe import Column
from careloop.features.words import is_yes_or_no, label, number, unit
from careloop.plan.effect.goals import Array

BINS = 16  # quantiles of a feature at which it may be split
STEPS_IN_SPREAD = 20  # thresholds are rounded to a round number at most this part of the spread of 90 % of patients
MOST_QUESTIONS = 500  # all pairs of questions are tried: time and memory grow with the square


@dataclass(frozen=True)
class TreeFeatures:
    """What a tree may ask about: features (n, p) in their own units, NaN where missing, dense or scipy sparse.

    `columns` are the recipe's, by name, for words; a name without one stands for itself.
    """

    values: Any
    names: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)

    def take(self, rows: Array) -> TreeFeatures:
        """The same for some rows."""
        return TreeFeatures(self.values[rows], self.names, self.columns)

    def column(self, feature: int) -> Array:
        """Values (n,) of one feature."""
        values = self.values[:, [feature]]
        return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float).ravel()


@dataclass(frozen=True)
class Question:
    """Whether a feature is below a number; those without a value count as below where `with_missing`."""

    feature: int
    below: float
    with_missing: bool

    def met(self, values: Array) -> Array:
        """Whether values (n,) of the feature meet it, (n,) bool."""
        missing = np.isnan(values)
        return np.where(missing, self.with_missing, np.where(missing, 0.0, values) < self.below)


def questions_of(values: Array, feature: int) -> list[Question]:
    """Questions about one feature (n,): between its values if they are few, else at rounded quantiles."""
    known = values[~np.isnan(values)]
    levels = np.unique(known)
    if len(levels) < 2:
        return []
    if len(levels) <= BINS:
        thresholds = (levels[1:] + levels[:-1]) / 2
    else:
        quantiles = np.quantile(known, np.arange(1, BINS) / BINS)
        thresholds = np.unique(_rounded(quantiles, known))
        thresholds = thresholds[(thresholds > levels[0]) & (thresholds <= levels[-1])]
    sides = (False, True) if len(known) < len(values) else (False,)
    return [Question(feature, float(threshold), side) for threshold in thresholds for side in sides]


def _rounded(values: Array, known: Array) -> Array:
    """Multiples of the largest of 1, 2 or 5 times a power of ten that is small beside the spread."""
    low, high = np.quantile(known, (0.05, 0.95))
    small = (high - low or float(np.ptp(known))) / STEPS_IN_SPREAD
    power = 10.0 ** np.floor(np.log10(small))
    step = max(multiple * power for multiple in (1, 2, 5) if multiple * power <= small * (1 + 1e-9))
    return np.asarray(np.round(np.round(values / step) * step, 12))


def useful_questions(features: TreeFeatures, goodness: Array) -> tuple[list[Question], Array]:
    """Questions and whether rows meet them (c, n), of the features whose best single split does most.

    `goodness` (n, K) is what each row would have under each option. Features beyond MOST_QUESTIONS are left out, those
    first that do least alone.
    """
    found: list[tuple[float, list[Question]]] = []
    for feature in range(len(features.names)):
        values = features.column(feature)
        questions = questions_of(values, feature)
        if questions:
            inside = np.array([question.met(values) for question in questions], dtype=float) @ goodness
            best = inside.max(axis=1) + (goodness.sum(axis=0) - inside).max(axis=1)
            found.append((float(best.max()), questions))
    kept: list[Question] = []
    for _, questions in sorted(found, key=lambda each: -each[0]):
        if len(kept) + len(questions) <= MOST_QUESTIONS:
            kept += questions
    kept.sort(key=lambda question: (question.feature, question.below, question.with_missing))
    met = [question.met(features.column(question.feature)) for question in kept]
    return kept, np.array(met, dtype=bool).reshape(len(kept), len(goodness))


def in_words(question: Question, features: TreeFeatures) -> tuple[str, str]:
    """The question's condition and its opposite: `CD4 count below 300 cells/uL`, `CD4 count at least 300 cells/uL`."""
    name = features.names[question.feature]
    column = features.columns.get(name)
    title, measured = (label(column), unit(column)) if column is not None else (name, "")
    values = features.column(question.feature)
    known = values[~np.isnan(values)]
    if (column is not None and is_yes_or_no(column)) or np.isin(known, (0.0, 1.0)).all():
        met, unmet = f"{title}: no", f"{title}: yes"
    else:
        met, unmet = (f"{title} {side} {number(question.below)}{measured}" for side in ("below", "at least"))
    if len(known) == len(values):
        return met, unmet
    missing = " or not known"
    return (f"{met}{missing}", unmet) if question.with_missing else (met, f"{unmet}{missing}")
