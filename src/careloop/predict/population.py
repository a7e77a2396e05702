"""Who lies outside the population that a model was trained on, and why, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from careloop.features.words import is_yes_or_no, label, number, stated, unit
from careloop.train import Package
from careloop.train.preprocess import DISTANCE_QUANTILE, row_blocks

MAX_REASONS = 3


def outside_reasons(package: Package, values: Any) -> list[str | None]:
    """For each row of feature values (n, p): why the model has not seen its like, or None.

    A row is outside if a feature lies outside its training range by more than a quarter of that range, if a larger
    share of its features is missing than the package's limit, or if its values together lie further from the
    training mean than all but 1 in 1,000 training rows.
    """
    reasons: list[str | None] = []
    for block in row_blocks(values):
        reasons += block_reasons(package, block)
    return reasons


def block_reasons(package: Package, block: np.ndarray) -> list[str | None]:
    """`outside_reasons` of dense rows (n, p)."""
    population = package.population
    low, high = population.limits()
    with np.errstate(invalid="ignore"):
        beyond = (block < low) | (block > high)
    missing, distance = np.isnan(block).mean(axis=1), population.distance(block)
    reasons: list[str | None] = [None] * len(block)
    for i in np.flatnonzero(beyond.any(axis=1)):
        reasons[i] = range_reason(package, block[i], np.flatnonzero(beyond[i]))
    for i in np.flatnonzero((distance > population.distance_limit) & ~beyond.any(axis=1)):
        reasons[i] = (
            f"the values together lie further from the training patients' mean than {DISTANCE_QUANTILE:.1%} of them do"
        )
    for i in np.flatnonzero(missing > population.missing_limit):
        reasons[i] = (
            f"{missing[i]:.0%} of the features are missing; among training patients hardly anyone misses more than "
            f"{population.missing_limit:.0%}"
        )
    return reasons


def range_reason(package: Package, row: np.ndarray, features: np.ndarray) -> str:
    """The features of one row (p,) that lie outside the training range."""
    parts = [one_range(package, int(j), row[j]) for j in features[:MAX_REASONS]]
    more = len(features) - MAX_REASONS
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def one_range(package: Package, feature: int, value: float) -> str:
    """One feature's value beside its training range."""
    column = package.recipe.columns[feature]
    low, high = package.population.low[feature], package.population.high[feature]
    if is_yes_or_no(column):
        return f"{stated(column, value)}, unlike every training patient"
    seen = f"{number(low)} to {number(high)}" if low < high else f"always {number(low)}"
    return f"{label(column)} is {number(value)}{unit(column)}; training patients had {seen}"
