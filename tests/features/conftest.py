"""A small record from rows written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from careloop.record import Record
from careloop.record.schema import EVENTS

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


def event_frame(rows: list[Row]) -> pl.DataFrame:
    """Events from rows whose `time` and `known_time` are days after DAY_0; without `known_time`, known at `time`."""
    when = ("time", "known_time")
    dated = [{k: DAY_0 + timedelta(days=v) if k in when and v is not None else v for k, v in r.items()} for r in rows]
    return pl.DataFrame(dated, schema={name: EVENTS[name] for name in EVENTS}, orient="row")


@pytest.fixture
def make_record() -> Iterator[Callable[..., Record]]:
    """Make a record of one append for each list of rows."""
    with TemporaryDirectory() as folder:
        names = count()

        def make(*batches: list[Row], shards: int = 2) -> Record:
            record = Record.create(Path(folder) / str(next(names)), shards=shards)
            for number, rows in enumerate(batches):
                record = record.append(event_frame(rows), key=str(number))
            return record

        yield make


@pytest.fixture
def make_keys() -> Callable[..., pl.DataFrame]:
    """Keys from (subject_id, day) pairs, with a split column if splits are given."""

    def make(*pairs: tuple[int, float], splits: list[str] | None = None) -> pl.DataFrame:
        rows = [(subject, DAY_0 + timedelta(days=day)) for subject, day in pairs]
        schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us", "UTC")}
        keys = pl.DataFrame(rows, schema=schema, orient="row")
        return keys if splits is None else keys.with_columns(split=pl.Series(splits, dtype=pl.String))

    return make
