"""What a format's reader hands over: sources, each read as batches of arriving events, rejects and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from careloop.record import EVENTS, TIME

# Events as a reader gives them: `subject` is the source's own patient identifier, `source` names the source row, and
# `source_time` says which version of it this is (null: whatever is delivered later is newer). `row` numbers the source
# row within its batch, so that two versions of one source row in a batch are told apart (null: they are not).
ARRIVING = pl.Schema(
    {
        "subject": pl.String(),
        **{name: dtype for name, dtype in EVENTS.items() if name != "subject_id"},
        "source_time": TIME,
        "row": pl.UInt32(),
    }
)
WITHDRAWN = pl.Schema({"source": pl.String(), "source_time": TIME})
CODES = pl.Schema({"code": pl.String(), "description": pl.String()})
BATCH_ROWS = 100_000  # source rows a batch: some ten MB of columns, enough to make vectorised work cheap


@dataclass(frozen=True)
class Reject:
    """One source row that could not be read, kept whole so that it can be mended and delivered again.

    `place` is where it stands ("line 12", "row 4", "entry 7", "OBX 3 of message 2"); `reason` names the broken rule in
    fixed words without patient data, so that equal reasons can be counted; `raw` is the row as it came.
    """

    place: str
    reason: str
    raw: str = ""


@dataclass(frozen=True)
class Batch:
    """A run of source rows (resources, lines, table rows), some of which became events.

    `events` has the columns of `ARRIVING`, any that are missing counting as null. `rows_read` are all source rows seen,
    `rows_kept` those that gave an event, a patient link or a withdrawal; the others are in `rejected` (broken) or
    counted in `skipped` by reason (understood, but nothing to store: "Organization: not about a patient").
    `withdrawn` (columns of `WITHDRAWN`) are source rows that by now are removed, entered in error or say nothing;
    `merges` are pairs of patient identifiers (retired, surviving); `codes` says what codes mean (`code` and any
    other column of the record's codes table).
    """

    events: pl.DataFrame
    rows_read: int
    rows_kept: int
    rejected: Sequence[Reject] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    withdrawn: pl.DataFrame = field(default_factory=WITHDRAWN.to_frame)
    merges: Sequence[tuple[str, str]] = ()
    codes: pl.DataFrame = field(default_factory=CODES.to_frame)


@dataclass(frozen=True)
class Source:
    """A piece of a delivery that is read, staged and resumed as a whole: usually one file, or one table.

    `files` are those whose content decides what `read` gives; `read` starts from the beginning each time and gives the
    same batches for the same content. `name` stands in summaries and rejects.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Iterator[Batch]]
