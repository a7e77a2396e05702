"""A large simulated record with many prediction times is worked through in little memory."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.record import Record

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
SUBJECTS, EVENTS_A_SUBJECT, DAYS = 400, 400, 1000
BYTES_A_TOKEN = 17
PEAK = """
import sys
import polars as pl
from careloop.features.timelines import TimelinesSection, extract, extract_timelines, fit_timelines
from careloop.record import Record

def peak_bytes():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

extract.MOST_PAIRS = 200_000
record, keys = Record.open(sys.argv[1]), pl.read_parquet(sys.argv[2])
recipe = fit_timelines(record, keys, TimelinesSection())
extract_timelines(record, keys[:1], recipe, folder=sys.argv[3])
before = peak_bytes()
timelines = extract_timelines(record, keys, recipe, folder=sys.argv[3])
print(int(timelines.sequences.lengths.sum()), peak_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_peak_memory_is_below_the_size_of_the_timelines(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    n = SUBJECTS * EVENTS_A_SUBJECT
    when = pl.Series(int(DAY_0.timestamp() * 1e6) + random.integers(0, DAYS * DAY_US, n))
    events = pl.DataFrame({"subject_id": np.repeat(np.arange(SUBJECTS), EVENTS_A_SUBJECT), "time": when})
    events = events.with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC")),
        code=pl.lit("LAB//") + pl.Series(random.integers(0, 30, n)).cast(pl.String),
        numeric_value=pl.Series(random.normal(size=n)).cast(pl.Float32),
    )
    Record.create(tmp_path / "record", shards=32).append(events, key="simulated")
    times = pl.Series("prediction_time", int(DAY_0.timestamp() * 1e6) + np.arange(100, DAYS, 10) * DAY_US)
    keys = events.select("subject_id").unique(maintain_order=True).join(times.to_frame(), how="cross")
    keys.with_columns(pl.col("prediction_time").cast(pl.Datetime("us", "UTC"))).write_parquet(tmp_path / "keys.parquet")
    places = [str(tmp_path / name) for name in ("record", "keys.parquet", "timelines")]
    done = subprocess.run([sys.executable, "-c", PEAK, *places], capture_output=True, text=True, check=True)
    tokens, more = map(int, done.stdout.split())
    written = sum(file.stat().st_size for file in (tmp_path / "timelines").iterdir())
    assert tokens > 7_000_000
    assert written >= tokens * BYTES_A_TOKEN
    assert more < 0.75 * written
