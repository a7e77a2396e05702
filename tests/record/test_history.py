"""Nothing known after a prediction time passes the gate, and everything known by then does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.record import EVENTS, history
from careloop.record.schema import TIME

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = {"subject_id": pl.Int64(), "prediction_time": TIME}

subjects = st.integers(1, 3)
days = st.integers(0, 9)
# (subject, day it happened or None for a static fact, days until it was known, value)
facts = st.lists(st.tuples(subjects, st.none() | days, st.integers(-3, 6), st.integers(0, 99)), max_size=12)
keys = st.lists(st.tuples(subjects, days), min_size=1, max_size=6)


def on(day: int) -> datetime:
    return DAY_0 + timedelta(days=day)


def as_events(rows: list[tuple]) -> pl.LazyFrame:
    columns = [
        {
            "subject_id": subject,
            "time": None if day is None else on(day),
            "known_time": None if day is None else on(day + delay),
            "code": "A",
            "numeric_value": float(value),
        }
        for subject, day, delay, value in rows
    ]
    return pl.DataFrame(columns, schema=EVENTS).lazy()


def as_keys(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame([(subject, on(day)) for subject, day in rows], schema=KEYS, orient="row")


def seen(events: pl.LazyFrame, prediction_times: pl.DataFrame) -> pl.DataFrame:
    return history(events, prediction_times).collect().sort(pl.all())


def known_after(row: tuple, day: int) -> bool:
    return row[1] is not None and row[1] + row[2] > day


@settings(deadline=None)
@given(facts, facts, keys)
def test_facts_known_later_change_nothing(now: list, later: list, asked: list) -> None:
    """Adding, changing or deleting rows known after t leaves the history as of t as it is, for every t."""
    for key in asked:
        known = [row for row in now if not known_after(row, key[1])]
        other_future = [row for row in later if known_after(row, key[1])]
        expected = seen(as_events(now), as_keys([key]))
        assert_frame_equal(seen(as_events(known), as_keys([key])), expected)  # deleted
        assert_frame_equal(seen(as_events(known + other_future), as_keys([key])), expected)  # changed
        assert_frame_equal(seen(as_events(now + other_future), as_keys([key])), expected)  # added


@settings(deadline=None)
@given(facts, keys)
def test_history_is_what_a_loop_over_rows_gives(rows: list, asked: list) -> None:
    expected = sorted(
        (subject, value, on(key_day))
        for key_subject, key_day in set(asked)
        for subject, day, delay, value in rows
        if subject == key_subject and (day is None or day + delay <= key_day)
    )
    got = seen(as_events(rows), as_keys(asked)).select("subject_id", "numeric_value", "prediction_time")
    assert sorted(got.iter_rows()) == expected


def test_known_at_the_very_moment_counts_and_a_microsecond_later_does_not() -> None:
    events = as_events([(1, 3, 0, 7)])
    exact, before = on(3), on(3) - timedelta(microseconds=1)
    prediction_times = pl.DataFrame({"subject_id": [1, 1], "prediction_time": [exact, before]}, schema=KEYS)
    assert seen(events, prediction_times)["prediction_time"].to_list() == [exact]


def test_dated_row_without_known_time_is_never_shown_as_if_static() -> None:
    events = as_events([(1, 3, 0, 7)]).with_columns(known_time=pl.lit(None, dtype=TIME))
    assert seen(events, as_keys([(1, 9)])).height == 0


def test_undated_row_with_a_known_time_is_shown_from_then_on() -> None:
    events = as_events([(1, 3, 0, 7)]).with_columns(time=pl.lit(None, dtype=TIME))
    assert seen(events, as_keys([(1, 2), (1, 3)]))["prediction_time"].to_list() == [on(3)]


def test_other_columns_of_the_prediction_times_do_not_pass() -> None:
    labelled = as_keys([(1, 5)]).with_columns(boolean_value=True)
    assert seen(as_events([(1, 3, 0, 7)]), labelled).columns == [*EVENTS, "prediction_time"]


@pytest.mark.parametrize(
    "prediction_times",
    [
        pl.DataFrame({"subject_id": [1]}),
        pl.DataFrame({"subject_id": [1], "prediction_time": [datetime(2020, 1, 1)]}),
        pl.DataFrame({"subject_id": ["1"], "prediction_time": [DAY_0]}),
    ],
)
def test_wrong_prediction_times_are_refused(prediction_times: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="cast or add the column"):
        history(as_events([]), prediction_times)
