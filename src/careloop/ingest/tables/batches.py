"""What the rows of a table gave: events in the order of the rows, rows that are left out, and their rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from careloop.ingest.delivery import ARRIVING, Reject
from careloop.ingest.tables.rows import Rows

MARKED = pl.Schema({"row": pl.UInt32(), "reason": pl.String()})
NOTHING_MORE = pl.Schema({})


def joined_events(events: Sequence[Mapping[str, pl.Series | str]], more: pl.Schema = NOTHING_MORE) -> pl.DataFrame:
    """All events of a batch in the order of its rows: ARRIVING without subject and source, and the columns of `more`.

    Each of `events` has columns with a cell for each row; a row whose `code` is null gives no event.
    """
    schema = {name: kind for name, kind in {**ARRIVING, **more}.items() if name not in {"subject", "source"}}
    frames = [
        pl.DataFrame(dict(event))
        .with_row_index("row")
        .filter(pl.col("code").is_not_null())
        .cast({name: schema[name] for name in ("row", *event)})
        for event in events
    ]
    return pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal").sort("row", maintain_order=True)


def marked_rows(marks: Sequence[tuple[str, pl.Series]]) -> pl.DataFrame:
    """The rows that some mark (reason, mask of rows) is true for, with the first reason of each (columns of MARKED)."""
    parts = [pl.DataFrame({"row": mask.arg_true(), "reason": reason}, schema=MARKED) for reason, mask in marks]
    return pl.concat([MARKED.to_frame(), *parts]).unique("row", keep="first", maintain_order=True).sort("row")


def rejects(rows: Rows, wrong: pl.DataFrame) -> list[Reject]:
    """A reject for each of the rows marked as wrong, with its cells as a JSON object."""
    raw = rows.cells[wrong["row"]].write_ndjson().split("\n")[:-1]
    numbers = rows.numbers.gather(wrong["row"])
    return [Reject(f"{rows.place} {n}", reason, r) for n, reason, r in zip(numbers, wrong["reason"], raw, strict=True)]
