"""Rows of a batch to a table of arriving events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from careloop.ingest.delivery import ARRIVING, WITHDRAWN
from careloop.record.schema import TIME

# The order of a row's values; times are microseconds since 1970 (UTC).
COLUMNS = pl.Schema(
    {
        "subject": pl.String(),
        "time": pl.Int64(),
        "known_time": pl.Int64(),
        "code": pl.String(),
        "numeric_value": pl.Float64(),
        "unit": pl.String(),
        "text_value": pl.String(),
        "asset": pl.String(),
        "source": pl.String(),
        "source_time": pl.Int64(),
        "row": pl.UInt32(),
    }
)
TEXT = COLUMNS.names().index("text_value")


def arriving(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    """Return rows, whose values are in the order of `COLUMNS`, as events (columns of `ARRIVING`)."""
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    series = [pl.Series(name, column, COLUMNS[name]) for name, column in zip(COLUMNS, columns, strict=True)]
    return pl.DataFrame(series).cast(ARRIVING).select(ARRIVING.names())


def withdrawals(withdrawn: Mapping[str, Sequence[int | None]]) -> pl.DataFrame:
    """Return withdrawn sources and from when on they are (columns of `WITHDRAWN`)."""
    pairs = [(source, time) for source, times in withdrawn.items() for time in dict.fromkeys(times)]
    table = pl.DataFrame(pairs, schema={"source": pl.String(), "source_time": pl.Int64()}, orient="row")
    return table.cast({"source_time": TIME}).cast(WITHDRAWN)
