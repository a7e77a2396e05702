"""Resources written to a file and read back, with the counts that every reader owes checked on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.ingest.delivery import ARRIVING, Reject
from careloop.ingest.fhir import fhir_sources
from careloop.record import conform


@dataclass(frozen=True)
class Read:
    """All that a file or folder gave."""

    events: pl.DataFrame
    rows_read: int
    rows_kept: int
    rejected: list[Reject]
    skipped: Counter[str]
    withdrawn: list[tuple[str, datetime | None]]
    merges: list[tuple[str, str]]
    codes: dict[str, str]

    @property
    def reasons(self) -> Counter[str]:
        return Counter(reject.reason for reject in self.rejected)

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """Columns of the events, by default code, number, unit and text."""
        return self.events.select(names or ("code", "numeric_value", "unit", "text_value")).rows()

    def times(self) -> list[tuple[str, str | None, str | None]]:
        """Code, time and known_time of the events, as text."""
        form = "%Y-%m-%dT%H:%M:%S"
        known = pl.coalesce("known_time", "time")  # as in the record: null means the same
        rows = self.events.select("code", pl.col("time").dt.strftime(form), known.dt.strftime(form)).rows()
        return [(str(code), time, known) for code, time, known in rows]


def read_all(path: Path, **given: Any) -> Read:
    """Read a file or folder; the counts add up and a record could hold every event."""
    batches = [batch for source in fhir_sources(path, **given) for batch in source.read()]
    skipped: Counter[str] = Counter()
    for batch in batches:
        assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
        assert min([0, *batch.skipped.values(), batch.rows_kept]) == 0
        skipped.update(batch.skipped)
    events = pl.concat([ARRIVING.to_frame(), *(batch.events for batch in batches)])
    stored = [name for name in ARRIVING if name not in {"subject", "source_time", "row"}]
    conform(events.select(stored).with_columns(subject_id=pl.lit(1, dtype=pl.Int64)))
    assert events.select(pl.col("subject", "source", "row").null_count()).row(0) == (0, 0, 0)
    return Read(
        events,
        sum(batch.rows_read for batch in batches),
        sum(batch.rows_kept for batch in batches),
        [reject for batch in batches for reject in batch.rejected],
        skipped,
        [row for batch in batches for row in batch.withdrawn.rows()],
        [pair for batch in batches for pair in batch.merges],
        {code: means for batch in batches for code, means in batch.codes.rows()},
    )


@pytest.fixture(scope="session")
def read_path() -> Callable[..., Read]:
    """Read a file or folder."""
    return read_all


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Read resources (one a line), or the bytes of a file; `name` says what the file is called."""

    def written(*resources: dict[str, Any] | bytes, name: str = "a.ndjson", **given: Any) -> Read:
        parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in resources]
        (tmp_path / name).write_bytes(b"\n".join(parts))
        return read_all(tmp_path / name, **given)

    return written
