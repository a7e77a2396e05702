"""Rows of a delivery on disk until all of it is read: source by source, so that a killed run can be taken up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from careloop.record.merges import MERGES
from careloop.record.schema import EVENTS, TIME
from careloop.record.store import Record
from careloop.record.subjects import SUBJECTS

# Events with the version of their source row: when it was last changed there (null: unknown, so newer than what is
# stored), and in which order it came within the delivery; and a hash of its name (polars', of this release).
STAGED = pl.Schema(
    {**EVENTS, "source_time": TIME, "sequence": pl.Int64(), "shard": pl.Int32(), "source_hash": pl.UInt64()}
)
WITHDRAWN = pl.Schema({"source": pl.String(), "source_time": TIME, "sequence": pl.Int64()})
TABLES = {"withdrawn": WITHDRAWN, "merges": MERGES, "subjects": SUBJECTS}
UNFINISHED = ".unfinished"
STAGED_ROWS = 500_000  # rows a file: sorted by shard, so that one shard is read back from few row groups
ROW_GROUP_ROWS = 20_000


@dataclass(frozen=True)
class Staging:
    """The staged sources of one delivery; each source is a folder, there when complete.

    They lie in `RECORD/private/staging/<delivery>`, because they hold source identifiers and rejected rows.
    """

    folder: Path

    @classmethod
    def of(cls, record: Record, delivery: str) -> Staging:
        """The staging of a delivery, new or as far as it got."""
        folder = record.path / "private" / "staging" / delivery
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def is_staged(self, number: int) -> bool:
        """True where source `number` is complete."""
        return self.place(number).is_dir()

    def place(self, number: int) -> Path:
        """The folder of a complete source."""
        return self.folder / f"{number:06}"

    @contextmanager
    def source(self, number: int, *, shards: int) -> Iterator[StagedSource]:
        """Stage one source: what is added becomes visible when the block ends without an exception."""
        unfinished = self.folder / f"{number:06}{UNFINISHED}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        source = StagedSource(unfinished, shards)
        yield source
        source.write_rest()
        unfinished.rename(self.place(number))

    @property
    def sources(self) -> list[Path]:
        """The folders of all complete sources, in their order."""
        return sorted(folder for folder in self.folder.iterdir() if folder.is_dir() and folder.suffix != UNFINISHED)

    def files(self, name: str) -> list[Path]:
        """The files of all complete sources whose names begin with `name`, in the order of the sources."""
        return [file for folder in self.sources for file in sorted(folder.glob(f"{name}*"))]

    def events(self) -> pl.LazyFrame:
        """All staged events (columns of STAGED)."""
        files = self.files("events")
        if not files:
            return STAGED.to_frame().lazy()
        return pl.scan_parquet(files, schema=STAGED, glob=False, hive_partitioning=False)

    def table(self, name: str) -> pl.DataFrame:
        """All rows of a small table: withdrawn, merges or subjects."""
        return pl.concat([TABLES[name].to_frame(), *(pl.read_parquet(file, glob=False) for file in self.files(name))])

    def remove(self) -> None:
        """Delete what is staged, once it is committed."""
        shutil.rmtree(self.folder)


@dataclass
class StagedSource:
    """One source on its way to disk; buffers rows until there are enough for a file."""

    folder: Path
    shards: int
    _tables: dict[str, list[pl.DataFrame]] = field(default_factory=lambda: {name: [] for name in ("events", *TABLES)})
    _written: int = 0

    def add(self, events: pl.DataFrame, **tables: pl.DataFrame) -> None:
        """Add events (columns of STAGED but `shard` and `source_hash`) and rows of the small tables."""
        shard = (pl.col("subject_id") % self.shards).cast(pl.Int32)
        rows = events.with_columns(shard=shard, source_hash=pl.col("source").hash())
        self._tables["events"].append(rows.select(STAGED.names()))
        for name, rows in tables.items():
            self._tables[name].append(rows.select(TABLES[name].names()).cast(TABLES[name]))
        if sum(part.height for part in self._tables["events"]) >= STAGED_ROWS:
            self._write_events()

    def write_rest(self) -> None:
        """Write what is still in memory."""
        self._write_events()
        for name, schema in TABLES.items():
            rows = pl.concat([schema.to_frame(), *self._tables[name]]).unique(maintain_order=True)
            if rows.height:
                rows.write_parquet(self.folder / f"{name}.parquet")

    def _write_events(self) -> None:
        rows = pl.concat([STAGED.to_frame(), *self._tables["events"]])
        self._tables["events"] = []
        if rows.height:
            path = self.folder / f"events-{self._written:06}.parquet"
            rows = rows.sort("shard", maintain_order=True)
            rows.write_parquet(path, compression="lz4", row_group_size=ROW_GROUP_ROWS)
            self._written += 1
