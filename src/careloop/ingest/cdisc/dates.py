"""CDISC dates as the spans they stand for: ISO 8601 with missing parts and intervals, and SAS day and second counts."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta, timezone

import polars as pl

from careloop.ingest.tables.columns import kept, utc_times
from careloop.record.schema import EARLIEST, LATEST, TIME

SAS_EPOCH = datetime(1960, 1, 1)
SECOND = timedelta(seconds=1)
LAST_SECOND = pl.duration(days=1) - pl.duration(seconds=1)
MOST_DAYS = 200_000  # about 500 years: more is no date, and would overflow
_NUMBER = r"-?\d+(?:\.\d*)?"
_DATE = re.compile(
    r"(\d{4}|-)(?:-(\d\d|-)(?:-(\d\d|-))?)?"
    r"(?:[T ](\d\d|-)(?::(\d\d|-)(?::(\d\d(?:[.,]\d+)?|-))?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_ZONED = r"[T ][^/]*(?:Z|[+-]\d\d:?\d\d)(?:/|$)"
_DURATION = re.compile(
    r"P(?=[\dT])(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+(?:[.,]\d+)?)W)?(?:(\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?=\d)(?:(\d+(?:[.,]\d+)?)H)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)S)?)?",
    re.ASCII,
)
# 15DEC2003 and 15DEC2003:13:14:17, as SAS writes dates into a CSV file.
_SAS_WRITTEN = r"^(\d{2})([A-Za-z]{3})(\d{4})(?:[: ](\d\d:\d\d(?::\d\d)?))?$"
_MONTHS = {name: f"{number:02}" for number, name in enumerate(
    ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), start=1
)}  # fmt: skip
SPANS = pl.Schema({"start": TIME, "end": TIME, "is_wrong": pl.Boolean()})
Moment = tuple[datetime, datetime]


class _UndatedError(Exception):
    """A date without its year: nothing to go by, but not wrong."""


def iso_spans(text: pl.Series, zone: str) -> pl.DataFrame:
    """First and last moment (UTC, columns of SPANS) of each date, time or interval of SDTMIG section 4.4.

    "2003-12" is all of December, "2003---15" from the first to the last 15th of the year, an interval lasts from the
    start of its first to the end of its second part, a time to the minute or second is one moment. A date without a
    year ("--12-15") is null and not wrong. Without a zone, times are local to `zone`.
    """
    values = text.unique().drop_nulls()
    whole = values.str.contains(r"^\d{4}-\d\d-\d\d$")
    days = values.filter(whole)
    midnights = days.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    rest = [(value, *_read(value)) for value in values.filter(~whole)]
    parts = {"key": pl.String(), "start": pl.Datetime("us"), "end": pl.Datetime("us"), "is_wrong": pl.Boolean()}
    table = pl.concat(
        [
            pl.DataFrame({"key": days, "start": midnights}).with_columns(
                end=pl.col("start") + LAST_SECOND, is_wrong=pl.col("start").is_null()
            ),
            pl.DataFrame(rest, schema=parts, orient="row"),
        ],
        how="vertical_relaxed",
    )
    found = pl.DataFrame({"key": text}).join(table, on="key", how="left", maintain_order="left")
    found = found.with_columns(is_utc=pl.col("key").str.contains(_ZONED).fill_null(False))
    return _within_limits(found, zone)


def _read(text: str) -> tuple[datetime | None, datetime | None, bool]:
    try:
        start, end = _interval(text.strip())
        return start, end, False
    except _UndatedError:
        return None, None, False
    except (ValueError, OverflowError):
        return None, None, True


def _interval(text: str) -> Moment:
    first, slash, second = text.partition("/")
    if not slash:
        return _span(first)
    if first.startswith("P"):
        start, end = _span(second)
        return _moved(start, first, -1), end
    start, end = _span(first)
    return start, _moved(end, second, 1) if second.startswith("P") else _span(second)[1]


def _span(text: str) -> Moment:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError
    year, month, day, *clock, zone = [None if part == "-" else part for part in match.groups()]
    if year is None:
        raise _UndatedError
    first_month, last_month = int(month or 1), int(month or 12)
    first = datetime(int(year), first_month, int(day or 1))
    last = datetime(int(year), last_month, int(day or monthrange(int(year), last_month)[1]))
    if month is None or day is None or clock[0] is None:
        return first, last + timedelta(days=1) - SECOND
    start, end = _clock(first, clock[0], clock[1], clock[2])
    shift = _shift(zone)
    return start - shift, end - shift


def _clock(day: datetime, hour: str, minute: str | None = None, second: str | None = None) -> Moment:
    if int(hour) > 24 or (int(hour) == 24 and int(minute or 0)) or int(minute or 0) > 59:
        raise ValueError
    start = day + timedelta(hours=int(hour), minutes=int(minute or 0))
    if minute is None:
        return start, start + timedelta(hours=1) - SECOND
    seconds = float((second or "0").replace(",", "."))
    if seconds >= 61:
        raise ValueError
    moment = start + timedelta(seconds=min(seconds, 59.999999))  # a leap second counts as the one before
    return moment, moment


def _shift(zone: str | None) -> timedelta:
    """What to take away to come to UTC."""
    if zone is None or zone == "Z":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    offset = timezone(timedelta(hours=hours, minutes=minutes)).utcoffset(None)
    return -offset if zone[0] == "-" else offset


def _moved(moment: datetime, duration: str, sign: int) -> datetime:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError
    years, months = (int(part or 0) for part in match.groups()[:2])
    weeks, days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups()[2:])
    number = moment.year * 12 + moment.month - 1 + sign * (12 * years + months)
    year, month = divmod(number, 12)
    day = min(moment.day, monthrange(year, month + 1)[1])
    lasting = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return moment.replace(year=year, month=month + 1, day=day) + sign * lasting


def moved(start: pl.Series, duration: pl.Series) -> pl.Series:
    """Each start (UTC) after its ISO 8601 duration; null where either is missing or no duration."""
    pairs = zip(start, duration, strict=True)
    return pl.Series([_after(moment, lasting) for moment, lasting in pairs], dtype=TIME)


def _after(moment: datetime | None, duration: str | None) -> datetime | None:
    try:
        return None if moment is None or duration is None else _moved(moment, duration, 1)
    except (ValueError, OverflowError):
        return None


def day_spans(column: pl.Series, zone: str) -> pl.DataFrame:
    """Spans of an ADaM date (`ADT`): SAS days since 1960-01-01, a date, or either as text."""
    return _sas_spans(column, zone, unit="days")


def moment_spans(column: pl.Series, zone: str) -> pl.DataFrame:
    """Spans of an ADaM time (`ADTM`): SAS seconds since 1960-01-01, a time, or either as text."""
    return _sas_spans(column, zone, unit="seconds")


def _sas_spans(column: pl.Series, zone: str, *, unit: str) -> pl.DataFrame:
    if column.dtype == pl.String:
        return _text_spans(column, zone, unit=unit)
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Float64, strict=False)
        days = numbers if unit == "days" else numbers / 86_400
        is_wrong = ~(days.is_finite() & (days.abs() < MOST_DAYS)) & numbers.is_not_null()
        ticks = (kept(days, ~is_wrong) * 86_400_000_000).round().cast(pl.Int64, strict=False)
        starts = pl.Series(SAS_EPOCH + pl.Series(ticks).cast(pl.Duration("us")))
    else:
        starts, is_wrong = utc_times(column, zone).dt.replace_time_zone(None), None
    found = pl.DataFrame({"start": starts})
    end = pl.col("start") + LAST_SECOND if unit == "days" else pl.col("start")
    wrong = pl.lit(is_wrong) if is_wrong is not None else pl.lit(False)
    return _within_limits(found.with_columns(end=end, is_wrong=wrong), zone)


def _text_spans(text: pl.Series, zone: str, *, unit: str) -> pl.DataFrame:
    numbers = kept(text, text.str.contains(rf"^{_NUMBER}$") & ~text.str.contains(r"^\d{4}$"))
    parts = text.str.extract_groups(_SAS_WRITTEN).struct.unnest()
    parts.columns = ["day", "month", "year", "clock"]
    month = parts["month"].str.to_uppercase().replace_strict(_MONTHS, default=None, return_dtype=pl.String)
    clock = ("T" + parts["clock"]).fill_null("")
    written = parts["year"] + "-" + month + "-" + parts["day"] + clock
    texts = iso_spans(pl.select(pl.coalesce(written, text)).to_series(), zone)
    counted = _sas_spans(numbers.cast(pl.Float64, strict=False), zone, unit=unit)
    is_number = numbers.is_not_null()
    return pl.DataFrame({name: counted[name].zip_with(is_number, texts[name]) for name in SPANS})


def _within_limits(found: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Local times as UTC; wrong where outside the years that a record holds."""
    start, end = (utc_times(found[name], zone) for name in ("start", "end"))
    if "is_utc" in found.columns:
        utc = [found[name].dt.replace_time_zone("UTC") for name in ("start", "end")]
        start, end = utc[0].zip_with(found["is_utc"], start), utc[1].zip_with(found["is_utc"], end)
    outside = ((start < EARLIEST) | (end > LATEST)).fill_null(False)
    return pl.DataFrame(
        {
            "start": kept(start, ~outside),
            "end": kept(end, ~outside),
            "is_wrong": found["is_wrong"].fill_null(False) | outside,
        },
        schema=SPANS,
    )


def study_day(reference: pl.Series, day: pl.Series, zone: str) -> pl.Series:
    """Midnight of a study day (SDTMIG 4.4.4): day 1 is the day of the reference, -1 the one before, there is no 0."""
    whole = kept(day, (day != 0) & (day.abs() < MOST_DAYS)).round().cast(pl.Int64, strict=False)
    shift = pl.when(pl.lit(whole) > 0).then(pl.lit(whole) - 1).otherwise(pl.lit(whole))
    midnight = reference.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.truncate("1d")
    return utc_times(pl.select(pl.lit(midnight) + pl.duration(days=shift)).to_series(), zone)
