"""A history with another value of a code is the history that extraction makes of a record with that value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop.features.timelines import TimelineRecipe, TimelinesSection, extract_timelines, fit_timelines
from careloop.models.sequence.arrays import Sequences
from careloop.predict.altered_history import altered_history
from careloop.record import Record

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = pl.DataFrame(
    {"subject_id": range(1, 31), "prediction_time": [DAY_0 + timedelta(days=100)] * 30},
    schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us", "UTC")},
)


def recorded(folder: Path, value_of_first: float | None) -> Record:
    """Thirty people with two values of a lab and a diagnosis each; the first one's values are all the same."""
    random, rows = np.random.default_rng(0), []
    for subject in range(1, 31):
        for days in (10, 50):
            value = float(random.normal(5, 2))
            value = value_of_first if subject == 1 and value_of_first is not None else value
            rows.append(
                {"subject_id": subject, "time": DAY_0 + timedelta(days=days), "code": "LAB", "numeric_value": value}
            )
        rows.append({"subject_id": subject, "time": DAY_0 + timedelta(days=30), "code": "DX", "numeric_value": None})
    events = pl.DataFrame(rows).with_columns(
        known_time="time", unit=pl.when(pl.col("code") == "LAB").then(pl.lit("mg/dL"))
    )
    return Record.create(folder, shards=1).append(events, key="simulated")


def first_row(record: Record, recipe: TimelineRecipe) -> Sequences:
    return extract_timelines(record, KEYS, recipe).sequences.take(np.array([0]))


@pytest.fixture(scope="module")
def recipe_and_row(tmp_path_factory: pytest.TempPathFactory) -> tuple[TimelineRecipe, Sequences]:
    record = recorded(tmp_path_factory.mktemp("altered") / "record", None)
    recipe = fit_timelines(record, KEYS, TimelinesSection(min_subjects=2))
    return recipe, first_row(record, recipe)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.floats(-50, 50, width=16))
def test_an_altered_value_is_read_as_extraction_reads_it(
    recipe_and_row: tuple[TimelineRecipe, Sequences], tmp_path_factory: pytest.TempPathFactory, value: float
) -> None:
    recipe, row = recipe_and_row
    altered = altered_history(row, recipe, {"LAB": value})
    expected = first_row(recorded(tmp_path_factory.mktemp("value") / "record", value), recipe)
    assert altered.code.tolist() == expected.code.tolist()
    assert altered.quantile.tolist() == expected.quantile.tolist()
    np.testing.assert_allclose(altered.value, expected.value, rtol=1e-5, atol=1e-6)


def test_a_code_that_was_not_measured_gets_one_event_and_none_takes_all_out(
    recipe_and_row: tuple[TimelineRecipe, Sequences],
) -> None:
    recipe, row = recipe_and_row
    lab, without = recipe.numbers["LAB", None], altered_history(row, recipe, {"LAB": None})
    assert without.code.tolist() == [recipe.numbers["DX", None]]
    again = altered_history(without, recipe, {"LAB": 5.0})
    assert again.code.tolist() == [recipe.numbers["DX", None], lab]
    assert again.time[-1] == again.at[0]
    assert again.quantile[-1] > 0
    unchanged = altered_history(row, recipe, {"UNKNOWN": 1.0})
    assert unchanged.value.tobytes() == row.value.tobytes()
