"""Writers that are killed or that run at once lose nothing they were told is stored, and double nothing on retry."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from careloop.record import Record

# Appends batch 0, 1, 2 ... (three rows each, in several shards) and prints each number once append has returned.
APPENDER = """
import sys, polars as pl
from careloop.record import Record
path, prefix, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(first, last):
    rows = pl.DataFrame({"subject_id": [number, number + 1, -number], "time": None, "code": f"{prefix}{number}"})
    Record.open(path).append(rows, key=f"{prefix}{number}")
    print(number, flush=True)
"""
# Dies by its own hand in the narrowest place: the commit is durable, but append has not returned.
DIES_AFTER_COMMIT = """
import os, signal
from deltalake import DeltaTable
commit = DeltaTable.create_write_transaction
def commit_and_die(*args, **kwargs):
    commit(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
DeltaTable.create_write_transaction = commit_and_die
"""
# Dies with its data files written and the commit not yet made.
DIES_BEFORE_COMMIT = DIES_AFTER_COMMIT.replace("    commit(*args, **kwargs)\n", "")


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "TOKIO_WORKER_THREADS": "2"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def batches(record: Record) -> dict[str, int]:
    """Number of rows by code, hence by batch."""
    return dict(record.events().collect()["code"].value_counts().iter_rows())


def test_appender_killed_again_and_again_loses_and_doubles_nothing(record: Record) -> None:
    chance = random.Random(0)
    acknowledged = 0
    for _ in range(6):
        appender = start(APPENDER, record.path, "N", acknowledged, 10_000)
        assert appender.stdout is not None
        acknowledged = int(appender.stdout.readline()) + 1
        time.sleep(chance.uniform(0, 0.3))
        appender.kill()
        acknowledged += len(appender.communicate()[0].split())
        stored = batches(Record.open(record.path))
        assert {f"N{number}" for number in range(acknowledged)} <= stored.keys(), "an acknowledged batch is lost"
        assert len(stored) <= acknowledged + 1, "at most the batch under way was stored beyond"
        assert set(stored.values()) == {3}, "a batch is there wholly and once"
    start(APPENDER, record.path, "N", acknowledged, acknowledged + 1).wait()
    assert batches(Record.open(record.path)) == {f"N{number}": 3 for number in range(acknowledged + 1)}


def test_retry_after_death_between_commit_and_return_doubles_nothing(record: Record) -> None:
    assert start(DIES_AFTER_COMMIT + APPENDER, record.path, "N", 0, 1).wait() == -signal.SIGKILL
    assert batches(Record.open(record.path)) == {"N0": 3}, "durable though never acknowledged"
    assert start(APPENDER, record.path, "N", 0, 1).wait() == 0
    assert batches(Record.open(record.path)) == {"N0": 3}
    assert Record.open(record.path).version == 1


def test_death_before_commit_leaves_nothing_visible(record: Record) -> None:
    assert start(DIES_BEFORE_COMMIT + APPENDER, record.path, "N", 0, 1).wait() == -signal.SIGKILL
    assert list((record.path / "events").glob("shard=*/*.parquet")), "it had written its files"
    assert batches(Record.open(record.path)) == {}
    assert start(APPENDER, record.path, "N", 0, 1).wait() == 0
    assert batches(Record.open(record.path)) == {"N0": 3}


def test_writers_at_once_with_own_and_with_shared_keys(record: Record) -> None:
    writers = [start(APPENDER, record.path, prefix, 0, 8) for prefix in ("A", "B", "SHARED", "SHARED")]
    for _ in range(3):
        record = Record.open(record.path).compact()
    assert [writer.wait() for writer in writers] == [0] * 4
    record = Record.open(record.path).compact()
    assert batches(record) == {f"{prefix}{number}": 3 for prefix in ("A", "B", "SHARED") for number in range(8)}


def test_two_that_supersede_the_same_new_source_at_once_leave_one(record: Record) -> None:
    code = """
import sys, polars as pl
from careloop.record import Record
record = Record.open(sys.argv[1])
for number in range(6):
    rows = pl.DataFrame({"subject_id": [number], "time": None, "code": sys.argv[2], "source": f"row {number}"})
    record.supersede(rows, key=f"{sys.argv[2]}{number}")
"""
    writers = [start(code, record.path, name) for name in ("A", "B")]
    assert [writer.wait() for writer in writers] == [0, 0]
    sources = Record.open(record.path).events().collect()["source"]
    assert sorted(sources) == [f"row {number}" for number in range(6)]


def test_new_subjects_registered_at_once_get_one_row_each(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record")
    code = """
import sys, polars as pl
from careloop.record import Record, subject_ids
record = Record.open(sys.argv[1])
for start in range(5):
    print(subject_ids(record, pl.Series([f"patient {start + i}" for i in range(10)])).to_list())
"""
    writers = [start(code, record.path) for _ in range(3)]
    outputs = {writer.communicate()[0] for writer in writers}
    assert len(outputs) == 1, "all get the same ids"
    table = pl.scan_delta(str(record.path / "private" / "subjects")).collect()
    assert table.height == table["subject_id"].n_unique() == table["source_id"].n_unique() == 14


def test_killed_creation_leaves_a_folder_that_creation_takes_up(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from careloop.record import Record
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Record.create(sys.argv[1])
"""
    assert start(code, tmp_path / "record").wait() == -signal.SIGKILL
    assert Record.create(tmp_path / "record").version == 0
