"""Atomic changes to a Delta table: write parquet files, then commit them once, whatever dies or runs beside it.

A commit is identified by its key, kept as a Delta application transaction whose version is the fingerprint of its rows.
So "was this key committed, and with these rows" is one look at the table's state, and two writers with the same key
conflict inside Delta's own commit. Files are never deleted here: a writer that lost or died leaves an unreferenced
file behind, which readers never see and a full vacuum may collect.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from careloop import InputError

Action = AddAction | RemoveAction
ATTEMPTS = 100  # a lost race costs about 20 ms, so a writer gives up after some seconds of steady conflict
LONGEST_WAIT_SECONDS = 0.25
# Rows of one patient lie together, so small row groups let a reader skip nearly all of a file.
ROW_GROUP_ROWS = 50_000
UPKEEP = {"OPTIMIZE", "VACUUM START", "VACUUM END"}  # commits by which other tools rearrange a table
# Application ids in the table's log: of what is committed, and of what only one writer may do at a time.
KEY, LOCK = "careloop:key:", "careloop:lock:"
# Commit records are kept for good: they say which versions hold facts, and pinned versions must stay readable.
CONFIGURATION = {"delta.enableExpiredLogCleanup": "false", "delta.logRetentionDuration": "interval 36500 days"}


@dataclass(frozen=True)
class LiveFile:
    """One data file of a table version: its path, size in bytes and shard (None in a table without shards)."""

    path: Path
    size: int
    shard: int | None


@dataclass(frozen=True)
class Commit:
    """What a commit is: its idempotency key, the fingerprint of its rows, its origin, and locks it must hold alone."""

    key: str
    fingerprint: int
    origin: str
    locks: tuple[str, ...] = field(default=())


def create_table(folder: Path, schema: pl.Schema, partition_by: Sequence[str] = ()) -> None:
    """Make an empty Delta table, or leave an existing one as it is."""
    DeltaTable.create(
        folder,
        Schema.from_arrow(schema),
        mode="ignore",
        partition_by=list(partition_by),
        configuration=CONFIGURATION,
        raise_if_key_not_exists=False,
    )


def live_files(folder: Path, table: DeltaTable) -> list[LiveFile]:
    """Return the data files of a version of the table in `folder`, in path order.

    Raises:
        InputError: a file is missing or not of the size that was committed (cut off, overwritten).
    """
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    shards = actions["partition.shard"].to_list() if "partition.shard" in actions.columns else [None] * actions.height
    files = []
    for name, size, shard in zip(actions["path"], actions["size_bytes"], shards, strict=True):
        files.append(LiveFile(folder / name, size, shard))
    for file in files:
        got = file.path.stat().st_size if file.path.is_file() else None
        if got != file.size:
            state = "is missing" if got is None else f"has {got} bytes instead of {file.size}"
            raise InputError(f"{file.path} {state}; restore this file from a backup, or ingest into a new record")
    return sorted(files, key=lambda file: file.path)


def read_rows(folder: Path, schema: pl.Schema, table: DeltaTable | None = None) -> pl.DataFrame:
    """Return all rows of a small table: of the version given, or of the newest."""
    files = live_files(folder, table or DeltaTable(folder))
    return pl.concat([schema.to_frame(), *(pl.read_parquet(file.path, glob=False) for file in files)])


def write_file(
    folder: Path, rows: pl.DataFrame, *, stem: str = "part", shard: int | None = None, origin: str = "facts"
) -> AddAction:
    """Write `rows` as one new parquet file of the table in `folder`; nobody sees it before it is committed.

    Files are read in the order of their names, which begin with `stem`.
    """
    name = f"{stem}-{uuid.uuid4().hex}.parquet"
    name = name if shard is None else f"shard={shard}/{name}"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    # Snappy: what every Delta reader knows; against zstd a third larger, written and read a third faster.
    rows.write_parquet(path, compression="snappy", row_group_size=ROW_GROUP_ROWS)
    statistics: dict[str, object] = {"numRecords": rows.height}
    if "subject_id" in rows.columns:
        statistics["minValues"] = {"subject_id": rows["subject_id"].min()}
        statistics["maxValues"] = {"subject_id": rows["subject_id"].max()}
    return AddAction(
        path=name,
        size=path.stat().st_size,
        partition_values={} if shard is None else {"shard": str(shard)},
        modification_time=int(time.time() * 1000),
        data_change=origin != "compaction",
        stats=json.dumps(statistics),
    )


def remove_file(folder: Path, file: LiveFile, *, origin: str = "facts") -> RemoveAction:
    """Return the action that takes `file` out of the next version; earlier versions keep it."""
    return RemoveAction(
        path=file.path.relative_to(folder).as_posix(),
        data_change=origin != "compaction",
        deletion_timestamp=int(time.time() * 1000),
        size=file.size,
        partition_values={} if file.shard is None else {"shard": str(file.shard)},
    )


def commit(folder: Path, change: Callable[[DeltaTable], list[Action]], *, what: Commit) -> int:
    """Commit `change(newest table)` exactly once and return a version that contains it.

    `change` runs again against the newest version whenever another writer came first.

    Raises:
        InputError: the key was committed before with other rows.
        CommitFailedError: another writer came first `ATTEMPTS` times.
    """
    ids = {KEY + what.key: what.fingerprint} | {LOCK + lock: 0 for lock in what.locks}
    properties = CommitProperties(
        custom_metadata={"careloop.origin": what.origin, "careloop.key": what.key},
        app_transactions=[Transaction(name, version) for name, version in ids.items()],
    )
    for attempt in range(ATTEMPTS):
        table = DeltaTable(folder)
        committed = committed_fingerprint(table, what.key)
        if committed == what.fingerprint:
            return table.version()
        if committed is not None:
            raise InputError(f"key {what.key!r} was committed before with other rows; give changed rows a new key")
        try:
            table.create_write_transaction(
                change(table),
                "append",
                table.schema(),
                table.metadata().partition_columns,
                commit_properties=properties,
            )
        except CommitFailedError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, min(LONGEST_WAIT_SECONDS, 0.01 * (attempt + 1))))
        else:
            table.update_incremental()
            return table.version()
    raise AssertionError("unreachable: the loop returns or raises")


def committed_fingerprint(table: DeltaTable, key: str) -> int | None:
    """Return the fingerprint of the rows that were committed under `key`; None where the key is new."""
    return table.transaction_version(KEY + key)


def origin_of(folder: Path, version: int) -> str | None:
    """Return what the commit of this version was: "facts", "careloop" or "compaction"; None where there is none.

    A commit by another tool counts as facts, unless it only rearranged the table.
    """
    log = folder / "_delta_log" / f"{version:020}.json"
    if not log.exists():
        return None
    # Not through DeltaTable.history: of a pinned version it gives the newest commits under wrong numbers (1.6.6).
    for line in log.read_text().splitlines():
        information = json.loads(line).get("commitInfo", {})
        if "careloop.origin" in information:
            return str(information["careloop.origin"])
        if information.get("operation") in UPKEEP:
            return "compaction"
    return "facts"


def fingerprint(rows: pl.DataFrame) -> int:
    """Return a 63-bit digest of rows of integers, floats, times and text.

    Equal rows in equal order give the same number with every release of polars (whose own row hash promises that only
    within one), because it is kept in the table: a retry after an upgrade must find its commit.
    """
    digest = hashlib.blake2b(digest_size=8)
    for column in rows:
        digest.update(column.name.encode() + rows.height.to_bytes(8, "little"))
        digest.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            filled = column.fill_null("")
            digest.update(filled.str.len_bytes().to_numpy().tobytes())
            digest.update("".join(filled.str.join("").to_list()).encode())
        else:
            digest.update(column.to_physical().fill_null(0).to_numpy().tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1
