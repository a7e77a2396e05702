"""Time and peak memory of timelines from generated events, beside meds-torch-data on the same subjects.

    python benchmarks/timelines.py --folder DIR                           # careloop, 10 million events
    python benchmarks/timelines.py --folder DIR --events 500_000          # a quick try
    python benchmarks/timelines.py --folder DIR --meds-torch VENV/bin     # and meds-torch-data

meds-torch-data needs polars 1.x, so it has an environment of its own (`pip install meds-torch-data==0.9.0`). Its
`MTD_preprocess` (statistics of all codes, vocabulary, normalisation, tokens, tensors) makes one whole timeline a
subject. careloop does the same (vocabulary and quantiles, then one timeline a subject at its last known fact, as
pre-training takes it), and then what prediction needs: the latest 512 events known at each of three prediction times a
subject, which meds-torch-data leaves to the reader of its files. The data are simulated, as features_meds_tab.py makes
them: 500 events a subject over five years, 200 codes, 60 of them with numbers. Each step runs in a process of its own,
whose peak memory the kernel reports; writing the MEDS dataset is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from features_meds_tab import make_record, measured

TRAIN_TENTHS = 8  # of ten subjects; the vocabulary is theirs
COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value"]


def keys_of(events: pl.LazyFrame, kind: str) -> pl.DataFrame:
    """One key a subject at its last known fact (`whole`), or one at each visit (`visits`)."""
    facts = events.select("subject_id", "code", "time", prediction_time="known_time")
    if kind == "visits":
        return facts.filter(pl.col("code") == "VISIT").select("subject_id", prediction_time="time").collect()
    return facts.group_by("subject_id").agg(pl.col("prediction_time").max()).sort("subject_id").collect()


def run_careloop(folder: Path, kind: str) -> None:
    """Fit on training subjects and extract; prints seconds, keys and tokens as JSON."""
    from careloop.features.timelines import TimelinesSection, extract_timelines, fit_timelines
    from careloop.record import Record

    record = Record.open(folder / "record")
    keys = keys_of(record.events(), kind)
    section = TimelinesSection(most_events=512 if kind == "visits" else 100_000)
    clock = [time.perf_counter()]
    recipe = fit_timelines(record, keys.filter(pl.col("subject_id") % 10 < TRAIN_TENTHS), section)
    clock.append(time.perf_counter())
    found = extract_timelines(record, keys, recipe, folder=folder / f"timelines_{kind}")
    clock.append(time.perf_counter())
    seconds = {"fit": clock[1] - clock[0], "extract": clock[2] - clock[1]}
    size = sum(file.stat().st_size for file in (folder / f"timelines_{kind}").iterdir())
    print(json.dumps({**seconds, "keys": len(found), "tokens": int(found.sequences.lengths.sum()), "bytes": size}))


def write_meds(folder: Path) -> None:
    """The record as a MEDS dataset of one split, one file a shard."""
    from careloop.record import Record

    record = Record.open(folder / "record")
    for shard in range(record.shards):
        rows = record.events(shard).select(COLUMNS).sort("subject_id", "time", "code").collect()
        place = folder / "meds" / "data" / "train" / f"{shard}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        rows.with_columns(pl.col("time").dt.replace_time_zone(None)).write_parquet(place)
    metadata = folder / "meds" / "metadata"
    metadata.mkdir(exist_ok=True)
    codes = record.events().select(pl.col("code").unique().sort()).collect()
    no_parents = pl.lit(None, dtype=pl.List(pl.String))
    codes.with_columns(description=pl.lit(None, dtype=pl.String), parent_codes=no_parents).write_parquet(
        metadata / "codes.parquet"
    )
    created = datetime.now(UTC).isoformat()
    (metadata / "dataset.json").write_text(json.dumps({"dataset_name": "simulated", "created_at": created}))


def run_meds_torch(folder: Path, binaries: Path) -> tuple[float, float, float, int]:
    """meds-torch-data's own command: seconds, CPU seconds, peak MB, and bytes written."""
    shutil.rmtree(folder / "meds_torch", ignore_errors=True)
    places = [f"MEDS_dataset_dir={folder / 'meds'}", f"output_dir={folder / 'meds_torch'}"]
    path = f"PATH={binaries}:{os.environ['PATH']}"
    seconds, cpu, peak, _ = with_cpu(["env", path, str(binaries / "MTD_preprocess"), *places])
    written = list((folder / "meds_torch").rglob("*.nrt"))
    if not written:
        raise SystemExit("MTD_preprocess wrote no tensors; see its logs")
    return seconds, cpu, peak, sum(file.stat().st_size for file in written)


def with_cpu(command: list[str]) -> tuple[float, float, float, str]:
    """As `measured`, with the CPU seconds of all cores, which tell less of what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak, output = measured(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak, output


def main() -> None:
    """Run the steps in processes of their own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the data are generated, once")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--meds-torch", type=Path, help="the bin folder of an environment with meds-torch-data")
    parser.add_argument("--step", choices=["record", "whole", "visits", "meds"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder.absolute()
    if options.step:
        work = {"record": lambda: make_record(folder, options.events), "meds": lambda: write_meds(folder)}
        work.get(options.step, lambda: run_careloop(folder, options.step))()
        return
    again = [sys.executable, __file__, "--folder", str(folder), "--events", str(options.events), "--step"]
    if not (folder / "record" / "record.json").exists():
        measured([*again, "record"])
    print(f"{options.events:,} simulated events, {os.cpu_count()} cores; the whole process, and its two steps")
    print(f"{'':52s} {'seconds':>8s} {'CPU s':>7s} {'events/s':>10s} {'tokens':>11s} {'peak MB':>8s} {'file MB':>8s}")
    for kind, what in (("whole", "whole"), ("visits", "latest 512 events")):
        seconds, cpu, peak, output = with_cpu([*again, kind])
        found = json.loads(output)
        print_row(f"careloop, {found['keys']:,} timelines ({what})", options.events, (seconds, cpu, peak), found)
        for step in ("fit", "extract"):
            print(f"{'  ' + step:52s} {found[step]:8.1f} {'':7s} {options.events / found[step]:10,.0f}")
    if options.meds_torch:
        measured([*again, "meds"])
        seconds, cpu, peak, size = run_meds_torch(folder, options.meds_torch.absolute())
        name = "meds-torch-data, one whole timeline a subject"
        print_row(name, options.events, (seconds, cpu, peak), {"bytes": size})


def print_row(name: str, events: int, figures: tuple[float, float, float], found: dict[str, int]) -> None:
    """One line of the table; `figures` are seconds, CPU seconds and peak MB."""
    seconds, cpu, peak = figures
    tokens = f"{found['tokens']:11,}" if "tokens" in found else " " * 11
    size = found["bytes"] / 1e6
    print(
        f"{name:52s} {seconds:8.1f} {cpu:7.1f} {events / seconds:10,.0f} {tokens} {peak:8.0f} {size:8.0f}", flush=True
    )


if __name__ == "__main__":
    main()
