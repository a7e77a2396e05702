"""What a delivery changes in a record: the newest version of each source row, withdrawals, merges, in one commit."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import polars as pl
from deltalake import DeltaTable

from careloop.record.delta import (
    Action,
    Commit,
    LiveFile,
    commit,
    committed_fingerprint,
    live_files,
    read_rows,
    remove_file,
    write_file,
)
from careloop.record.merges import register_merges, survivors_of
from careloop.record.staging import STAGED, Staging
from careloop.record.store import FILED, ORDER, WITHDRAWN, Record, scan_files
from careloop.record.subjects import register
from careloop.record.versions import VERSIONS, Kind, newest_versions, settle_across_shards, unchanged_sources

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Arrived:
    """The record after a delivery, and how many events it brought and took away (a replaced event counts in both)."""

    record: Record
    added: int = 0
    removed: int = 0


class _NothingNewError(Exception):
    """The record holds all of a delivery already."""


def is_delivered(record: Record, delivery: str) -> bool:
    """True where the delivery was committed before."""
    return committed_fingerprint(DeltaTable(record.path / "events"), _key(delivery)) is not None


def deliver(record: Record, staging: Staging, delivery: str, *, progress: Progress | None = None) -> Arrived:
    """Commit everything that is staged, once; the same delivery again changes nothing.

    Of each source row the newest version stays (`source_time`; where one is unknown, what is delivered later), whole:
    all its events together. Withdrawn source rows lose their events, and an older version that comes later brings none
    back. Events of a merged subject go to the surviving one. One shard is in memory at a time. Where nothing changes,
    no version is written.
    """
    register(record, staging.table("subjects"))
    register_merges(record, staging.table("merges"))
    withdrawn = staging.table("withdrawn")
    # Before the events: whoever dies in between leaves a withdrawal that holds already, never one that is forgotten.
    _remember(record, withdrawn)
    found = Arrived(record)

    def change(table: DeltaTable) -> list[Action]:
        nonlocal found
        comparison = _Comparison(record, staging, live_files(record.path / "events", table))
        actions: list[Action] = []
        added = removed = 0
        for shard in range(record.shards):
            if progress is not None:
                progress("storing shards", shard, record.shards)
            changed = comparison.shard(shard)
            actions += changed.actions
            added, removed = added + changed.added, removed + changed.removed
        if not actions:
            raise _NothingNewError
        found = Arrived(record, added, removed)
        return actions

    try:
        version = commit(record.path / "events", change, what=Commit(_key(delivery), 0, "facts", locks=("supersede",)))
    except _NothingNewError:
        return Arrived(Record.open(record.path))
    return Arrived(Record(record.path, version), found.added, found.removed)


def _key(delivery: str) -> str:
    return f"delivery:{delivery}"


def _remember(record: Record, withdrawn: pl.DataFrame) -> None:
    """Keep when source rows were withdrawn, so that an older version which is delivered later stays out."""
    folder = record.path / "withdrawn"
    dated = withdrawn.drop_nulls("source_time").group_by("source").agg(pl.col("source_time").max()).sort("source")
    if not dated.height:
        return

    def change(table: DeltaTable) -> list[Action]:
        known = read_rows(folder, WITHDRAWN, table).group_by("source").agg(known=pl.col("source_time").max())
        new = dated.join(known, on="source", how="left").filter(
            pl.col("known").is_null() | (pl.col("known") < pl.col("source_time"))
        )
        return [write_file(folder, new.select(WITHDRAWN.names()))] if new.height else []

    number = secrets.randbits(62)
    commit(folder, change, what=Commit(f"withdrawn:{number}", number, "facts", locks=("withdrawn",)))


@dataclass(frozen=True)
class _Changed:
    """What becomes of one shard: actions on its files, and events that come and go."""

    actions: list[Action]
    added: int = 0
    removed: int = 0


@dataclass(frozen=True)
class _Comparison:
    """A delivery beside the newest version of the record; what is kept here is small, shards are read one by one."""

    record: Record
    staging: Staging
    files: list[LiveFile]

    @cached_property
    def survivors(self) -> dict[int, int]:
        return survivors_of(self.record)

    @cached_property
    def withdrawing(self) -> pl.DataFrame:
        """What this delivery withdraws: source, source_time and sequence."""
        return self.staging.table("withdrawn")

    @cached_property
    def withdrawn(self) -> pl.DataFrame:
        """Versions (columns of VERSIONS) that took a source row away: in this delivery, and in earlier ones."""
        earlier = read_rows(self.record.path / "withdrawn", WITHDRAWN)
        versions = pl.concat(
            [
                earlier.select("source", "source_time", sequence=pl.lit(Kind.REMEMBERED, dtype=pl.Int64())),
                self.withdrawing.select("source", "source_time", "sequence"),
            ]
        )
        return versions.with_columns(kind=pl.lit(Kind.WITHDRAWN)).cast(VERSIONS)

    @cached_property
    def moving(self) -> pl.DataFrame:
        """Stored events of retired subjects, under their survivors."""
        return self._under_survivors(scan_files([file.path for file in self.files]), FILED)

    @cached_property
    def in_transit(self) -> pl.DataFrame:
        """Staged events of retired subjects, under their survivors."""
        return self._under_survivors(self.staging.events(), STAGED)

    @cached_property
    def settled(self) -> pl.DataFrame:
        """The newest version of source rows that have versions in several shards: of a patient that was corrected."""
        shards = range(self.record.shards)
        stored = [self._stored(shard, [file for file in self.files if file.shard == shard]) for shard in shards]
        return settle_across_shards([self._staged(shard) for shard in shards], stored, self.withdrawn)

    def shard(self, shard: int) -> _Changed:
        """Decide about every source row that is new in one shard, and write its changed and new files."""
        staged, stored = self._staged(shard).collect(), [file for file in self.files if file.shard == shard]
        decided = self._decided(shard, staged, stored)
        gone = decided.filter(pl.col("kind") != Kind.STORED).select("source")
        old = self._stored_rows(shard, stored, gone)
        winners = decided.filter(kind=Kind.STAGED)
        # Where there are as many as events, each is one event and none lost: nothing to sort out.
        new = staged if len(winners) == len(staged) else staged.join(winners, on=["source", "sequence"], how="semi")
        if old.height:
            same = unchanged_sources(old, new)
            gone, new = gone.join(same, on="source", how="anti"), new.join(same, on="source", how="anti")
        removed = old.join(gone, on="source", how="semi").height
        moved = self._of(self.moving, shard).join(gone, on="source", how="anti")
        actions = self._without(stored, gone) if gone.height or self.survivors else []
        rows = pl.concat([moved.select(FILED.names()), new.select(FILED.names())])
        if rows.height:
            # Named by what was delivered, so that records made of the same deliveries are read in the same order.
            stem = self.staging.folder.name[:16]
            actions.append(write_file(self.record.path / "events", rows.sort(ORDER), stem=stem, shard=shard))
        return _Changed(actions, new.height, removed)

    def _staged(self, shard: int) -> pl.LazyFrame:
        rows = self.staging.events().filter(pl.col("shard") == shard).pipe(self._not_retired)
        return pl.concat([rows, self._of(self.in_transit, shard).lazy()]) if self.survivors else rows

    def _decided(self, shard: int, staged: pl.DataFrame, stored: list[LiveFile]) -> pl.DataFrame:
        """Columns source, kind and sequence of the newest version of each source row that the delivery touches."""
        names = VERSIONS.names()
        versions = staged.select("source", "source_time", "sequence").unique().with_columns(kind=pl.lit(Kind.STAGED))
        touched = pl.concat([versions.select("source"), self.withdrawing.select("source")]).unique()
        here = self._stored(shard, stored).join(touched.lazy(), on="source", how="semi")
        known = here.select(
            "source", "source_time", sequence=pl.lit(Kind.STORED_SEQUENCE), kind=pl.lit(Kind.STORED)
        ).unique()
        versions = pl.concat([versions.select(names).cast(VERSIONS), known.collect().select(names).cast(VERSIONS)])
        versions = pl.concat([versions, self.withdrawn.join(versions, on="source", how="semi")])
        local = newest_versions(versions.join(self.settled, on="source", how="anti"))
        is_here = pl.col("shard").eq_missing(pl.lit(shard, dtype=pl.Int32))
        across = self.settled.with_columns(
            kind=pl.when(is_here).then("kind").otherwise(pl.lit(Kind.WITHDRAWN).cast(VERSIONS["kind"]))
        )
        columns = ["source", "kind", "sequence"]
        return pl.concat([local.select(columns), across.select(columns)])

    def _stored(self, shard: int, stored: list[LiveFile]) -> pl.LazyFrame:
        rows = scan_files([file.path for file in stored]).pipe(self._not_retired)
        return pl.concat([rows, self._of(self.moving, shard).lazy()]) if self.survivors else rows

    def _stored_rows(self, shard: int, stored: list[LiveFile], sources: pl.DataFrame) -> pl.DataFrame:
        return self._stored(shard, stored).join(sources.lazy(), on="source", how="semi").collect()

    def _without(self, stored: list[LiveFile], gone: pl.DataFrame) -> list[Action]:
        """Rewrite the files of a shard that hold rows which go: those of replaced sources and of retired subjects."""
        folder = self.record.path / "events"
        actions: list[Action] = []
        for file in stored:
            kept = scan_files([file.path]).join(gone.lazy(), on="source", how="anti", maintain_order="left")
            kept = kept.pipe(self._not_retired)
            counts = pl.concat([scan_files([file.path]).select(pl.len()), kept.select(pl.len())]).collect()["len"]
            if counts[0] == counts[1]:
                continue
            actions.append(remove_file(folder, file))
            if counts[1]:
                stem, _, _ = file.path.name.partition("-")
                actions.append(write_file(folder, kept.collect(), stem=stem, shard=file.shard))
        return actions

    def _not_retired(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(~pl.col("subject_id").is_in(list(self.survivors))) if self.survivors else rows

    def _under_survivors(self, rows: pl.LazyFrame, schema: pl.Schema) -> pl.DataFrame:
        if not self.survivors:
            return schema.to_frame()
        retired = rows.filter(pl.col("subject_id").is_in(list(self.survivors))).collect()
        return retired.with_columns(pl.col("subject_id").replace(self.survivors))

    def _of(self, rows: pl.DataFrame, shard: int) -> pl.DataFrame:
        return rows.filter(self.record.shard_of(pl.col("subject_id")) == shard)
