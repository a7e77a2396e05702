"""Time and peak memory of cohort and features on generated events, beside meds-tab on some of the same subjects.

    python benchmarks/features_meds_tab.py --folder DIR                         # careloop, 10 million events
    python benchmarks/features_meds_tab.py --folder DIR --events 500_000        # a quick try
    python benchmarks/features_meds_tab.py --folder DIR --meds-tab VENV/bin     # and meds-tab on 500 subjects

meds-tab needs polars 1.x, so it is installed in an environment of its own (`pip install meds-tab==0.2.0`). Both get
three windows and five timed aggregations: careloop last, min, max, mean, slope; meds-tab code/count, value/count, sum,
min, max. The data are simulated: 200 codes, 60 of them with numbers (70 % of the events), known up to two days later,
each subject over five years. Each step runs in a process of its own, whose peak memory the kernel reports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2015, 1, 1, tzinfo=UTC)
DAYS = 5 * 365
DAY_US = 86_400_000_000
EVENTS_A_SUBJECT = 500
VISITS_A_SUBJECT = 3  # prediction times; a sixth of them, with under a year of record, are not eligible
CODES, NUMBER_CODES, NUMBER_SHARE = 200, 60, 0.7
CHUNK = 5000  # subjects generated at a time
MEDS_TAB_SUBJECTS = 500
WINDOWS = ["30d", "365d", "full"]
AGGREGATIONS = ["code/count", "value/count", "value/sum", "value/min", "value/max"]


def generate(subjects: np.ndarray, seed: int) -> pl.DataFrame:
    """Simulated events of these subjects: labs, diagnoses, visits, an outcome, birth, sex."""
    random = np.random.default_rng(seed)
    n = len(subjects) * (EVENTS_A_SUBJECT - VISITS_A_SUBJECT - 3)
    is_number = random.random(n) < NUMBER_SHARE
    rank = random.random(n) ** 2  # some codes are many times as frequent as others
    code = np.where(is_number, rank * NUMBER_CODES, NUMBER_CODES + rank * (CODES - NUMBER_CODES)).astype(int)
    names = [f"LAB//{i}" if i < NUMBER_CODES else f"CODE//{i}" for i in range(CODES)]
    values = np.where(is_number, random.lognormal(1, 0.5, n), np.nan).astype(np.float32)
    facts = _events(subjects, random, pl.Series(names).gather(code), n, values)
    visits = _events(subjects, random, "VISIT", len(subjects) * VISITS_A_SUBJECT)
    outcomes = _events(subjects, random, "OUTCOME", len(subjects))
    births = pl.DataFrame({"subject_id": subjects, "code": "MEDS_BIRTH"}).with_columns(
        time=pl.Series(START.timestamp() * 1e6 - random.integers(20, 90, len(subjects)) * 365 * DAY_US).cast(pl.Int64)
    )
    sex = pl.DataFrame({"subject_id": subjects, "code": "SEX", "text_value": random.choice(["F", "M"], len(subjects))})
    frame = pl.concat([facts, visits, outcomes, births, sex], how="diagonal")
    times = [pl.col(name).cast(pl.Datetime("us", "UTC")) for name in ("time", "known_time")]
    return frame.with_columns(*times, unit=pl.when(pl.col("numeric_value").is_not_null()).then(pl.lit("mg/dL")))


def _events(
    subjects: np.ndarray, random: np.random.Generator, code: str | pl.Series, n: int, values: np.ndarray | None = None
) -> pl.DataFrame:
    when = int(START.timestamp() * 1e6) + random.integers(0, DAYS * DAY_US, n)
    delay = random.integers(0, 2 * DAY_US, n)
    columns = {"subject_id": random.choice(subjects, n) if n > len(subjects) * 10 else np.resize(subjects, n)}
    frame = pl.DataFrame({**columns, "time": when, "known_time": when + delay}).with_columns(
        code=pl.lit(code) if isinstance(code, str) else code
    )
    return frame if values is None else frame.with_columns(numeric_value=pl.Series(values).fill_nan(None))


def make_record(folder: Path, events: int) -> None:
    """Write the record, and the first subjects as a MEDS dataset with the prediction times as its labels."""
    from careloop.record import Record

    record = Record.create(folder / "record")
    subjects = np.arange(events // EVENTS_A_SUBJECT)
    for number, begin in enumerate(range(0, len(subjects), CHUNK)):
        chunk = generate(subjects[begin : begin + CHUNK], seed=number)
        record = record.append(chunk, key=f"chunk {number}")
    record.compact()


def write_meds(folder: Path) -> None:
    """Write the first subjects' events as a MEDS dataset, and their prediction times as its labels."""
    from careloop.record import Record

    chosen = pl.col("subject_id") < MEDS_TAB_SUBJECTS
    events = Record.open(folder / "record").events().filter(chosen).collect().sort("subject_id", "time", "code")
    columns = ["subject_id", "time", "code", "numeric_value", "text_value"]
    labels = pl.read_parquet(folder / "cohort.parquet").filter(chosen).select("subject_id", "prediction_time")
    for place, frame in (("meds/data", events.select(columns)), ("labels", labels)):
        path = folder / place / "train" / "0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.with_columns(pl.col(pl.Datetime("us", "UTC")).dt.replace_time_zone(None)).write_parquet(path)


