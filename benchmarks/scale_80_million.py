"""Cohort and features of 80 million generated events: seconds and peak memory, here and in workers, beside ACES.

    python benchmarks/scale_80_million.py --folder DIR                              # careloop on 80 million events
    python benchmarks/scale_80_million.py --folder DIR --million 5                  # a quick try
    python benchmarks/scale_80_million.py --folder DIR --aces-python VENV/bin/python --aces-million 20

The data are simulated, once, into DIR (17 MB a million events, twice that with ACES's copy) and are kept there: 800
events a patient on average, in visits over ten years; 3,000 codes whose use follows Zipf's law; 60 % of the events
laboratory results with a value, each known some hours after it happened. The features are the default ones. Programs
run one after the other, each in a process of its own; CPU seconds tell on a machine that others use; the peak is that
of the resident memory of the whole process tree, read ten times a second from /proc (Linux).

ACES (`pip install es-aces`, in an environment of its own: it needs polars 1.x) gets its own task of in-hospital
mortality, as one table of the first `--aces-million` events, and, fairer to it, all events shard by shard; careloop
gets the same task on the same files, and from the record. ACES publishes 363 s and 106 GiB for 80.5 million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START_US = int(datetime(2014, 1, 1, tzinfo=UTC).timestamp() * 1e6)
YEARS = 10
DAY_US, MINUTE_US = 86_400_000_000, 60_000_000
EVENTS_A_SUBJECT = 800
EVENTS_A_VISIT = 40
EVENTS_A_SHARD = 2_500_000
ADMISSIONS = ("ADMISSION//EMERGENCY", "ADMISSION//OBSERVATION", "ADMISSION//SURGERY")
# Kinds of events: how many codes of each, and its share of the events.
KINDS = {"LAB": (200, 0.6), "MEDICATION": (1000, 0.2), "DIAGNOSIS": (1500, 0.15), "PROCEDURE": (300, 0.05)}
STUDY: dict[str, Any] = {
    "index": {"code": "ADMISSION//*", "which": "first"},
    "eligibility": {
        "age_years": {"min": 18},
        "history_days": 180,
        "require": [{"codes": ["LAB//0"], "window_days": [-730, 0]}],
        "exclude": [{"codes": ["DIAGNOSIS//20"]}],
    },
    "outcome": {"codes": ["DIAGNOSIS//20"], "horizon_days": 365, "competing": ["MEDS_DEATH"]},
}
# Of ACES's sample_configs/inhospital_mortality.yaml, with MEDS's code for death.
TASK = """
predicates:
  admission: {code: {regex: "ADMISSION//.*"}}
  discharge: {code: {regex: "DISCHARGE//.*"}}
  death: {code: MEDS_DEATH}
  discharge_or_death: {expr: "or(discharge, death)"}
