"""Written times of any order, pattern or count since a day, as spans: a date alone is its whole day."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from careloop.ingest.tables.columns import DATE_FORMATS, utc_times
from careloop.record.schema import TIME

SINCE = re.compile(r"(microseconds|milliseconds|seconds|minutes|hours|days) since (\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d)?)")
SECONDS = {
    "microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0,
}  # fmt: skip
ALIASES = {"excel": "days since 1899-12-30", "epoch": "seconds since 1970-01-01"}
WORDS = ("iso", "day-first", "month-first", *ALIASES)
YEARS = (1851, 2148)  # a day inside what a record holds, whatever the zone
OPEN_END = 2299  # this year or later stands for "not ended yet" (9999-12-31, 2999-12-31)
_MAX_SECONDS = 1e11  # some 3,000 years; far more would overflow
_YEAR_FIRST = r"^([0-9]{4}) ?[./年] ?([0-9]{1,2}) ?[./月] ?([0-9]{1,2})日?"
_YEAR_LAST = r"^([0-9]{1,2})[./-]([0-9]{1,2})[./-]([0-9]{4})"
_NAMED_MONTH = r"^([0-9]{1,2})[-./ ]+([A-Za-z]{3})[A-Za-z]*[-./, ]+([0-9]{4})"
_LEAP = r"([0-9]{2}:[0-9]{2}):60"
_GAP = r"^([0-9]{4}-[0-9A-Za-z]+-[0-9]{1,2}),? +"
_USUAL = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")
_FORMATS = (
    *DATE_FORMATS,
    "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p", "%Y%m%d %H:%M:%S", "%Y%m%d %H:%M",
    "%Y-%b-%d", "%Y-%b-%d %H:%M:%S%.f", "%Y-%b-%d %H:%M", "%Y-%b-%d %I:%M:%S %p", "%Y-%b-%d %I:%M %p",
)  # fmt: skip
_CLOCKS = ("%H", "%I", "%T", "%R", "%k", "%l", "%s", "%c", "%X", "%r", "%+")
_NO_YEAR = 99  # strptime reads the 5 of 5-1-20 as a year
_READ = pl.Schema({"text": pl.String(), "start": TIME, "end": TIME, "open": pl.Boolean()})


@dataclass(frozen=True)
class Spans:
    """First and last moment (UTC) of each time; null where there is none and where it cannot be read (`wrong`)."""

    start: pl.Series
    end: pl.Series
    wrong: pl.Series


def moments(column: pl.Series, formats: Sequence[str], zone: str) -> Spans:
    """Read times; those without a zone of their own are local to `zone`.

    Formats, tried in turn: `iso` (also 2020/1/31, 20200131, 31-Jan-2020, 2020-01 and 2020), `day-first` and
    `month-first` (which also take what `iso` does), `excel`, `epoch`, `<unit> since <date>` as in the CF conventions
    (section 4.4; days are local, shorter units pass since a time in UTC), or a strptime pattern. A date alone lasts
    until a second before the next, a month or year alike.
    Years from OPEN_END on mean that there is no time yet; other years outside YEARS are wrong.
    """
    if column.dtype.is_temporal():
        unit = "1d" if column.dtype == pl.Date else ""
        naive = column.rename("text").to_frame().with_row_index("row")
        read = _spans(naive["text"], naive["text"], unit, zone)
        found = read.drop("text")
    else:
        text = column.cast(pl.String).rename("text")
        read = _read_all(text.drop_nulls().unique(maintain_order=True), formats, zone)
        found = text.to_frame().join(read, on="text", how="left", maintain_order="left").drop("text")
    is_open = found["open"].fill_null(False)
    return Spans(found["start"], found["end"], column.is_not_null() & found["start"].is_null() & ~is_open)


def _read_all(left: pl.Series, formats: Sequence[str], zone: str) -> pl.DataFrame:
    """The distinct texts that can be read (columns of _READ), in the first format that fits each."""
    found = [_READ.to_frame()]
    for form in formats:
        read, left = _read(left, ALIASES.get(form, form), zone)
        found += read
    return pl.concat(found)


def _read(text: pl.Series, form: str, zone: str) -> tuple[list[pl.DataFrame], pl.Series]:
    """The texts that fit one format, and those that do not."""
    since = SINCE.fullmatch(form)
    if since:
        read = [_counted(text, since[1], since[2], zone)]
        return read, text.filter(~text.is_in(read[0].drop_nulls("start")["text"].implode()))
    if "%" not in form:
        return _worded(text, form, zone)
    patterned, left = _parsed(_plain(text), form, zone)
    return [patterned], left["text"]


def _counted(text: pl.Series, unit: str, since: str, zone: str) -> pl.DataFrame:
    """Counts of days since a local one, whole ones being days; or of a shorter unit since a moment in UTC."""
    zone = zone if unit == "days" else "UTC"
    seconds = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False) * SECONDS[unit]
    is_near = (seconds.abs() < _MAX_SECONDS).fill_null(False)
    passed = pl.select(pl.when(is_near).then(seconds * 1e6).round().cast(pl.Int64)).to_series()
    begin = pl.Series([since.replace(" ", "T")]).str.to_datetime(
        "%Y-%m-%dT%H:%M" if ":" in since else "%Y-%m-%d", time_unit="us"
    )
    naive = begin.new_from_index(0, text.len()) + passed.cast(pl.Duration("us"))
    whole = (unit == "days") & ((passed % 86_400_000_000) == 0).fill_null(False)
    lengths = ((whole, "1d"), (~whole, ""))
    parts = [_spans(text.filter(mask), naive.filter(mask), lasts, zone) for mask, lasts in lengths]
    return pl.concat(parts)


def _worded(text: pl.Series, order: str, zone: str) -> tuple[list[pl.DataFrame], pl.Series]:
    """Texts whose date is written in one of the known ways; nearly all of a file's are written alike."""
    left, found = _plain(text), []
    for form in _USUAL:
        read, left = _parsed(left, form, zone)
        found.append(read)
    left = left.with_columns(plain=_year_first(left["plain"], order))
    for form in _FORMATS:
        if not left.height:
            break
        read, left = _parsed(left, form, zone)
        found.append(read)
    for pattern, rest, lasts in ((r"^[0-9]{4}$", "-01-01", "1y"), (r"^[0-9]{4}-[0-9]{1,2}$", "-01", "1mo")):
        part = left.filter(pl.col("plain").str.contains(pattern)).with_columns(pl.col("plain") + rest)
        found.append(_parsed(part, "%Y-%m-%d", zone, lasts=lasts)[0])
        left = left.filter(~pl.col("text").is_in(found[-1]["text"].implode()))
    return found, left["text"]


