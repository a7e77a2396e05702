"""Following the plan: its effect where deviating is confounded, and refusal where followers cannot be compared."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.outcome.treatment.followed import judge_followed
from careloop.plan import MeasureGoal, PlanSection

SECTION = PlanSection(assignment="randomised", goals=(MeasureGoal(measure="score", better="higher"),), folds=3)


def patients(n: int, seed: int, *, severity: float, effect: float) -> tuple[pl.DataFrame, FeatureMatrix]:
    """Advice depends on x1; the sicker (low x0) deviate by `severity`; following adds `effect` to the score."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    advice = np.where(x[:, 1] > 0, "a", "b")
    follows = random.random(n) < 1 / (1 + np.exp(-severity * x[:, 0]))
    score = 3 * x[:, 0] + (advice == "a") + effect * follows + random.normal(size=n)
    other = np.where(advice == "a", "b", "a")
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)] * n, dtype=pl.Datetime("us", "UTC")),
            "follow_up_days": np.full(n, 400.0),
            "event": np.zeros(n, dtype=np.int8),
            "measure_score": score,
            "recommended": advice,
            "chosen": np.where(follows, advice, other),
        }
    )
    return rows, FeatureMatrix(rows.select("subject_id", "prediction_time"), ("x0", "x1"), x)


def test_the_effect_of_following_is_found_although_the_sicker_deviate() -> None:
    rows, matrix = patients(3_000, 1, severity=0.8, effect=0.5)
    (found,) = judge_followed(rows, matrix, SECTION, horizon_days=365)
    assert found.difference.low < 0.5 < found.difference.high
    assert found.plain.low > 1.0  # as they are, following looks far better than it is
    assert found.followed + found.not_followed == 3_000
    assert {name for name, _ in found.deviations} == {"a", "b"}
    assert "better" in found.words


def test_rows_without_advice_are_left_out_and_no_option_at_all_is_a_deviation() -> None:
    rows, matrix = patients(600, 2, severity=0.2, effect=0.0)
    first = pl.col("subject_id") < 100
    rows = rows.with_columns(
        recommended=pl.when(first).then(None).otherwise("recommended"),
        chosen=pl.when(pl.col("subject_id").is_between(100, 119)).then(None).otherwise("chosen"),
    )
    (found,) = judge_followed(rows, matrix, SECTION, horizon_days=365)
    assert found.followed + found.not_followed == 500
    assert dict(found.deviations)["none of the options"] == 20


def test_followers_without_comparable_others_are_not_compared() -> None:
    rows, matrix = patients(2_000, 3, severity=8.0, effect=1.0)
    (found,) = judge_followed(rows, matrix, SECTION, horizon_days=365)
    assert found.difference.value is None
    assert "cannot be told" in found.words
    assert found.balance is not None


def test_too_few_deviations_say_so_and_missing_columns_are_named() -> None:
    rows, matrix = patients(300, 4, severity=0.0, effect=0.0)
    obedient = rows.with_columns(chosen="recommended")
    (found,) = judge_followed(obedient, matrix, SECTION, horizon_days=365)
    assert found.difference.value is None
    assert "not in 0; at least 20" in found.words
    with pytest.raises(InputError, match="needs column 'chosen'"):
        judge_followed(rows.drop("chosen"), matrix, SECTION, horizon_days=365)
