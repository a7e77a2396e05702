"""FHIR dates and times as the spans they stand for: "2015-03" is all of March, a full time one moment."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone

import polars as pl

from careloop.record.schema import TIME

_WRITTEN = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(Z|[+-]\d\d:?\d\d)?)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_ZONE = r"^(?:\.([0-9]+))?(?:[zZ]|([+-])(0[0-9]|1[0-4]):([0-5][0-9]))?$"
FEW = 200  # texts, below which reading them one by one is quicker than by columns
SPANS = pl.Schema({"start": TIME, "end": TIME})


def spans(text: pl.Series) -> pl.DataFrame:
    """Return first and last moment (UTC, whole seconds for the last) of each FHIR date, dateTime or instant.

    Full times (both the same moment) are read column by column; what is left, dates and unusual spellings, once each.
    A time without zone is taken as UTC, leap second 60 as 59. Null where the text is null or no date or time.
    """
    text = text.rename("text")
    moments = _full_times(text) if len(text) >= FEW else pl.Series([None], dtype=TIME).new_from_index(0, len(text))
    left = text.filter(moments.is_null() & text.is_not_null()).unique()
    if not len(left):
        return pl.DataFrame({"start": moments, "end": moments}, schema=SPANS)
    read = [span_of(value) or (None, None) for value in left]
    return pl.DataFrame(
        {
            name: moments.zip_with(moments.is_not_null(), text.replace_strict(left, values, default=None))
            for name, values in (
                ("start", pl.Series([start for start, _ in read], dtype=TIME)),
                ("end", pl.Series([end for _, end in read], dtype=TIME)),
            )
        },
        schema=SPANS,
    )


def _full_times(text: pl.Series) -> pl.Series:
    """Return the moments that are written with seconds and zone, or without zone; null for all other text."""
    # Whole seconds by polars' quick way of fixed formats; fraction and zone, of which there are few, are added.
    heads = text.str.slice(0, 19)
    seconds = heads.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)
    seconds = seconds.set(heads.str.ends_with(":60"), None)
    tails = text.str.slice(19)
    shifts = tails.replace_strict(*_shifts(tails.unique()), default=None)
    return (seconds + shifts).dt.replace_time_zone("UTC")


def _shifts(tails: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the tails, such as ".250+01:00", and what each adds to its whole seconds; null for what is no tail."""
    parts = tails.str.extract_groups(_ZONE).struct.unnest()
    parts.columns = ["fraction", "sign", "hours", "minutes"]
    fraction = pl.col("fraction").str.slice(0, 6).str.pad_end(6, "0").cast(pl.Int64).fill_null(0)
    ahead = (pl.col("hours").cast(pl.Int64) * 60 + pl.col("minutes").cast(pl.Int64)).fill_null(0) * 60_000_000
    shift = fraction - pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead)
    valid = tails.str.contains(_ZONE)
    microseconds = parts.select(pl.when(valid).then(shift).alias("shift"))["shift"]
    return tails, microseconds.cast(pl.Duration("us"))


def span_of(text: str) -> tuple[datetime, datetime] | None:
    """Return first and last moment of one written date or time, None where it is none."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        if hour is None:
            return _whole(int(year), month, day)
        microsecond = int((fraction or "0")[:6].ljust(6, "0"))
        leaped = min(int(second or 0), 59) if second in {None, "60"} else int(second)
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), leaped, microsecond, _zone(zone))
        return moment.astimezone(UTC), moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _whole(year: int, month: str | None, day: str | None) -> tuple[datetime, datetime]:
    first = datetime(year, int(month or 1), int(day or 1), tzinfo=UTC)
    last_month = int(month or 12)
    last_day = int(day or monthrange(year, last_month)[1])
    return first, datetime(year, last_month, last_day, 23, 59, 59, tzinfo=UTC)


def _zone(text: str | None) -> timezone:
    if text is None or text in "zZ":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)
