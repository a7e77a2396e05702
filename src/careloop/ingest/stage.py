"""Batches of a source on their way into the record: subjects to ids, rows no record can hold to rejects, counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, Batch, Reject, Source
from careloop.ingest.summary import Counts
from careloop.ingest.vocabularies import is_standard
from careloop.record import Record
from careloop.record.merges import MERGES
from careloop.record.schema import EARLIEST, LATEST
from careloop.record.staging import StagedSource, Staging
from careloop.record.store import CODES as METADATA
from careloop.record.subjects import SUBJECTS, hashed_ids

# Rows of one source are numbered within this, sources after one another: a later one is a later delivery.
ROWS_A_SOURCE = 1 << 40
MOST_REMEMBERED = 1_000_000  # subjects of a source: some ten MB
COUNTS, REJECTS, DESCRIBED = "counts.json", "rejects.ndjson", "codes.parquet"
# In the order in which they are looked at; the first that a row breaks is its reason.
_WRONG = (
    ("no patient identifier", pl.col("subject").fill_null("") == ""),
    ("no code", pl.col("code").fill_null("") == ""),
    ("time not between 1850 and 2150", ~pl.col("time").is_between(EARLIEST, LATEST).fill_null(True)),
    ("known_time not between 1850 and 2150", ~pl.col("known_time").is_between(EARLIEST, LATEST).fill_null(True)),
    ("known_time without time", pl.col("time").is_null() & pl.col("known_time").is_not_null()),
    ("number does not fit a 32-bit float", pl.col("numeric_value").is_infinite().fill_null(False)),
)


def stage_source(
    record: Record, staging: Staging, number: int, source: Source, *, told: Callable[[int], None] = lambda rows: None
) -> None:
    """Read source `number` and stage its events, with counts, rejects and codes beside them; `told` of rows read.

    Raises:
        InputError: a file changed while it was read, or what the reader refuses as a whole.
    """
    before = _state(source.files)
    with staging.source(number, shards=record.shards) as staged:
        work = _Work(record, staged, number * ROWS_A_SOURCE)
        with (staged.folder / REJECTS).open("w", encoding="utf-8") as rejects:
            for batch, unsound in _added(work, source.read()):
                for reject in (*batch.rejected, *unsound):
                    line = {"source": source.name, "place": reject.place, "reason": reject.reason, "raw": reject.raw}
                    rejects.write(json.dumps(line, ensure_ascii=False) + "\n")
                told(batch.rows_read)
        work.counts().write(staged.folder / COUNTS)
        work.codes.write_parquet(staged.folder / DESCRIBED)
        if _state(source.files) != before:
            raise InputError(f"{source.name}: changed while it was read; ingest it again when it is complete")


def _added(work: _Work, batches: Iterator[Batch]) -> Iterator[tuple[Batch, list[Reject]]]:
    """Add batches in their order, each while the next is read: reading holds one core, storing the other."""
    with ThreadPoolExecutor(1) as storing:
        waiting: tuple[Batch, Future[list[Reject]]] | None = None
        for batch in batches:
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = batch, storing.submit(work.add, batch)
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _state(files: Sequence[Path]) -> list[tuple[int, int]]:
    try:
        return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from None


@dataclass
class _Work:
    """One source while it is read."""

    record: Record
    staged: StagedSource
    sequence: int
    rows_read: int = 0
    rows_kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    events_of: Counter[str] = field(default_factory=Counter)
    codes: pl.DataFrame = field(default_factory=METADATA.to_frame)
    subjects: pl.DataFrame = field(default_factory=SUBJECTS.to_frame)

    def add(self, batch: Batch) -> list[Reject]:
        """Stage a batch; return the rows of it that no record can hold."""
        events, rejects = _sound(_arriving(batch))
        self.rows_read += batch.rows_read
        self.rows_kept += batch.rows_kept - len(rejects)
        self.reasons.update(reject.reason for reject in (*batch.rejected, *rejects))
        self.skipped.update(batch.skipped)
        self.events_of.update(dict(events["code"].value_counts().iter_rows()))
        described = pl.concat([self.codes, batch.codes], how="diagonal").cast(METADATA)
        self.codes = described.unique("code", keep="first", maintain_order=True)
        self._stage(events, batch)
        return rejects

    def counts(self) -> Counts:
        """What became of all rows so far."""
        mapped = sum(count for code, count in self.events_of.items() if is_standard(code))
        unmapped = self.events_of.total() - mapped
        return Counts(self.rows_read, self.rows_kept, dict(self.reasons), dict(self.skipped), mapped, unmapped)

    def _stage(self, events: pl.DataFrame, batch: Batch) -> None:
        subjects = SUBJECTS.to_frame()
        if "subject_id" not in events.columns:
            merged = pl.Series([subject for pair in batch.merges for subject in pair], dtype=pl.String)
            subjects = self._identified(pl.concat([events["subject"], merged]).unique().sort())
            ids = pl.col("subject").replace_strict(subjects["source_id"], subjects["subject_id"], default=None)
            events = events.with_columns(subject_id=ids.cast(pl.Int64))
        step = max(batch.rows_read, events.select(pl.col("row").max().fill_null(0) + 1).item())
        rows = events.with_columns(
            known_time=pl.coalesce("known_time", "time"),
            numeric_value=pl.col("numeric_value").fill_nan(None),
            sequence=pl.col("row").fill_null(0).cast(pl.Int64) + self.sequence,
        )
        gone = batch.withdrawn.with_columns(sequence=pl.lit(self.sequence + step, dtype=pl.Int64))
        self.staged.add(rows, withdrawn=gone, merges=_merges(batch, subjects), subjects=subjects)
        self.sequence += step + 1

    def _identified(self, source_ids: pl.Series) -> pl.DataFrame:
        """Columns of SUBJECTS for each identifier; those of the batches before are remembered, as far as they fit."""
        new = source_ids.filter(~source_ids.is_in(self.subjects["source_id"].implode()))
        if len(new):
            before = self.subjects if self.subjects.height < MOST_REMEMBERED else SUBJECTS.to_frame()
            self.subjects = pl.concat([before, hashed_ids(self.record, source_ids if before.is_empty() else new)])
        return self.subjects.filter(pl.col("source_id").is_in(source_ids.implode()))


def _arriving(batch: Batch) -> pl.DataFrame:
    """The events with all columns; those that come with ids of the record's kind count as identified."""
    events = batch.events
    if "subject_id" in events.columns:
        events = events.with_columns(subject=pl.col("subject_id").cast(pl.String))
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in ARRIVING.items() if name not in events.columns]
    return events.with_columns(missing)


def _sound(events: pl.DataFrame) -> tuple[pl.DataFrame, list[Reject]]:
    """Part the events whose source rows can be stored whole from those of which some event cannot."""
    reason = pl.coalesce(*(pl.when(wrong).then(pl.lit(why)) for why, wrong in _WRONG))
    wrong = events.with_columns(reason=reason).filter(pl.col("reason").is_not_null())
    if not wrong.height:
        return events, []
    first = wrong.unique(["source", "row"], keep="first", maintain_order=True)
    raw = first.drop("reason", "row").write_ndjson().splitlines()
    rows = first.select("source", "row").iter_rows()
    places = [source if row is None else f"{source}, row {row + 1}" for source, row in rows]
    rejects = [Reject(*parts) for parts in zip(places, first["reason"], raw, strict=True)]
    return events.join(first, on=["source", "row"], how="anti", nulls_equal=True, maintain_order="left"), rejects


def _merges(batch: Batch, subjects: pl.DataFrame) -> pl.DataFrame:
    ids = dict(subjects.select("source_id", "subject_id").iter_rows())
    pairs = [(ids[retired], ids[surviving]) for retired, surviving in batch.merges if retired != surviving]
    return pl.DataFrame(pairs, schema=MERGES, orient="row")