patient_demographics:
  male: {code: SEX//male}
trigger: admission
windows:
  input: {start: null, end: trigger + 24h, start_inclusive: true, end_inclusive: true, has: {_ANY_EVENT: "(5, None)"},
          index_timestamp: end}
  gap: {start: trigger, end: start + 48h, start_inclusive: false, end_inclusive: true,
        has: {admission: "(None, 0)", discharge: "(None, 0)", death: "(None, 0)"}}
  target: {start: gap.end, end: start -> discharge_or_death, start_inclusive: false, end_inclusive: true, label: death}
"""


def make_record(folder: Path, million: float) -> None:
    """Write the record, one shard in memory and one commit at a time, from where an earlier run stopped."""
    from careloop.record import Record

    shards = max(2, round(million * 1e6 / EVENTS_A_SHARD))
    place = folder / "record"
    record = Record.open(place) if (place / "record.json").exists() else Record.create(place, shards=shards)
    for shard in range(record.version, shards):
        subjects = np.arange(shard, int(million * 1e6) // EVENTS_A_SUBJECT, shards)
        record = record.append(simulated(subjects, seed=shard), key=f"shard {shard}")


def simulated(subjects: np.ndarray, seed: int) -> pl.DataFrame:
    """All events of these subjects; some have ten times as many as others."""
    draw = np.random.default_rng(seed)
    share = draw.lognormal(0, 0.8, len(subjects))
    visits = np.maximum(1, share / share.mean() * EVENTS_A_SUBJECT / EVENTS_A_VISIT).astype(int)
    visit_subject = np.repeat(subjects, visits)
    visit_start = START_US + draw.integers(0, YEARS * 365 * 24 * 60, len(visit_subject)) * MINUTE_US
    facts = _facts(visit_subject, visit_start, draw)
    stays, deaths = _stays(visit_subject, visit_start, draw)
    last = pl.col("death").fill_null(START_US * 10)
    timed = pl.concat([facts, stays]).join(deaths, on="subject_id", how="left", maintain_order="left")
    timed = timed.with_columns(pl.min_horizontal("time", last), pl.min_horizontal("known_time", last)).drop("death")
    birth = START_US - draw.integers(10, 85, len(subjects)) * 365 * DAY_US
    once = [
        _events(deaths["subject_id"], deaths["death"], "MEDS_DEATH"),
        _events(subjects, birth, "MEDS_BIRTH"),
        _events(subjects, None, np.array(["SEX//female", "SEX//male"])[draw.integers(0, 2, len(subjects))]),
    ]
    times = [pl.col(name).cast(pl.Datetime("us", "UTC")) for name in ("time", "known_time")]
    return pl.concat([timed, *once], how="diagonal").with_columns(*times, source=pl.lit("simulated"))


def _facts(visit_subject: np.ndarray, visit_start: np.ndarray, draw: np.random.Generator) -> pl.DataFrame:
    n = len(visit_start) * EVENTS_A_VISIT
    names, chances = [], []
    for kind, (codes, part) in KINDS.items():
        names += [f"{kind}//{i}" for i in range(codes)]
        zipf = 1 / (np.arange(codes) + 2)
        chances.append(part * zipf / zipf.sum())
    number = np.searchsorted(np.cumsum(np.concatenate(chances)), draw.random(n) * (1 - 1e-12))
    visit = np.repeat(np.arange(len(visit_start)), EVENTS_A_VISIT)
    when = visit_start[visit] + (draw.exponential(1.5, n) * 24 * 60).astype(int) * MINUTE_US
    is_lab = number < KINDS["LAB"][0]
    known = when + np.where(is_lab, draw.integers(30, 600, n), draw.integers(0, 3000, n)) * MINUTE_US
    value = np.where(is_lab, np.round(draw.lognormal(number % 7, 0.3), 1), np.nan)
    codes = pl.Series(number).cast(pl.UInt32).cat.to(pl.Enum(names))
    frame = _events(visit_subject[visit], when, codes.cast(pl.String)).with_columns(known_time=known)
    values = pl.Series(value, dtype=pl.Float32).fill_nan(None)
    unit = pl.when(pl.col("numeric_value").is_not_null()).then(pl.lit("mg/dL"))
    return frame.with_columns(numeric_value=values).with_columns(unit=unit)


def _stays(
    visit_subject: np.ndarray, visit_start: np.ndarray, draw: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Admission and discharge of every fifth visit; a tenth of the subjects die in their last one."""
    visits = pl.DataFrame({"subject_id": visit_subject, "start": visit_start})
    stays = visits.filter(draw.random(visits.height) < 0.2)
    end = pl.col("start") + pl.Series((draw.exponential(4, stays.height) * 24).astype(int) + 1) * (DAY_US // 24)
    stays = stays.with_columns(end=end, kind=pl.Series(draw.integers(0, len(ADMISSIONS), stays.height)))
    last = stays.group_by("subject_id").agg(pl.all().sort_by("start").last()).sort("subject_id")
    dying = last.filter(draw.random(last.height) < 0.1)
    home = stays.join(dying, on=["subject_id", "start"], how="anti")
    admitted = _events(stays["subject_id"], stays["start"], np.array(ADMISSIONS)[stays["kind"].to_numpy()])
    frame = pl.concat([admitted, _events(home["subject_id"], home["end"], "DISCHARGE//HOME")])
    frame = frame.with_columns(pl.lit(None, pl.Float32).alias("numeric_value"), pl.lit(None, pl.String).alias("unit"))
    return frame, dying.select("subject_id", death="end")


def _events(subject_id: Any, time_us: Any, code: Any) -> pl.DataFrame:
    columns = {"subject_id": subject_id, "time": time_us, "code": code}
    frame = pl.DataFrame(columns, schema_overrides={"subject_id": pl.Int64, "time": pl.Int64})
    return frame.with_columns(known_time="time").select("subject_id", "time", "known_time", "code")


# careloop, in a process of its own (`--step`).


def run_careloop(folder: Path, on: str) -> None:
    """Cohort and features of the whole record; prints rows, columns, and seconds of each as JSON."""
    from careloop.cohort import CohortSection, select_cohort
    from careloop.features import FeaturesSection, fit_features
    from careloop.record import Record

    record = Record.open(folder / "record")
    clock = [time.perf_counter()]
    cohort = select_cohort(record, CohortSection.model_validate(STUDY), on=on)
    clock.append(time.perf_counter())
    _, matrix = fit_features(record, cohort.rows, FeaturesSection(), on=on)
    clock.append(time.perf_counter())
    seconds = dict(zip(("cohort", "features"), np.diff(clock).round(1).tolist(), strict=True))
    rows, columns = matrix.values.shape
    print(json.dumps({"rows": rows, "columns": columns, **seconds}))


def run_task(folder: Path, on: str) -> None:
    """The rows of ACES's task by careloop, from the whole record."""
    from careloop.cohort import aces_cohort, read_aces
    from careloop.record import Record

    rows = aces_cohort(Record.open(folder / "record"), read_aces(folder / "task.yaml"), on=on)
    naive = pl.col("prediction_time").dt.replace_time_zone(None)
    order = ["subject_id", "prediction_time", "boolean_value"]
    rows.with_columns(naive).sort(order).write_parquet(folder / "task_rows.parquet")
    print(json.dumps({"rows": rows.height}))


def write_meds(folder: Path) -> list[Path]:
    """Each shard of the record as a file of a MEDS dataset; those that are there stay."""
    from careloop.record import Record

    record, files = Record.open(folder / "record"), []
    (folder / "meds").mkdir(exist_ok=True)
    for shard in range(record.shards):
        file = folder / "meds" / f"{shard}.parquet"
        files.append(file)
        if not file.exists():
            columns = ["subject_id", pl.col("time").dt.replace_time_zone(None), "code", "numeric_value", "text_value"]
            events = record.events(shard).select(columns).collect()
            events.sort("subject_id", "time", maintain_order=True).write_parquet(folder / "new.parquet")
            (folder / "new.parquet").rename(file)
    return files


# The table.


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command: `wall` and `cpu` seconds, peak `gb` of its process tree, and what its last line of JSON says."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    ended, usage = 0, None
    while not ended:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(0.1)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    assert process.stdout is not None
    assert usage is not None
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    said = json.loads(process.stdout.read().splitlines()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": time.perf_counter() - begin, "cpu": cpu, "gb": peak / 1e9, **said}


def tree_bytes(root: int) -> int:
    """Resident bytes of a process and its descendants; what they share counts for each, so never too little."""
    page = os.sysconf("SC_PAGE_SIZE")
    parents, resident = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        process = int(stat.parent.name)
        parents[process], resident[process] = int(fields[1]), int(fields[21]) * page
    tree = {root}
    while more := {p for p, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(resident.get(process, 0) for process in tree)


def show(name: str, found: dict[str, Any], note: str = "") -> None:
    """Print one line of the table."""
    spent = f"{found['wall']:8.1f} {found['cpu']:8.1f} {found['gb']:8.2f}"
    print(f"{name:52}{spent} {found['rows']:10,} {found.get('columns', 0) or '':>8}  {note}", flush=True)


def compare_with_aces(folder: Path, python: str, million: float, again: Sequence[str]) -> None:
    """ACES's own task: as one table of the first events, then shard by shard over all; careloop on the same files."""
    (folder / "task.yaml").write_text(TASK)
    files = write_meds(folder)
    one = folder / "one_table.parquet"
    few = files[: max(1, round(million * 1e6 / EVENTS_A_SHARD))]
    pl.concat([pl.scan_parquet(file) for file in few]).sink_parquet(one)
    events = pl.scan_parquet(one).select(pl.len()).collect().item()
    for what, shards in ((f"{events:,} events, one table", [one]), ("all events, shard by shard", files)):
        rows = {}
        for program, interpreter in (("ACES", python), ("careloop", sys.executable)):
            rows[program] = folder / f"{program}.parquet"
            jobs = folder / "jobs.json"
            jobs.write_text(json.dumps([[str(folder / "task.yaml"), [str(s) for s in shards], str(rows[program])]]))
            script = str(Path(__file__).with_name("aces_cohort.py"))
            found = measured([interpreter, script, "--run", program.lower(), str(jobs)])
            found["rows"] = pl.scan_parquet(rows[program]).select(pl.len()).collect().item()
            show(f"{program}, its task, {what}" if program == "ACES" else f"careloop, ACES's task, {what}", found)
        same = pl.read_parquet(rows["ACES"]).equals(pl.read_parquet(rows["careloop"]))
        print(f"{'':4}the same rows: {'yes' if same else 'NO'}", flush=True)
    for on in ("here", "local"):
        found = measured([*again, "--step", "task", "--on", on])
        same = pl.read_parquet(folder / "task_rows.parquet").equals(pl.read_parquet(rows["ACES"]))
        show(f"careloop, ACES's task, from the record, {on}", found, f"the same rows: {'yes' if same else 'NO'}")


def main() -> None:
    """Generate what is not there yet, run the steps in processes of their own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the data are generated, once")
    parser.add_argument("--million", type=float, default=80, help="events, in millions")
    parser.add_argument("--on", nargs="+", default=["here", "local"], help="here, local, ray, local:4, ...")
    parser.add_argument("--aces-python", help="the python of an environment with es-aces")
    parser.add_argument("--aces-million", type=float, default=10, help="events of ACES's one table, in millions")
    parser.add_argument("--step", choices=["record", "careloop", "task"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = given.folder / f"{given.million:g}_million"
    if given.step:
        steps: dict[str, Callable[[], None]] = {
            "record": lambda: make_record(folder, given.million),
            "careloop": lambda: run_careloop(folder, given.on[0]),
            "task": lambda: run_task(folder, given.on[0]),
        }
        steps[given.step]()
        return
    folder.mkdir(parents=True, exist_ok=True)
    again = [sys.executable, __file__, "--folder", str(given.folder), "--million", str(given.million)]
    subprocess.run([*again, "--step", "record"], check=True)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("careloop", "polars", "numpy", "scipy"))
    print(f"simulated events; Python {sys.version.split()[0]}, {libraries}; {os.cpu_count()} cores")
    print(f"{'':52}{'s':>8} {'CPU s':>8} {'peak GB':>8} {'rows':>10} {'columns':>8}")
    for on in given.on:
        found = measured([*again, "--step", "careloop", "--on", on])
        note = f"cohort {found['cohort']} s, features {found['features']} s"
        show(f"careloop cohort + features, {given.million:g} million events, {on}", found, note)
    if given.aces_python:
        names = "from importlib.metadata import version; print(version('es-aces'), 'with polars', version('polars'))"
        done = subprocess.run([given.aces_python, "-c", names], capture_output=True, text=True, check=True)
        print(f"ACES {done.stdout.strip()}")
        compare_with_aces(folder, given.aces_python, given.aces_million, again)


if __name__ == "__main__":
    main()
