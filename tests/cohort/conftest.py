"""Small records to select cohorts from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.record import Record, conform

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)


def to_events(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of (subject_id, day or None, code[, value[, day known[, text]]]), days counted from 2020-01-01."""
    records = []
    for row in rows:
        subject_id, day, code, value, known, text = (*row, *(None,) * (6 - len(row)))
        records.append(
            {
                "subject_id": subject_id,
                "time": None if day is None else DAY_0 + timedelta(days=day),
                "known_time": None if known is None else DAY_0 + timedelta(days=known),
                "code": code,
                "numeric_value": value,
                "text_value": text,
            }
        )
    time = pl.Datetime("us", "UTC")
    schema = {"subject_id": pl.Int64, "time": time, "known_time": time, "code": pl.String}
    return conform(pl.DataFrame(records, schema={**schema, "numeric_value": pl.Float32, "text_value": pl.String}))


@pytest.fixture(scope="session")
def events_of() -> Callable[[list[tuple[Any, ...]]], pl.DataFrame]:
    return to_events


@pytest.fixture(scope="session")
def record_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Record]:
    """Make a record of rows (see `to_events`) or of ready events."""
    numbers = itertools.count()

    def make(rows: list[tuple[Any, ...]] | pl.DataFrame, shards: int = 2) -> Record:
        path: Path = tmp_path_factory.mktemp("records") / str(next(numbers))
        events = rows if isinstance(rows, pl.DataFrame) else to_events(rows)
        return Record.create(path, shards=shards).append(events, key="all")

    return make
