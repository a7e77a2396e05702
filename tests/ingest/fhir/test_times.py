"""FHIR dates and times as spans: written by hand, and one by one against column by column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.ingest.fhir.times import FEW, span_of, spans


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("2015", "2015-01-01T00:00:00", "2015-12-31T23:59:59"),
        ("2016-02", "2016-02-01T00:00:00", "2016-02-29T23:59:59"),
        ("2015-02-07", "2015-02-07T00:00:00", "2015-02-07T23:59:59"),
        ("2015-02-07T13:28:17-05:00", "2015-02-07T18:28:17", "2015-02-07T18:28:17"),
        ("2015-02-07T13:28:17+05:30", "2015-02-07T07:58:17", "2015-02-07T07:58:17"),
        ("2015-02-07T13:28:17.123456789Z", "2015-02-07T13:28:17.123456", "2015-02-07T13:28:17.123456"),
        ("2015-02-07T13:28:17", "2015-02-07T13:28:17", "2015-02-07T13:28:17"),
        ("2015-02-07T13:28", "2015-02-07T13:28:00", "2015-02-07T13:28:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59", "2016-12-31T23:59:59"),
        ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:59", "2016-12-31T23:59:59"),
    ],
)
@pytest.mark.parametrize("times", [1, FEW + 1])
def test_spans(written: str, start: str, end: str, times: int) -> None:
    frame = spans(pl.Series([written, None] * times))
    expected = tuple(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    assert set(frame.rows()) == {expected, (None, None)}


@pytest.mark.parametrize(
    "written",
    ["", "15-02-07", "2015-2-7", "2015-02-30", "2015-13", "0000", "٢٠١٥", "now", "2015-02-07Z", "2015-02-07T25:00:00Z"]
    + [f"2015-02-07T13:28:{rest}" for rest in ("61Z", "17+25:00", "17ZZ", "17.Z")],
)
@pytest.mark.parametrize("times", [1, FEW + 1])
def test_what_is_no_date_or_time(written: str, times: int) -> None:
    assert spans(pl.Series([written] * times))["start"].null_count() == times


MOMENTS = st.datetimes(datetime(1850, 1, 1), datetime(2150, 1, 1))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(MOMENTS, ZONES), min_size=1, max_size=20))
def test_both_ways_agree_with_the_standard_library(moments: list[tuple[datetime, timezone]]) -> None:
    zoned = [moment.replace(tzinfo=zone) for moment, zone in moments]
    written = [moment.isoformat() for moment in zoned]
    by_column = spans(pl.Series(written * FEW))["start"].to_list()[: len(written)]
    assert by_column == [moment.astimezone(UTC) for moment in zoned]
    assert [(span_of(text) or (None,))[0] for text in written] == by_column
