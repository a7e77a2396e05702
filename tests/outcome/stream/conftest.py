"""Simulated streams of predictions whose outcomes arrive late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from careloop.outcome.stream.arrivals import Arrivals, arrivals

HORIZON = 30.0
START = datetime(2023, 1, 1, tzinfo=UTC)
A_DAY = 6


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _stream(n: int, seed: int, *, drift: Callable[[np.ndarray], np.ndarray] | None = None, loss: float = 0.0):
    """Prediction rows with follow-up and event, six predictions a day; `drift` changes the true log-odds."""
    random = np.random.default_rng(seed)
    log_odds = -1.2 + random.normal(size=n)
    truth = log_odds if drift is None else drift(log_odds)
    day = np.where(random.random(n) < expit(truth), random.uniform(0, HORIZON, n), np.inf)
    lost = np.where(random.random(n) < loss, random.uniform(0, HORIZON, n), HORIZON + 400)
    made = [START + timedelta(days=row / A_DAY) for row in range(n)]
    return pl.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pl.Series(made, dtype=pl.Datetime("us", "UTC")),
            "model": "model",
            "model_version": "1",
            "predicted_boolean_probability": expit(log_odds),
            "abstained": False,
            "follow_up_days": np.minimum(day, lost),
            "event": (day <= lost).astype(np.int8),
        }
    )


def _after_all(rows: pl.DataFrame) -> datetime:
    last: datetime = rows["prediction_time"].max()
    return last + timedelta(days=HORIZON)


@pytest.fixture(scope="session")
def stream() -> Callable[..., pl.DataFrame]:
    return _stream


@pytest.fixture(scope="session")
def entered() -> Callable[..., Arrivals]:
    """Arrivals of a simulated stream after its last horizon."""

    def make(n: int, seed: int, **settings: object) -> Arrivals:
        rows = _stream(n, seed, **settings)
        return arrivals(rows, horizon_days=HORIZON, as_of=_after_all(rows))

    return make


@pytest.fixture(scope="session")
def after_all() -> Callable[[pl.DataFrame], datetime]:
    return _after_all
