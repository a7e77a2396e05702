"""Columns as text and as times in UTC, from whatever they are stored as."""

from __future__ import annotations

import polars as pl

from careloop.record.schema import TIME, TIME_FORMATS

DATE_FORMATS = (*TIME_FORMATS, "%Y%m%d", "%Y-%m-%d %H:%M:%S%.f %#z")
MIDNIGHT_GAP = pl.duration(hours=1)  # clocks skip at most this much of a day, in some zones at midnight


def kept(values: pl.Series, where: pl.Series) -> pl.Series:
    """The values in the rows where `where` is true; null elsewhere."""
    return pl.select(pl.when(where).then(values).alias(values.name)).to_series()


def first_of(*columns: pl.Series) -> pl.Series:
    """In each row the first value that is there."""
    return pl.select(pl.coalesce(columns)).to_series()


def number_text(column: pl.Series) -> pl.Series:
    """Fractional numbers as text, a whole one without a point."""
    whole = column.cast(pl.Int64, strict=False)
    is_whole = (whole.cast(pl.Float64) == column.cast(pl.Float64)).fill_null(False)
    return whole.cast(pl.String).zip_with(is_whole, column.cast(pl.String))


def utc_times(column: pl.Series, zone: str) -> pl.Series:
    """Times from dates, datetimes or text, those without a zone local to `zone`; null where a value is none."""
    if column.dtype == pl.String:
        return parse_times(column, zone)
    local = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
    times = column.cast(pl.Datetime("us", local))
    return times.cast(TIME) if local else _utc(times, zone)


def parse_times(text: pl.Series, zone: str) -> pl.Series:
    """Times from text in any of `DATE_FORMATS`; without a zone they are local to `zone`. Null where it is none."""
    text = text.str.replace(r"(\d\d:\d\d):60", "$1:59")  # a leap second
    times = pl.Series(text.name, [None], dtype=TIME).new_from_index(0, text.len())
    for form in DATE_FORMATS:
        todo = times.is_null() & text.is_not_null()
        if not todo.any():
            break
        found = text.str.to_datetime(form, time_unit="us", strict=False)
        is_zoned = isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone is not None
        times = (found.cast(TIME) if is_zoned else _utc(found, zone)).zip_with(todo, times)
    return times


def _utc(local: pl.Series, zone: str) -> pl.Series:
    """Local times in UTC: the earlier one where clocks were set back, the next that exists where they were set on."""
    if zone == "UTC":
        return local.dt.replace_time_zone("UTC")
    column = pl.lit(local)
    exists = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    later = (column - MIDNIGHT_GAP).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null") + MIDNIGHT_GAP
    return pl.select(pl.coalesce(exists, later).dt.convert_time_zone("UTC").alias(local.name)).to_series()
