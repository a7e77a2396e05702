"""Rows of resources, with their times as written, to arriving events."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from careloop.ingest.delivery import ARRIVING
from careloop.ingest.fhir.elements import Row
from careloop.ingest.fhir.times import spans
from careloop.record.schema import EARLIEST, LATEST, TIME

# One event a row; `at` is the place of its resource in the batch, `updated` when the resource was last changed.
ROWS = pl.Schema(
    {
        "at": pl.UInt32(),
        "subject": pl.String(),
        "source": pl.String(),
        "updated": pl.String(),
        "code": pl.String(),
        "time": pl.String(),
        "known": pl.String(),
        "number": pl.Float64(),
        "unit": pl.String(),
        "text": pl.String(),
        "asset": pl.String(),
        "ends": pl.Boolean(),
    }
)


def rows_frame(rows: Sequence[tuple[int, str, str, str | None, Row]]) -> pl.DataFrame:
    """Return rows with place, subject, source and time of last change as a table (columns of `ROWS`)."""
    flat = [(at, subject, source, updated, *row) for at, subject, source, updated, row in rows]
    columns = zip(*flat, strict=True) if flat else [()] * len(ROWS)
    return pl.DataFrame(dict(zip(ROWS, map(list, columns), strict=True)), schema=ROWS)


def arriving(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[int, str, str]]]:
    """Return the events (columns of `ARRIVING`), and place, source and fault of resources that a record cannot hold.

    A date stands for its first moment as `time`; when nothing better is given, it counts as known at its last moment,
    never earlier than it can have been.
    """
    time, known = spans(rows["time"]), spans(rows["known"])
    table = rows.with_columns(
        start=time["start"],
        end=time["end"],
        known_end=known["end"],
        source_time=spans(rows["updated"])["start"],
    )
    bad = table.with_columns(fault=_fault()).filter(pl.col("fault").is_not_null()).select("at", "source", "fault")
    if bad.height:
        table = table.join(bad, on="at", how="anti", maintain_order="left")
    known_time = (
        pl.when(pl.col("ends"))
        .then(pl.max_horizontal("known_end", "end"))
        .otherwise(pl.coalesce("known_end", pl.when(pl.col("end") > pl.col("start")).then("end")))
    )
    events = table.select(
        "subject",
        time=pl.col("start"),
        known_time=pl.when(pl.col("start").is_not_null()).then(known_time).cast(TIME),
        code="code",
        numeric_value=pl.col("number").cast(pl.Float32),
        unit="unit",
        text_value="text",
        asset="asset",
        source="source",
        source_time="source_time",
        row="at",
    )
    return events.select(ARRIVING.names()).cast(ARRIVING), bad.unique("at", keep="first").rows()


def _fault() -> pl.Expr:
    """Say why a row cannot be stored; null where it can."""
    unreadable = (pl.col("start").is_null() & pl.col("time").is_not_null()) | (
        pl.col("known_end").is_null() & pl.col("known").is_not_null()
    )
    outside = [~pl.col(name).is_between(EARLIEST, LATEST) for name in ("start", "end", "known_end")]
    return (
        pl.when(unreadable)
        .then(pl.lit("not a date or time"))
        .when(pl.any_horizontal(outside))
        .then(pl.lit("a time is not between 1850 and 2150"))
        .when(~pl.col("number").cast(pl.Float32).is_finite())
        .then(pl.lit("a number is out of range"))
    )
