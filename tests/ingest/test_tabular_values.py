"""Cells of numbers and times: checked against Python's own float, datetime and zoneinfo."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.ingest.tabular.times import moments
from careloop.ingest.tabular.values import measured

BERLIN = "Europe/Berlin"


def said(cell: str, decimal: str = ".", thousands: str | None = None) -> tuple[float | None, str | None, str | None]:
    found = measured(pl.Series([cell]), decimal, thousands)
    return found.number[0], found.unit[0], found.text[0]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("5.6", (5.6, None, None)),
        ("<0.5", (0.5, None, "<")),
        (">= 1000", (1000.0, None, ">=")),
        ("≤ 3", (3.0, None, "<=")),
        ("=7", (7.0, None, None)),
        ("−2.5", (-2.5, None, None)),
        ("5.6 mmol/L", (5.6, "mmol/L", None)),
        ("<5.6mg/dl", (5.6, "mg/dl", "<")),
        ("7.5 x10^9/L", (7.5, "x10^9/L", None)),
        ("120 mm Hg", (120.0, "mm Hg", None)),
        ("97%", (97.0, "%", None)),
        ("140 H", (140.0, None, "H")),
        ("1.5e3", (1500.0, None, None)),
        ("negative", (None, None, "negative")),
        ("1:128", (None, None, "1:128")),
        ("120/80", (None, None, "120/80")),
        ("5-10", (None, None, "5-10")),
        ("2A", (None, None, "2A")),
        ("4th", (None, None, "4th")),
        ("1,5", (None, None, "1,5")),
        ("inf", (None, None, "inf")),
        ("1e60", (None, None, "1e60")),
    ],
)
def test_values(cell: str, expected: tuple[float | None, str | None, str | None]) -> None:
    assert said(cell) == expected


@pytest.mark.parametrize(
    ("cell", "decimal", "thousands", "number"),
    [
        ("1,25", ",", None, 1.25),
        ("1.000,5", ",", ".", 1000.5),
        ("1.234", ",", ".", 1234.0),
        ("1.234", ",", None, None),  # neither a decimal comma nor a declared thousands sign: not guessed
        ("1,234,567.5", ".", ",", 1234567.5),
        ("1 234,5", ",", " ", 1234.5),
        ("1’234.5", ".", "'", 1234.5),
        ("12,34", ".", ",", None),
    ],
)
def test_signs(cell: str, decimal: str, thousands: str | None, number: float | None) -> None:
    assert said(cell, decimal, thousands)[0] == number


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32).filter(lambda x: abs(x) < 3e38))
def test_any_float_is_read_back_with_either_decimal_sign(number: float) -> None:
    assert said(repr(number))[0] == number
    assert said(repr(number).replace(".", ","), ",")[0] == number


def span(text: str, *formats: str, zone: str = BERLIN) -> tuple[datetime, datetime] | None:
    found = moments(pl.Series([text]), formats or ("iso",), zone)
    assert found.wrong[0] == (found.start[0] is None)
    return None if found.start[0] is None else (found.start[0], found.end[0])


LOCAL = datetime(2020, 7, 3, 9, 5, tzinfo=ZoneInfo(BERLIN)).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2020-07-03 09:05", "iso"),
        ("2020-07-03T09:05:00.000", "iso"),
        ("2020/7/3 9:05", "iso"),
        ("2020年7月3日 09:05", "iso"),
        ("2020-07-03T07:05:00Z", "iso"),
        ("2020-07-03 05:05:00-02:00", "iso"),
        ("20200703 09:05", "iso"),
        ("3-Jul-2020 09:05", "iso"),
        ("03.07.2020 9:05", "day-first"),
        ("3/7/2020, 09:05", "day-first"),
        ("2020-07-03 09:05", "day-first"),
        ("07/03/2020 9:05 AM", "month-first"),
        ("7/3/2020 09:05:00 am", "month-first"),
        ("03.07.20 09:05", "%d.%m.%y %H:%M"),
        ("1593759900", "epoch"),
        ("1593759900000", "milliseconds since 1970-01-01"),
        ("425", "minutes since 2020-07-03"),
        ("44015.378472222222", "excel"),
    ],
)
def test_ways_to_write_a_moment(text: str, form: str) -> None:
    found = span(text, form)
    assert found is not None
    assert abs(found[0] - LOCAL) < timedelta(milliseconds=1)
    assert found[0] == found[1]


@settings(max_examples=60, deadline=None)
@given(
    # Time zone rules end with 2099 in polars.
    st.dates(date(1900, 1, 1), date(2099, 12, 30)),
    st.sampled_from([BERLIN, "America/New_York", "UTC", "Asia/Tokyo"]),
)
def test_a_date_is_its_whole_local_day(day: date, zone: str) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    serial = (day - date(1899, 12, 30)).days
    for text, form in (
        (day.isoformat(), "iso"),
        (f"{day:%d.%m.%Y}", "day-first"),
        (f"{day:%m/%d/%Y}", "month-first"),
        (str(serial), "excel"),
        (f"{day:%Y%m%d}", "iso"),
    ):
        assert span(text, form, zone=zone) == (start, end - timedelta(seconds=1))
    typed = moments(pl.Series([day]), ("iso",), zone)
    assert (typed.start[0], typed.end[0]) == (start, end - timedelta(seconds=1))


def test_a_leap_second_is_the_second_before() -> None:
    moment = datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)
    for text in ("2016-12-31 23:59:60", "31.12.2016 23:59:60", "2016-12-31T23:59:60Z"):
        assert span(text, "day-first", zone="UTC") == (moment, moment)


def test_years_months_and_open_ends() -> None:
    assert span("1950", zone="UTC") == (
        datetime(1950, 1, 1, tzinfo=UTC),
        datetime(1950, 12, 31, 23, 59, 59, tzinfo=UTC),
    )
    assert span("1950-02", zone="UTC") == (
        datetime(1950, 2, 1, tzinfo=UTC),
        datetime(1950, 2, 28, 23, 59, 59, tzinfo=UTC),
    )
    found = moments(pl.Series(["9999-12-31", None, "2020-01-01"]), ("iso",), "UTC")
    assert found.start.is_null().to_list() == [True, True, False]
    assert not found.wrong.any()


@pytest.mark.parametrize(
    "text", ["32.01.2020", "2020-02-30", "0019-01-01", "5-1-20", "2200-01-01", "soon", "03/04/2020"]
)
def test_what_is_no_time_is_wrong(text: str) -> None:
    assert span(text) is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=20) | st.text(st.sampled_from("0123456789-./: TZ+e"), max_size=22), max_size=5),
    st.sampled_from(["iso", "day-first", "month-first", "excel", "epoch", "%d.%m.%Y", "microseconds since 1970-01-01"]),
    st.sampled_from([BERLIN, "UTC", "America/St_Johns"]),
)
def test_any_text_is_a_time_or_wrong(texts: list[str], form: str, zone: str) -> None:
    column = pl.Series(texts, dtype=pl.String)
    found = moments(column, (form,), zone)
    assert len(found.start) == len(found.end) == len(found.wrong) == len(texts)
    assert (found.end >= found.start).all()
    values = measured(column, ",", ".")
    assert (values.number.is_null() == (values.text == column).fill_null(False)).all()