def run_careloop(folder: Path) -> None:
    """Cohort and features of the whole record; prints the seconds of each as JSON."""
    from careloop.cohort import CohortSection, select_cohort
    from careloop.features import FeaturesSection, fit_features
    from careloop.record import Record

    record = Record.open(folder / "record")
    rules = {
        "index": {"code": "VISIT", "which": "every"},
        "eligibility": {"history_days": 365},
        "outcome": {"code": "OUTCOME", "horizon_days": 180, "previous": "keep"},
    }
    clock = [time.perf_counter()]
    cohort = select_cohort(record, CohortSection.model_validate(rules))
    clock.append(time.perf_counter())
    _, matrix = fit_features(record, cohort.rows, FeaturesSection(code=("present", "count")))
    clock.append(time.perf_counter())
    cohort.rows.write_parquet(folder / "cohort.parquet")
    seconds = dict(zip(("cohort", "features"), np.diff(clock).round(2).tolist(), strict=True))
    print(json.dumps({"rows": matrix.values.shape[0], "columns": matrix.values.shape[1], **seconds}))


def run_meds_tab(folder: Path, binaries: Path) -> list[tuple[str, float, float]]:
    """meds-tab's own commands, one after the other; (step, seconds, peak MB) of each."""
    shutil.rmtree(folder / "meds_tab", ignore_errors=True)
    places = [f"input_dir={folder / 'meds' / 'data'}", f"output_dir={folder / 'meds_tab'}"]
    windows = f"tabularization.window_sizes=[{','.join(WINDOWS)}]"
    aggregations = f"tabularization.aggs=[static/present,{','.join(AGGREGATIONS)}]"
    labels = f"input_label_dir={folder / 'labels'}"
    steps: list[tuple[str, list[str]]] = [
        ("describe", []),
        ("tabularize-static", [windows, aggregations]),
        ("tabularize-time-series", [windows, aggregations, labels]),
    ]
    return [(step, *measured([str(binaries / f"meds-tab-{step}"), *places, *more])[:2]) for step, more in steps]


def measured(command: Sequence[str]) -> tuple[float, float, str]:
    """Run a command: seconds, peak MB of it and its children, and its standard output."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024, output


def main() -> None:
    """Run the steps in processes of their own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the data are generated, once")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--meds-tab", type=Path, help="the bin folder of an environment with meds-tab")
    parser.add_argument("--step", choices=["record", "careloop", "meds"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        work = {
            "record": lambda: make_record(options.folder, options.events),
            "meds": lambda: write_meds(options.folder),
        }
        work.get(options.step, lambda: run_careloop(options.folder))()
        return
    again = [sys.executable, __file__, "--folder", str(options.folder), "--events", str(options.events), "--step"]
    if not (options.folder / "record" / "record.json").exists():
        measured([*again, "record"])
    seconds, peak, output = measured([*again, "careloop"])
    found = json.loads(output)
    rows = [(f"careloop {step}", found[step] / 60, None) for step in ("cohort", "features")]
    rows.append((f"careloop, {options.events:,} events: process", seconds / 60, peak))
    if options.meds_tab:
        measured([*again, "meds"])
        steps = run_meds_tab(options.folder, options.meds_tab)
        rows += [(f"meds-tab {step}", seconds / 60, peak) for step, seconds, peak in steps]
        total, most = sum(s for _, s, _ in steps), max(p for _, _, p in steps)
        rows.append((f"meds-tab, {MEDS_TAB_SUBJECTS} subjects: all steps", total / 60, most))
    print(f"simulated events, {found['rows']:,} prediction times, {found['columns']:,} columns, {os.cpu_count()} cores")
    for name, minutes, memory in rows:
        print(f"{name:45s} {minutes:8.3f} min {'' if memory is None else f'{memory:8.0f} MB peak'}")


if __name__ == "__main__":
    main()
