"""Predictions that nobody saw are right as they are, while those that were acted upon look wrong; simulated."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.outcome.acted_upon.silent import judge_silent


def _rows(n: int, seed: int, *, shown: bool) -> pl.DataFrame:
    """Right predictions for 90 days; where shown, half of the outcomes are prevented."""
    random = np.random.default_rng(seed)
    risk = random.beta(2, 6, n)
    happened = (random.random(n) < risk) & ~(shown & (random.random(n) < 0.5))
    return pl.DataFrame(
        {
            "subject_id": np.arange(n) + n * shown,
            "prediction_time": [datetime(2023, 1, 1, tzinfo=UTC)] * n,
            "model": "alarm",
            "model_version": "2",
            "predicted_boolean_probability": risk,
            "abstained": False,
            "follow_up_days": np.where(happened, 20.0, 90.0),
            "event": happened.astype(np.int8),
            "shown": shown,
        }
    )


def test_silent_predictions_stand_beside_shown_ones() -> None:
    rows = pl.concat([_rows(1000, 0, shown=False), _rows(1000, 1, shown=True)])
    (found,) = judge_silent(rows, horizon_days=90)
    assert found.silent.observed_expected.low < 1 < found.silent.observed_expected.high
    assert found.shown.observed_expected.high < 0.8
    assert found.words.startswith("Predictions that nobody saw: alarm (2): on 1000 later patients")
    (alone,) = judge_silent(rows.filter(~pl.col("shown")), horizon_days=90)
    assert alone.shown is None


def test_without_silent_predictions_there_is_no_trial_and_without_the_flag_an_error() -> None:
    rows = _rows(50, 2, shown=True)
    assert judge_silent(rows, horizon_days=90) == ()
    assert judge_silent(rows.with_columns(shown=pl.lit(None, pl.Boolean)), horizon_days=90) == ()
    with pytest.raises(InputError, match="no column 'shown'"):
        judge_silent(rows.drop("shown"), horizon_days=90)
