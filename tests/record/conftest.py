"""Records and events that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from careloop.record import EVENTS, Record, conform


@pytest.fixture
def record(tmp_path: Path) -> Record:
    # A blank, non-Latin letters and a wildcard in the path: a hospital's folders have them all.
    return Record.create(tmp_path / "病院 record [1]", shards=4)


@pytest.fixture
def events() -> pl.DataFrame:
    """Six subjects (one with a negative id), a static fact each, and measurements, one of them known a week late."""
    ids = [5, 2, 9, -3, 4, 8]
    static = pl.DataFrame({"subject_id": ids, "time": None, "code": "SEX", "text_value": ["F", "M"] * 3})
    measured = pl.DataFrame(
        {
            "subject_id": ids * 2,
            "time": [f"2020-01-{day:02d}T08:00:00Z" for day in range(1, 13)],
            "known_time": ["2020-01-08T08:00:00Z", *[None] * 11],
            "code": "LOINC//2160-0",
            "numeric_value": [80.5 + row for row in range(12)],
            "unit": "umol/L",
        }
    )
    rows = pl.concat([conform(static), conform(measured)])
    return rows.with_columns(source=pl.format("labs.csv:{}", pl.int_range(pl.len()))).select(EVENTS.names())
