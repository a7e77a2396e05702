"""Simulated predictions and plans whose worth is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop.features import FeatureMatrix
from careloop.plan import PlanSection

HORIZON = 365.0


def _study_rows(
    n: int, seed: int, *, interaction: float = 0.0, effect: float = 0.0
) -> tuple[pl.DataFrame, FeatureMatrix, np.ndarray]:
    """Cohort rows of a trial of two arms, features, and each patient's true risk under each arm (n, 2).

    The drug changes the log hazard by `effect` + `interaction` * x1; every third row is held out.
    """
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    rate = 0.001 * np.exp(0.8 * x[:, [0]] + np.array([0.0, 1.0]) * (effect + interaction * x[:, [1]]))
    arm = random.integers(0, 2, n)
    time = random.exponential(1 / rate[np.arange(n), arm])
    censoring = random.uniform(100, 800, n)
    follow_up = np.ceil(np.minimum(time, censoring))
    event = (time <= censoring).astype(np.int8)
    value = np.where((event == 1) & (follow_up <= HORIZON), 1, np.where(follow_up >= HORIZON, 0, -1))
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * n, dtype=pl.Datetime("us", "UTC")),
            "split": np.array(["train", "tuning", "held_out"])[np.arange(n) % 3],
            "boolean_value": [None if v < 0 else bool(v) for v in value],
            "follow_up_days": follow_up,
            "event": event,
            "treatment": np.array(["control", "drug"])[arm],
        }
    )
    matrix = FeatureMatrix(rows.select("subject_id", "prediction_time"), ("x0", "x1", "x2"), x.astype(np.float32))
    return rows, matrix, 1 - np.exp(-rate * HORIZON)


def _predictions_of(rows: pl.DataFrame, probability: np.ndarray, model: str = "model") -> pl.DataFrame:
    """Predictions of every row, none abstained."""
    return rows.select(
        "subject_id",
        "prediction_time",
        model=pl.lit(model),
        model_version=pl.lit("1"),
        predicted_boolean_probability=pl.Series(probability),
        abstained=pl.lit(False),
    )


@pytest.fixture(scope="session")
def study_rows() -> Callable[..., tuple[pl.DataFrame, FeatureMatrix, np.ndarray]]:
    return _study_rows


@pytest.fixture(scope="session")
def predictions_of() -> Callable[..., pl.DataFrame]:
    return _predictions_of


@pytest.fixture(scope="session")
def section() -> PlanSection:
    return PlanSection(assignment="randomised", folds=3)
