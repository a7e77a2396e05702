"""The matrix against a slow reference in plain Python, and the as-of property."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.features import Column, FeaturesSection, Recipe, extract, fit_recipe
from careloop.features import recipe as recipe_module
from careloop.record import Record

Row = dict[str, Any]
MakeRecord = Callable[..., Record]
MakeKeys = Callable[..., pl.DataFrame]
WINDOWS = (2.0, 10.0, None)
VALUE = ("first", "last", "min", "max", "mean", "slope", "count", "present")
CODE = ("present", "count", "time_since")
RECIPE = Recipe(
    (
        Column("age_years", "age", "MEDS_BIRTH", "age"),
        Column("static|HEIGHT", "static_value", "HEIGHT", "value", unit="cm"),
        Column("static|SEX=F", "static_category", "SEX", "category", category="F"),
        Column("static|DONOR", "static_present", "DONOR", "present"),
        *(Column(f"LAB|{w}|{a}", "value", "LAB", a, w, "mg/dL") for w in WINDOWS for a in VALUE),
        *(Column(f"DX|{w}|{a}", "code", "DX", a, w) for w in WINDOWS for a in CODE),
    )
)

# Whole and half days, so that facts fall on the edges of windows and on each other.
day = st.integers(-30, 30).map(lambda half: half / 2)
timed = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "time": day,
        "known_time": st.none() | day,
        "code": st.sampled_from(["LAB", "DX", "MEDS_BIRTH", "OTHER"]),
        "numeric_value": st.none() | st.floats(-10, 10, width=16),
        "unit": st.sampled_from(["mg/dL", "mg/dL", "mmol/L", None]),
    }
)
static = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "code": st.sampled_from(["HEIGHT", "SEX", "DONOR", "LAB"]),
        "numeric_value": st.none() | st.floats(150, 190, width=16),
        "unit": st.sampled_from(["cm", "cm", None]),
        "text_value": st.sampled_from([None, "F", "M"]),
    }
)
rows_of_events = st.lists(timed | static, max_size=40)
keys_of_rows = st.lists(st.tuples(st.integers(1, 4), day), min_size=1, max_size=6)
disk = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def slow_cell(column: Column, rows: list[Row], subject: int, now: float) -> float:
    """One cell by the definition, in plain Python."""
    mine = [row for row in rows if row["subject_id"] == subject and row["code"] == column.code]
    if column.kind.startswith("static"):
        return slow_static(column, [row for row in mine if "time" not in row])
    mine = [{**row, "known_time": known_time(row)} for row in mine if "time" in row]
    known = [row for row in mine if (row["known_time"] <= now and row["time"] <= now)]
    if column.kind == "age":
        return max(((now - row["time"]) / 365.25 for row in known), default=math.nan)
    if column.kind == "value":
        known = [row for row in known if row["numeric_value"] is not None and row["unit"] == column.unit]
    if column.window_days is not None:
        known = [row for row in known if row["time"] > now - column.window_days]
    known.sort(key=lambda row: (row["time"], row["known_time"], row["numeric_value"] or 0))
    return slow_aggregation(column, known, now)


def known_time(row: Row) -> float:
    return row["time"] if row["known_time"] is None else row["known_time"]


def slow_static(column: Column, rows: list[Row]) -> float:
    if column.kind == "static_value":
        numbers = [r["numeric_value"] for r in rows if r["numeric_value"] is not None and r["unit"] == column.unit]
        return max(numbers, default=math.nan)
    return float(any(column.category in (None, row["text_value"]) for row in rows))


def slow_aggregation(column: Column, known: list[Row], now: float) -> float:
    if column.aggregation in ("present", "count"):
        return float(len(known) if column.aggregation == "count" else bool(known))
    if not known:
        return math.nan
    times, values = [row["time"] for row in known], [row["numeric_value"] for row in known]
    if column.aggregation == "slope":
        return slow_slope(times, values)
    choices: dict[str, Callable[[], float]] = {
        "time_since": lambda: now - times[-1],
        "first": lambda: values[0],
        "last": lambda: values[-1],
        "min": lambda: min(values),
        "max": lambda: max(values),
        "mean": lambda: math.fsum(values) / len(values),
    }
    return choices[column.aggregation]()


def slow_slope(times: list[float], values: list[float]) -> float:
    if len(set(times)) < 2:
        return math.nan
    middle, mean = math.fsum(times) / len(times), math.fsum(values) / len(values)
    squares = math.fsum((t - middle) ** 2 for t in times)
    return math.fsum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / squares


@disk
@given(rows=rows_of_events, keys=keys_of_rows, batches=st.integers(1, 2))
def test_every_cell_equals_the_slow_reference(
    make_record: MakeRecord, make_keys: MakeKeys, rows: list[Row], keys: list[tuple[int, float]], batches: int
) -> None:
    record = make_record(*(rows[start::batches] for start in range(batches)))
    matrix = extract(record, make_keys(*keys), RECIPE)
    expected = [[slow_cell(column, rows, *key) for column in RECIPE.columns] for key in keys]
    assert matrix.values.dtype == np.float32
    np.testing.assert_allclose(matrix.values, np.array(expected), rtol=1e-5, atol=1e-5)


@disk
@given(rows=rows_of_events, later=rows_of_events, keys=keys_of_rows)
def test_facts_known_later_change_nothing(
    make_record: MakeRecord, make_keys: MakeKeys, rows: list[Row], later: list[Row], keys: list[tuple[int, float]]
) -> None:
    """Adding facts that become known after the last prediction time, and removing them, gives the same bytes."""
    last = max(day for _, day in keys)
    unknown = [{**row, "known_time": last + 0.5 + abs(row["known_time"] or 0)} for row in later if "time" in row]
    known = [row for row in rows if "time" not in row or known_time(row) <= last]
    before = extract(make_record(known), make_keys(*keys), RECIPE)
    after = extract(make_record(known + unknown), make_keys(*keys), RECIPE)
    assert before.values.tobytes() == after.values.tobytes()


@disk
@given(rows=rows_of_events, keys=keys_of_rows)
def test_the_sparse_matrix_holds_the_same_cells(
    make_record: MakeRecord, make_keys: MakeKeys, rows: list[Row], keys: list[tuple[int, float]]
) -> None:
    record = make_record(rows)
    dense = extract(record, make_keys(*keys), RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_module, "WIDE_COLUMNS", 0)
        # Counts and indicators must outnumber the columns whose absence is stored.
        more = tuple(Column(f"OTHER{i}", "code", f"OTHER{i}", "count") for i in range(len(RECIPE.columns)))
        sparse = extract(record, make_keys(*keys), Recipe((*RECIPE.columns, *more)))
    assert sparse.is_sparse
    assert not (sparse.values.data == 0).any()
    np.testing.assert_array_equal(sparse.values.toarray()[:, : len(RECIPE.columns)], dense.values)


def test_rows_follow_the_keys_and_equal_keys_have_equal_rows(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    record = make_record(
        [{"subject_id": s, "time": 0, "code": "LAB", "numeric_value": s, "unit": "mg/dL"} for s in (1, 2)]
    )
    keys = make_keys((2, 5), (1, 5), (2, 5), (3, 5), (2, -1))
    matrix = extract(record, keys.with_columns(extra=pl.lit(1)), RECIPE)
    assert matrix.keys.equals(keys)
    last = matrix.values[:, matrix.names.index("LAB|None|last")]
    np.testing.assert_array_equal(last, [2, 1, 2, np.nan, np.nan])


def test_an_appointment_known_in_advance_does_not_count_before_its_time(
    make_record: MakeRecord, make_keys: MakeKeys
) -> None:
    record = make_record([{"subject_id": 1, "time": 9, "known_time": 1, "code": "DX"}])
    matrix = extract(record, make_keys((1, 5), (1, 9)), RECIPE)
    assert matrix.values[:, matrix.names.index("DX|None|count")].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (pl.DataFrame({"subject_id": [1]}), "keys: column prediction_time is missing"),
        (pl.DataFrame({"subject_id": [1], "prediction_time": ["2020-01-01"]}), "prediction_time must be"),
        (
            pl.DataFrame({"subject_id": [1, None], "prediction_time": [None, None]}),
            "keys: subject_id must not be null, got 1 nulls",
        ),
    ],
)
def test_keys_that_are_no_keys_are_refused(make_record: MakeRecord, keys: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract(make_record([{"subject_id": 1, "time": 0, "code": "DX"}]), keys, RECIPE)


def test_progress_counts_shards_and_a_recipe_fits_what_it_was_fitted_on(
    make_record: MakeRecord, make_keys: MakeKeys
) -> None:
    rows = [{"subject_id": s, "time": t, "code": "DX"} for s in range(8) for t in range(s)]
    record, keys, seen = make_record(rows, shards=4), make_keys(*((s, 6) for s in range(8))), []
    recipe = fit_recipe(record, keys, FeaturesSection(min_subjects=1))
    matrix = extract(record, keys, recipe, progress=lambda *step: seen.append(step))
    assert seen == [("features", n, 4) for n in (1, 2, 3, 4)]
    assert matrix.names == recipe.names
    assert matrix.keys["prediction_time"].unique().len() == 1
    assert matrix.keys["prediction_time"].max() - timedelta(days=6) == make_keys((1, 0))["prediction_time"][0]
