"""Simulated cohorts with a known risk model, as training data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop.features import Column, FeatureMatrix, Recipe
from careloop.train import TrainingData

HORIZON_DAYS = 365.0


def column(name: str, values: np.ndarray) -> Column:
    """A recipe column with the ranges that the values show."""
    seen = values[~np.isnan(values)]
    return Column(
        name=name,
        kind="value",
        code=name.split("|")[0],
        aggregation="last",
        window_days=365.0,
        unit="mg/dL",
        median=float(np.median(seen)) if len(seen) else None,
        minimum=float(seen.min()) if len(seen) else None,
        maximum=float(seen.max()) if len(seen) else None,
    )


def training_data(
    values: np.ndarray, names: list[str], follow_up_days: np.ndarray, event: np.ndarray, *, seed: int = 0
) -> TrainingData:
    """Rows split 60/20/20 in a fixed random order, one row a subject."""
    n = len(values)
    split = np.random.default_rng(seed).permutation(
        np.repeat(["train", "tuning", "held_out"], [n * 3 // 5, n // 5, n - n * 3 // 5 - n // 5])
    )
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(n, dtype=np.int64),
            "prediction_time": pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * n, dtype=pl.Datetime("us", "UTC")),
            "split": split,
            "follow_up_days": follow_up_days.astype(np.float64),
            "event": event.astype(np.int8),
        }
    )
    matrix = FeatureMatrix(rows.select("subject_id", "prediction_time"), tuple(names), values.astype(np.float32))
    train = values[split == "train"]
    recipe = Recipe(tuple(column(name, train[:, j]) for j, name in enumerate(names)))
    return TrainingData(rows, matrix, recipe, HORIZON_DAYS, record_version=3, outcome="death")


@pytest.fixture(scope="session")
def simulate() -> Callable[..., TrainingData]:
    """Exponential times to the outcome with rates by A and B, censoring, a competing event; 10 % of C missing."""

    def make(n: int = 1000, *, seed: int = 1, competing_rate: float = 0.0, censoring_rate: float = 0.3) -> TrainingData:
        random = np.random.default_rng(seed)
        values = random.normal(size=(n, 4))
        values[random.random(n) < 0.1, 2] = np.nan
        outcome = random.exponential(1 / np.exp(-0.7 + 1.0 * values[:, 0] - 0.7 * values[:, 1])) * HORIZON_DAYS
        other = random.exponential(1 / competing_rate, n) * HORIZON_DAYS if competing_rate else np.full(n, np.inf)
        censored = random.exponential(1 / censoring_rate, n) * HORIZON_DAYS if censoring_rate else np.full(n, np.inf)
        end = np.minimum(np.minimum(outcome, other), np.minimum(censored, 3 * HORIZON_DAYS))
        event = np.where(end == outcome, 1, np.where(end == other, 2, 0))
        return training_data(values, ["A|365d|last", "B|365d|last", "C|365d|last", "D|365d|last"], end, event)

    return make


@pytest.fixture(scope="session")
def data(simulate: Callable[..., TrainingData]) -> TrainingData:
    """The plain simulated cohort."""
    return simulate()


@pytest.fixture(scope="session")
def competing(simulate: Callable[..., TrainingData]) -> TrainingData:
    """The same with a competing event."""
    return simulate(competing_rate=0.2)