def _plain(text: pl.Series) -> pl.DataFrame:
    """The texts, and as they are to be read: a leap second is the second before it."""
    has_leaped = text.str.contains(":60", literal=True).any()
    return pl.DataFrame({"text": text, "plain": text.str.replace(_LEAP, "$1:59") if has_leaped else text})


def _year_first(text: pl.Series, order: str) -> pl.Series:
    """The texts with their dates brought to year, month and day in this order."""
    plain = text.str.replace(_YEAR_FIRST, "$1-$2-$3").str.replace(_NAMED_MONTH, "$3-$2-$1")
    plain = plain.str.replace(_YEAR_LAST, "$3-$2-$1") if order == "day-first" else plain
    plain = plain.str.replace(_YEAR_LAST, "$3-$1-$2") if order == "month-first" else plain
    return plain.str.replace(_GAP, "$1 ")


def _parsed(texts: pl.DataFrame, form: str, zone: str, *, lasts: str = "1d") -> tuple[pl.DataFrame, pl.DataFrame]:
    """The texts (text, and `plain` as it is to be read) that fit one strptime pattern, and those that do not.

    `lasts` is how long those last that have no clock time.
    """
    if not texts.height:
        return _READ.to_frame(), texts
    found = texts["plain"].str.to_datetime(form, time_unit="us", strict=False, ambiguous="earliest")
    has_clock = any(sign in form for sign in _CLOCKS)
    is_read = (found.dt.year() > _NO_YEAR).fill_null(False)
    read = _spans(texts["text"].filter(is_read), found.filter(is_read), "" if has_clock else lasts, zone)
    return read, texts.filter(~is_read)


def _spans(text: pl.Series, times: pl.Series, lasts: str, zone: str) -> pl.DataFrame:
    """Times, local to `zone` unless they have one, as spans that last as long as `lasts` says."""
    if not (times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime)):
        times = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, times.len())
    own_zone = times.dtype.time_zone if isinstance(times.dtype, pl.Datetime) else None
    times = times.cast(pl.Datetime("us", own_zone))
    year = times.dt.year()
    inside = year.is_between(*YEARS).fill_null(False)
    times = pl.select(pl.when(inside).then(times)).to_series()
    start = utc_times(times, zone)
    end = utc_times(times.dt.offset_by(lasts), zone).dt.offset_by("-1s") if lasts else start
    columns = {"start": start, "end": end, "open": (year >= OPEN_END).fill_null(False)}
    return pl.DataFrame({"text": text.cast(pl.String), **columns}, schema=_READ)
