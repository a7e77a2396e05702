"""Append to a record, read one patient, cut histories: time and peak memory beside plain polars in the same run.

    python benchmarks/record_append.py                     10 million events, 16 shards, 50,000 prediction times
    python benchmarks/record_append.py --events 1000000

Every measurement runs in its own process, so that CPU time and peak memory are its own; both include starting and
reading the input. The events are simulated. Plain polars sorts the same rows and writes them with `write_parquet` to
one file, without key, fingerprint, versions or shards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from careloop.record import Record, conform, history

SUBJECTS = 50_000
CODES = 500
READS = 200
Figures = dict[str, float]


def simulated_events(rows: int) -> pl.DataFrame:
    """Events of `SUBJECTS` subjects over ten years, conformed, in no order; results known within four days."""
    random = np.random.default_rng(0)
    micros = random.integers(1_262_304_000, 1_577_836_800, rows) * 1_000_000
    delay = random.integers(0, 4 * 86_400, rows) * 1_000_000
    frame = pl.DataFrame(
        {
            "subject_id": random.integers(0, SUBJECTS, rows),
            "time": micros,
            "known_time": micros + delay,
            "code": random.integers(0, CODES, rows),
            "numeric_value": random.normal(100, 20, rows).astype(np.float32),
        }
    )
    times = pl.col("time", "known_time").cast(pl.Datetime("us", "UTC"))
    source = pl.format("export.csv:{}", pl.int_range(pl.len()))
    return conform(frame.with_columns(times, code=pl.format("LOINC//{}", "code"), unit=pl.lit("mg/dL"), source=source))


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def each_milliseconds(read: Callable[[int], pl.DataFrame]) -> Figures:
    """Median and 99th percentile of reading one subject."""
    read(0)
    took = sorted(timed(partial(read, subject)) * 1000 for subject in range(1, READS + 1))
    return {"p50 ms": statistics.median(took), "p99 ms": took[int(0.99 * len(took))]}


def append(folder: Path) -> Figures:
    """record: append."""
    events = pl.read_parquet(folder / "events.parquet")
    return {"s": timed(lambda: Record.open(folder / "record").append(events, key="benchmark"))}


def append_again(folder: Path) -> Figures:
    """record: append again, same key."""
    events = pl.read_parquet(folder / "events.parquet")
    return {"s": timed(lambda: Record.open(folder / "record").append(events, key="benchmark"))}


def plain_write(folder: Path) -> Figures:
    """polars: sort, write_parquet."""
    events = pl.read_parquet(folder / "events.parquet")
    ordered = ("subject_id", "time", "code", "known_time", "numeric_value", "unit", "text_value", "asset", "source")
    return {"s": timed(lambda: events.sort(ordered).write_parquet(folder / "plain.parquet"))}


def read_all(folder: Path) -> Figures:
    """record: read all, by shard."""
    record = Record.open(folder / "record")
    return {"s": timed(lambda: [record.events(shard).collect() for shard in range(record.shards)])}


def plain_read(folder: Path) -> Figures:
    """polars: read_parquet."""
    return {"s": timed(lambda: pl.read_parquet(folder / "plain.parquet"))}


def timeline(folder: Path) -> Figures:
    """record: one timeline."""
    return each_milliseconds(Record.open(folder / "record").timeline)


def plain_timeline(folder: Path) -> Figures:
    """polars: one by scan_parquet."""
    plain = pl.scan_parquet(folder / "plain.parquet")
    return each_milliseconds(lambda subject: plain.filter(subject_id=subject).sort("time").collect())


def scan_delta_timeline(folder: Path) -> Figures:
    """polars: one by scan_delta."""
    rows = pl.scan_delta(str(folder / "record" / "events"))
    return each_milliseconds(
        lambda subject: rows.filter(shard=subject % 16, subject_id=subject).sort("time").collect(),
    )


def cut_histories(folder: Path) -> Figures:
    """record: history, mean value."""
    record = Record.open(folder / "record")
    start = pl.datetime(2015, 1, 1, time_unit="us", time_zone="UTC")
    keys = pl.select(subject_id=pl.int_range(SUBJECTS, dtype=pl.Int64), prediction_time=start)

    def rows_known() -> int:
        count = 0
        for shard in range(record.shards):
            mine = keys.filter(record.shard_of(keys["subject_id"]) == shard)
            by_key = history(record.events(shard), mine).group_by("subject_id", "prediction_time")
            count += int(by_key.agg(pl.col("numeric_value").mean(), pl.len()).collect()["len"].sum())
        return count

    return {"s": timed(rows_known)}


def compact(folder: Path) -> Figures:
    """record: compact."""
    record = Record.open(folder / "record")
    one = record.events(0).head(1000).collect()
    for number in range(3):
        record = record.append(one, key=f"small {number}")
    return {"s": timed(record.compact)}


def supersede(folder: Path) -> Figures:
    """record: supersede 1,000 rows."""
    record = Record.open(folder / "record")
    rows = record.events().filter(pl.col("source").is_in([f"export.csv:{row}" for row in range(1000)])).collect()
    return {"s": timed(lambda: record.supersede(rows.with_columns(unit=pl.lit("umol/L")), key="correction"))}


STEPS = [
    append, append_again, plain_write, read_all, plain_read,
    timeline, scan_delta_timeline, plain_timeline, cut_histories, supersede, compact,
]  # fmt: skip


def measured(step: Callable[[Path], Figures], folder: Path) -> Figures:
    """Run `step` and add its process's CPU time (the machine may be shared) and peak memory (its input included)."""
    figures = step(folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return figures | {"CPU s": usage.ru_utime + usage.ru_stime, "peak MB": usage.ru_maxrss / 1024}


def main() -> int:
    """Print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    rows = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Record.create(folder / "record", shards=16)
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            pool.apply(write_simulated, (folder, rows))
            print(f"{rows:,} simulated events, {SUBJECTS:,} subjects, 16 shards; {pl.thread_pool_size()} threads")
            for step in STEPS:
                figures = pool.apply(measured, (step, folder))
                print(
                    f"{str(step.__doc__).rstrip('.'):32}"
                    + "".join(f"{value:10,.2f} {unit}" for unit, value in figures.items())
                )
    return 0


def write_simulated(folder: Path, rows: int) -> None:
    """Leave the events where every step finds them."""
    simulated_events(rows).write_parquet(folder / "events.parquet")


if __name__ == "__main__":
    sys.exit(main())
