"""What the tests of shards do with one: in a module of its own, which worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.record import Record


def rows_of(record: Record, shard: int) -> pl.DataFrame:
    """The shard's events."""
    return record.events(shard).collect()


def whose_and_where(record: Record, shard: int, *, also: str) -> tuple[int, str, int, int]:
    """The shard, what was handed over, the process and how many threads polars has in it."""
    return shard, also, os.getpid(), pl.thread_pool_size()


def refuse(record: Record, shard: int, *, bad: int) -> int:
    """Raise an error at one shard."""
    if shard == bad:
        raise InputError(f"shard {shard}: a rule is broken; remove the row")
    return shard


def die(record: Record, shard: int, *, bad: int) -> int:
    """End as the kernel ends a process when memory runs out, at one shard."""
    if shard == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return shard


def leave_mark(record: Record, shard: int, *, folder: Path) -> int:
    """Leave a file that tells that this shard was begun."""
    (folder / f"mark {shard}").touch()
    return shard


def sleep(record: Record, shard: int, *, folder: Path) -> int:
    """Leave a file named by the process, and take a minute."""
    (folder / f"process {os.getpid()}").touch()
    time.sleep(60)
    return shard


def sleep_in_two_workers(record: str, folder: str) -> None:
    """Begin two of these."""
    from functools import partial

    from careloop.record.shards import each_shard

    list(each_shard(Record.open(record), partial(sleep, folder=Path(folder)), on="local:2"))
