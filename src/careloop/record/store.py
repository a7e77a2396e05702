"""A record: the append-only, versioned Delta table of all events, in one folder."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from careloop import InputError
from careloop.record.delta import (
    Action,
    Commit,
    LiveFile,
    commit,
    committed_fingerprint,
    create_table,
    fingerprint,
    live_files,
    origin_of,
    read_rows,
    remove_file,
    write_file,
)
from careloop.record.history import history
from careloop.record.schema import EVENTS, TIME, code_matches, conform
from careloop.record.subjects import create_private

FORMAT_VERSION = 2
# As events lie in files: with the version of their source row, which decides whether a later delivery replaces it.
FILED = pl.Schema({**EVENTS, "source_time": TIME})
STORED = pl.Schema({**FILED, "shard": pl.Int32()})
# Every column takes part, so that equal rows are stored, fingerprinted and read in one order, however they came.
ORDER = (
    "subject_id", "time", "code", "known_time", "numeric_value", "unit", "text_value", "asset", "source", "source_time",
)  # fmt: skip
EVENT_ORDER = ORDER[:-1]
CODES = pl.Schema(
    {
        "code": pl.String(),
        "description": pl.String(),
        "parent_codes": pl.List(pl.String()),
        "unit": pl.String(),
        "plausible_low": pl.Float64(),
        "plausible_high": pl.Float64(),
    }
)
# When source rows were withdrawn, so that an older version which comes later brings them not back.
WITHDRAWN = pl.Schema({"source": pl.String(), "source_time": TIME})
COMPACTED = "0" * 16  # begins the names of compacted files, so that later appends are read after them
Ids = TypeVar("Ids", pl.Series, pl.Expr)


@dataclass(frozen=True)
class Record:
    """One version of a record folder; appending returns a new `Record`, this one keeps showing its own version.

    The folder holds `record.json` (format, number of shards), `events/` (Delta, partitioned by shard), `codes/`
    (Delta: what codes mean), `withdrawn/` (Delta: source rows that were taken back) and `private/` (source identifiers,
    the hashing key, rejected rows and deliveries on their way; leave it out when sharing).
    """

    path: Path
    version: int

    @classmethod
    def create(cls, path: str | Path, *, shards: int = 16) -> Record:
        """Make an empty record folder. Work goes shard by shard: choose more shards where 1/16 does not fit in memory.

        Raises:
            InputError: the folder is a record already or holds other files; shards is not positive.
        """
        path = Path(path)
        if shards < 1:
            raise InputError(f"shards must be at least 1, got {shards}; leave it out for 16")
        if (path / "record.json").exists():
            raise InputError(f"{path}: is a record already; open it, or choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        # A creation that died half-way left only these behind, and is taken up where it stopped.
        others = {entry.name for entry in path.iterdir()} - {"events", "codes", "withdrawn", "private"}
        if others - {"record.json.new"}:
            raise InputError(f"{path}: the folder is not empty; choose a new folder for the record")
        create_table(path / "events", STORED, ["shard"])
        create_table(path / "codes", CODES)
        create_table(path / "withdrawn", WITHDRAWN)
        create_private(path / "private")
        settings = path / "record.json.new"
        settings.write_text(json.dumps({"format_version": FORMAT_VERSION, "shards": shards}) + "\n")
        settings.rename(path / "record.json")
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, version: int | None = None) -> Record:
        """Open the newest, or the stated, version of a record folder.

        Raises:
            InputError: the folder is no record, was written by a newer careloop, or has no such version.
        """
        path = Path(path)
        _settings(path)
        try:
            newest = DeltaTable(path / "events").version()
        except (TableNotFoundError, DeltaError, OSError):
            raise InputError(f"{path}/events: no readable Delta table; restore the folder from a backup") from None
        if version is not None and not 0 <= version <= newest:
            raise InputError(f"{path}: no version {version}; the record has versions 0 to {newest}")
        return cls(path, newest if version is None else version)

    def append(
        self,
        events: pl.DataFrame | pl.LazyFrame,
        *,
        key: str,
        origin: Literal["facts", "careloop"] = "facts",
    ) -> Record:
        """Add `events` (checked by `conform`) in one commit and return the record at a version that holds them.

        The same `key` with the same rows, in any order, changes nothing the second time, also where the first writer
        died between commit and return or where several append at once.

        Raises:
            InputError: `conform` refuses the rows, or `key` was committed before with other rows.
        """
        what, batch = self._prepare(conform(events), key=key, origin=origin)
        return self._at(commit(self._events, lambda table: list(batch), what=what))

    def supersede(self, events: pl.DataFrame | pl.LazyFrame, *, key: str) -> Record:
        """Add `events`, replacing the rows whose `source` equals one of theirs, in one commit; idempotent by `key`.

        Only files that hold such rows are rewritten; earlier versions keep the old rows.

        Raises:
            InputError: as `append`, or a row has no `source`.
        """
        rows = conform(events)
        if rows["source"].null_count():
            raise InputError("supersede: every row needs a source that says what it replaces; fill it, or use append")
        what, batch = self._prepare(rows, key=key, origin="facts")
        what = Commit(what.key, what.fingerprint, what.origin, locks=("supersede",))
        sources = rows.select("source").unique()
        return self._at(commit(self._events, lambda table: [*batch, *self._without(table, sources)], what=what))

    def rewrite(self, change: Callable[[int, pl.DataFrame], pl.DataFrame | None], *, key: str) -> Record:
        """Replace each shard's events by `change(shard, events)` in one commit; idempotent by `key`.

        `change` gets the newest events of the shard in the record's order, with the columns of `EVENTS` and
        `source_time` (the version of the source row, which the result keeps), and returns the new ones, or None where
        nothing changes. It runs again if another writer came first. Earlier versions keep the old rows.

        Raises:
            InputError: `conform` refuses the new rows, or one belongs to another shard.
        """

        def work(table: DeltaTable) -> list[Action]:
            files = live_files(self._events, table)
            shards = sorted({file.shard for file in files if file.shard is not None})
            return [
                action
                for shard in shards
                for action in self._rewritten(shard, [file for file in files if file.shard == shard], change)
            ]

        return self._at(commit(self._events, work, what=Commit(key, 0, "facts", locks=("supersede",))))

    def compact(self) -> Record:
        """Rewrite each shard of several files as one sorted file; same rows, earlier versions stay readable."""
        table = DeltaTable(self._events)
        shards = [file.shard for file in live_files(self._events, table)]
        if len(shards) == len(set(shards)):
            return self._at(table.version())
        what = Commit(f"compaction:{table.version()}", 0, "compaction")
        return self._at(commit(self._events, self._merged, what=what))

    def events(self, shard: int | None = None, *, codes: Sequence[str] | None = None) -> pl.LazyFrame:
        """Return the uncut events (columns of `EVENTS`) of one shard or all, of given `codes` (`PREFIX*`) or all.

        Each file is sorted by subject_id and time; several appends are several files (`compact` makes one a shard).
        For anything that feeds a model cut them with `history`.

        Raises:
            InputError: no such shard; a data file is missing or cut off.
        """
        if shard is not None and not 0 <= shard < self.shards:
            raise InputError(f"shard must be 0 to {self.shards - 1}, got {shard}")
        frame = scan_files([file.path for file in self._files if shard is None or file.shard == shard]).select(
            EVENTS.names()
        )
        return frame if codes is None else frame.filter(code_matches(codes))

    def timeline(self, subject_id: int, *, as_of: datetime | None = None) -> pl.DataFrame:
        """Return one subject's events in order of time, static facts first; with `as_of`, those known by then.

        Raises:
            InputError: `as_of` has no time zone, or a data file cannot be read.
        """
        rows = self.events(self.shard_of(pl.Series([subject_id]))[0]).filter(subject_id=subject_id)
        if as_of is not None:
            if as_of.tzinfo is None:
                raise InputError("as_of needs a time zone; add one, for example datetime(2026, 1, 31, tzinfo=UTC)")
            key = {"subject_id": [subject_id], "prediction_time": [as_of]}
            rows = history(rows, pl.DataFrame(key, schema={"subject_id": pl.Int64(), "prediction_time": TIME}))
        try:
            return rows.select(EVENTS.names()).sort(EVENT_ORDER).collect()
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"{self._events}: a data file cannot be read ({type(error).__name__}); restore it"
            ) from None

    def shard_of(self, subject_ids: Ids) -> Ids:
        """Return the shard of each subject: subject_id modulo the number of shards, never negative."""
        return (subject_ids % self.shards).cast(pl.Int32)

    @cached_property
    def shards(self) -> int:
        """Number of shards, fixed when the record is created."""
        return int(_settings(self.path)["shards"])

    @cached_property
    def most_files_in_a_shard(self) -> int:
        """Number of files of the shard that has most; reading slows with it, `compact` makes it 1."""
        return max(Counter(file.shard for file in self._files).values(), default=0)

    @cached_property
    def facts_version(self) -> int:
        """The newest version up to this one that brought facts: what a study pins.

        Predictions, plans and verdicts of careloop itself, and compactions, leave it as it is.
        """
        for version in range(self.version, 0, -1):
            if origin_of(self._events, version) == "facts":
                return version
        return 0

    def code_metadata(self) -> pl.DataFrame:
        """Return what is known about codes, one row a code: description, parents, unit, plausible_low and _high."""
        return self._codes(DeltaTable(self.path / "codes"))

    def describe_codes(self, frame: pl.DataFrame) -> Record:
        """Add or change rows of the codes table; a null in `frame` leaves what is there. Not versioned with events.

        Raises:
            InputError: an unknown column, a code that is null or stands there twice, or a wrong type.
        """
        rows = _conform_codes(frame)
        folder = self.path / "codes"
        number = secrets.randbits(62)

        def change(table: DeltaTable) -> list[Action]:
            updated = self._codes(table).update(rows, on="code", how="full").sort("code")
            return [*(remove_file(folder, file) for file in live_files(folder, table)), write_file(folder, updated)]

        commit(folder, change, what=Commit(f"codes:{number}", number, "facts", locks=("codes",)))
        return self

    def __reduce__(self) -> tuple[type[Record], tuple[Path, int]]:
        """Travel to worker processes, which may run in another folder, as absolute path and version only."""
        return (Record, (self.path.absolute(), self.version))

    @property
    def _events(self) -> Path:
        return self.path / "events"

    @cached_property
    def _files(self) -> list[LiveFile]:
        # A compaction right after this version holds the same rows in fewer files; a pinned study reads those.
        version = self.version
        while origin_of(self._events, version + 1) == "compaction":
            version += 1
        return live_files(self._events, DeltaTable(self._events, version=version))

    def _codes(self, table: DeltaTable) -> pl.DataFrame:
        return read_rows(self.path / "codes", CODES, table).sort("code")

    def _at(self, version: int) -> Record:
        return Record(self.path, version)

    def _by_shard(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        shard = self.shard_of(rows["subject_id"])
        for number in range(self.shards):
            part = rows.filter(shard == number)
            if part.height:
                yield number, part.sort(ORDER)

    def _prepare(self, rows: pl.DataFrame, *, key: str, origin: str) -> tuple[Commit, list[Action]]:
        """Fingerprint the rows and, unless the key is committed already, write them; one shard in memory at a time."""
        numbers: dict[str, list[int]] = {"shard": [], "fingerprint": []}
        batch: list[Action] = []
        is_new = committed_fingerprint(DeltaTable(self._events), key) is None
        for shard, part in self._by_shard(rows.with_columns(source_time=pl.lit(None, dtype=TIME))):
            number = fingerprint(part)
            numbers["shard"].append(shard)
            numbers["fingerprint"].append(number)
            if is_new:
                # Named by content, so that records made of the same batches are read in the same order.
                batch.append(write_file(self._events, part, stem=f"{number:016x}", shard=shard))
        schema = {"shard": pl.Int64(), "fingerprint": pl.Int64()}
        return Commit(key, fingerprint(pl.DataFrame(numbers, schema=schema)), origin), batch

    def _without(self, table: DeltaTable, sources: pl.DataFrame) -> list[Action]:
        """Rewrite the files of the newest version that hold rows of these sources, leaving those rows out."""
        files = {str(file.path): file for file in live_files(self._events, table)}
        if not files:
            return []
        stale = scan_files(list(files), include_file_paths="file").join(sources.lazy(), on="source", how="semi")
        actions: list[Action] = []
        for name in sorted(stale.select("file").unique().collect()["file"]):
            kept = scan_files([name]).join(sources.lazy(), on="source", how="anti", maintain_order="left").collect()
            actions.append(remove_file(self._events, files[name]))
            if kept.height:
                stem, _, _ = files[name].path.name.partition("-")
                actions.append(write_file(self._events, kept, stem=stem, shard=files[name].shard))
        return actions

    def _rewritten(
        self, shard: int, files: list[LiveFile], change: Callable[[int, pl.DataFrame], pl.DataFrame | None]
    ) -> list[Action]:
        changed = change(shard, scan_files([file.path for file in files]).collect().sort(ORDER))
        if changed is None:
            return []
        source_time = pl.lit(None, dtype=TIME) if "source_time" not in changed.columns else changed["source_time"]
        rows = conform(changed.select([c for c in changed.columns if c in EVENTS])).with_columns(
            source_time=source_time
        )
        if (self.shard_of(rows["subject_id"]) != shard).any():
            raise InputError(
                f"rewrite: shard {shard} may only get events of its own subjects; leave subject_id as it is"
            )
        actions: list[Action] = [remove_file(self._events, file) for file in files]
        if rows.height:
            rows = rows.sort(ORDER)
            actions.append(write_file(self._events, rows, stem=f"{fingerprint(rows):016x}", shard=shard))
        return actions

    def _merged(self, table: DeltaTable) -> list[Action]:
        files = live_files(self._events, table)
        actions: list[Action] = []
        for shard in range(self.shards):
            several = [file for file in files if file.shard == shard]
            if len(several) > 1:
                rows = scan_files([file.path for file in several]).collect().sort(ORDER)
                actions += [remove_file(self._events, file, origin="compaction") for file in several]
                actions.append(write_file(self._events, rows, stem=COMPACTED, shard=shard, origin="compaction"))
        return actions


def scan_files(files: Sequence[Path | str], *, include_file_paths: str | None = None) -> pl.LazyFrame:
    """Return the rows (columns of FILED) of data files, uncut."""
    if not files:
        return FILED.to_frame().lazy()
    # No globbing: a folder may have brackets in its name.
    return pl.scan_parquet(
        [str(file) for file in files],
        schema=FILED,
        hive_partitioning=False,
        glob=False,
        include_file_paths=include_file_paths,
    )


def _settings(path: Path) -> dict[str, int]:
    """Read record.json."""
    try:
        settings = json.loads((path / "record.json").read_text())
        version, _ = int(settings["format_version"]), int(settings["shards"])
    except FileNotFoundError:
        raise InputError(f"{path}: is no record (no record.json); check the path, or ingest data to make one") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}/record.json: unreadable; restore it from a backup") from None
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: format {version} is newer than {FORMAT_VERSION}; upgrade careloop to open this record"
        )
    if version < FORMAT_VERSION:
        raise InputError(
            f"{path}: format {version} is of an earlier careloop (this one writes {FORMAT_VERSION}); ingest the data"
            " into a new record"
        )
    return settings


def _conform_codes(frame: pl.DataFrame) -> pl.DataFrame:
    unknown = sorted(set(frame.columns) - set(CODES))
    if unknown or "code" not in frame.columns:
        wrong = f"unknown column {', '.join(unknown)}" if unknown else "missing column code"
        raise InputError(f"codes: {wrong}; allowed are {', '.join(CODES)}")
    missing = [pl.lit(None, dtype=CODES[name]).alias(name) for name in CODES if name not in frame.columns]
    try:
        rows = frame.with_columns(missing).select(CODES.names()).cast(CODES)
    except pl.exceptions.PolarsError:
        raise InputError(f"codes: a column has the wrong type; needed are {dict(CODES)}") from None
    if rows["code"].null_count() or rows["code"].is_duplicated().any():
        raise InputError("codes: every code must be given, and once; drop empty and repeated rows")
    return rows
