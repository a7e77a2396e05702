"""Compare careloop with ACES (es-aces) on ACES task files: the same rows? how long, how much memory?

    python benchmarks/aces_cohort.py PYTHON_WITH_ACES [--random 200] [--subjects 20000] [--shards 4]

PYTHON_WITH_ACES is the python of an environment with es-aces (it needs polars 1.x, so it cannot be careloop's own).
First, random tasks on random data sets: how many gave the same rows. Then ACES's own task files (those of
tests/cohort/aces/configs) on one larger simulated data set: rows, seconds without imports, and the peak memory of a
process of its own (read from /proc: Linux).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

TASKS = Path(__file__).parents[1] / "tests" / "cohort" / "aces" / "configs"
ROWS = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
EVENTS = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
}
CODES = ("A//1", "A//2", "B//1", "B//2", "C", "D")
HOURS = (1, 2, 6, 12, 24)


# Both programs, run in a process of their own (`--run PROGRAM JOBS`).


def aces_rows(task: Path, shard: Path) -> pl.DataFrame:
    """ACES's rows under MEDS's names, without the rows that lack even a trigger.

    It adds one such row a subject where the last window of a task's only chain ends at an event that never comes.
    """
    from aces import config, predicates, query
    from omegaconf import DictConfig

    cfg = config.TaskExtractorConfig.load(config_path=task)  # anew for each shard: 0.7.3's query changes it
    data = DictConfig({"path": str(shard), "standard": "meds", "ts_format": None})
    found = query.query(cfg, predicates.get_predicates_df(cfg, data))
    if found.is_empty():
        return pl.DataFrame(schema=ROWS)
    label = pl.col("label") > 0 if "label" in found.columns else pl.lit(None, dtype=pl.Boolean)
    found = found.drop_nulls("trigger").with_columns(prediction_time="index_timestamp", boolean_value=label)
    return found.select(pl.col(name).cast(kind) for name, kind in ROWS.items())


def careloop_rows(task: Path, shard: Path) -> pl.DataFrame:
    """The rows that careloop gives."""
    from careloop.cohort.aces import read_aces
    from careloop.cohort.aces_windows import aces_rows as rows_of

    return rows_of(pl.scan_parquet(shard), read_aces(task))


def run(program: str, jobs: Path) -> None:
    """Do the jobs of a JSON file ([task, shards, output] each); print seconds and peak memory as JSON."""
    rows_of = {"aces": aces_rows, "careloop": careloop_rows}[program]
    __import__({"aces": "aces.query", "careloop": "careloop.cohort.aces_windows"}[program])
    start = time.perf_counter()
    for task, shards, output in json.loads(jobs.read_text()):
        rows = pl.concat([rows_of(Path(task), Path(shard)) for shard in shards])
        rows.sort("subject_id", "prediction_time", "boolean_value").write_parquet(output)
    seconds = time.perf_counter() - start
    # Not getrusage: its peak counts the parent's memory, from before this program replaced its copy.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds, "mib": int(status["VmHWM"].split()[0]) / 1024}))


def run_both(jobs: list[tuple[Path, list[Path]]], folder: Path, pythons: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Run the jobs (task, shards) with both programs; job i's rows are then in folder/PROGRAM_i.parquet."""
    measured = {}
    for program, python in pythons.items():
        written = [
            [str(t), [str(s) for s in shards], f"{folder}/{program}_{i}.parquet"] for i, (t, shards) in enumerate(jobs)
        ]
        file = folder / "jobs.json"
        file.write_text(json.dumps(written))
        done = subprocess.run(
            [python, __file__, "--run", program, str(file)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{program} failed:\n{done.stderr[-3000:]}")
        measured[program] = json.loads(done.stdout.splitlines()[-1])
    return measured


# Random tasks on random data.


def random_events(draw: random.Random) -> pl.DataFrame:
    """Up to 40 subjects with up to 30 events on a coarse grid of hours, so that ties and exact distances are common."""
    rows: list[tuple[Any, ...]] = []
    for subject in range(draw.randrange(2, 40)):
        for code in ("M", "F", "A//1", "C"):
            rows += [(subject, None, code, None, None)] * draw.choice((0, 0, 1, 2))
        now = datetime(2020, 1, 1)
        for _ in range(draw.randrange(31)):
            now += timedelta(hours=draw.choice((0, 0, 1, 1, 2, 5, 12, 24)))
            value = draw.choice((None, 0.0, 0.1, 1.0, 2.0, float("nan")))
            rows.append((subject, now, draw.choice((*CODES, *CODES, "M")), value, draw.choice((None, "x", "y"))))
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


def random_predicates(draw: random.Random) -> dict[str, Any]:
    """Four plain predicates p0 to p3 and two derived ones d0 and d1."""
    predicates: dict[str, Any] = {}
    for i in range(4):
        code = draw.choice(
            [draw.choice(CODES), {"any": draw.sample(CODES, 2)}, {"regex": draw.choice(("^A//", "//1", "C|D"))}]
        )
        predicates[f"p{i}"] = {"code": code}
        for key in ("value_min", "value_max"):
            if draw.random() < 0.2:
                predicates[f"p{i}"] |= {key: draw.choice((0, 0.1, 1)), f"{key}_inclusive": draw.random() < 0.5}
        if draw.random() < 0.1:
            predicates[f"p{i}"]["text_value"] = "x"
    static = [name for name in ("s0", "s1") if draw.random() < 0.2]
    predicates |= {name: {"code": draw.choice(("M", "F", "A//1")), "static": True} for name in static}
    for name, inputs in (("d0", ["p0", "p1", "p2", *static]), ("d1", ["p2", "p3", "d0"])):
        predicates[name] = {"expr": f"{draw.choice(('and', 'or', 'or'))}({', '.join(draw.sample(inputs, 2))})"}
    return predicates


def random_bound(draw: random.Random, reference: str, signs: str) -> str:
    """A bound relative to `reference`; `signs` has `+` where it may lie later, `-` where it may lie earlier."""
    sign = draw.choice(signs)
    if draw.random() < 0.5:
        return f"{reference} {sign} {draw.choice(HOURS)}h"
    edge = "_RECORD_END" if sign == "+" else "_RECORD_START"
    event = draw.choice(("p0", "p1", "p2", "p3", "d0", "d1", "_ANY_EVENT", edge))
    return f"{reference} {'->' if sign == '+' else '<-'} {event}"


def random_window(draw: random.Random, moments: list[str]) -> dict[str, Any]:
    """A window that hangs on one of `moments`."""
    root, far = draw.choice((("start", "end"), ("end", "start")))
    parent = draw.choice(moments)
    limits = ("(None, 0)", "(None, 1)", "(None, 3)", "(0, 2)", "(1, None)", "(1, 4)", "(2, None)")
    names = ("p0", "p1", "p2", "d0", "d1", "_ANY_EVENT", "_RECORD_START", "_RECORD_END")
    return {
        root: parent if draw.random() < 0.5 else random_bound(draw, parent, "+-"),
        far: None if draw.random() < 0.2 else random_bound(draw, root, "+" if far == "end" else "-"),
        "start_inclusive": draw.random() < 0.5,
        "end_inclusive": draw.random() < 0.5,
        "has": {name: draw.choice(limits) for name in draw.sample(names, draw.choice((0, 0, 1, 1, 2)))},
    }


def random_task(draw: random.Random) -> dict[str, Any]:
    """A task of one to four windows, listed in any order, with one prediction time and mostly a label."""
    windows: dict[str, Any] = {}
    moments = ["trigger"]
    for i in range(draw.randrange(1, 5)):
        windows[f"w{i}"] = random_window(draw, moments)
        moments += [f"w{i}.start", f"w{i}.end"]
    fit = [name for name, window in windows.items() if not (window["start"] or "").startswith("end - ")]
    if not fit:
        return random_task(draw)
    windows[draw.choice(fit)]["index_timestamp"] = draw.choice(("start", "end"))
    if draw.random() < 0.8:
        draw.choice(list(windows.values()))["label"] = draw.choice(("p0", "p3", "d0", "d1"))
    return {
        "predicates": random_predicates(draw),
        "patient_demographics": {"m": {"code": "M"}} if draw.random() < 0.2 else {},
        "trigger": draw.choice(("p0", "p1", "d0", "d1", "_ANY_EVENT", "_RECORD_START", "_RECORD_END")),
        "windows": dict(draw.sample(list(windows.items()), len(windows))),
    }


def agreement(count: int, seed: int, pythons: dict[str, str]) -> None:
    """Print on how many random pairs of task and data set the two programs give the same rows."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for i in range(count):
            task, events = Path(folder, f"task_{i}.yaml"), Path(folder, f"events_{i}.parquet")
            task.write_text(json.dumps(random_task(draw), indent=1))  # JSON is YAML
            random_events(draw).write_parquet(events)
            jobs.append((task, [events]))
        run_both(jobs, Path(folder), pythons)
        results = [[pl.read_parquet(f"{folder}/{program}_{i}.parquet") for program in pythons] for i in range(count)]
        differing = [i for i, (ours, theirs) in enumerate(results) if not ours.equals(theirs)]
        for i in differing[:2]:
            print(jobs[i][0].read_text(), *results[i], sep="\n")
    found = [ours.height for ours, _ in results if ours.height]
    print(f"random tasks: {count - len(differing)} of {count} gave the same rows")
    print(f"{len(found)} of them gave any, {sum(found)} in all")


# One larger data set.


def simulated_shard(subjects: range, seed: int) -> pl.DataFrame:
    """About 250 events a subject: stays with measurements in between, as the task files under tests/ name them."""
    import numpy as np

    draw = np.random.default_rng(seed)
    per_subject = draw.integers(100, 400, len(subjects))
    rows = int(per_subject.sum())
    spo2 = "lab_name//O2 saturation pulseoxymetry (%)"
    named = ["ADMISSION//ED", "ADMISSION//MEDICAL", "DISCHARGE//HOME", "DISCHARGE//REHAB", "PROCEDURE_START",
             "PROCEDURE_END", "procedure//Invasive Ventilation", "diagnosis//ICD9CM_41071", "diagnosis//ICD10CM_I214",
             "ICD9CM//428.9", "DEATH", "VITALS//HR", spo2]  # fmt: skip
    weights = [0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01, 0.002, 0.002, 0.005, 0.0005, 0.1, 0.1]
    codes = np.array(named + [f"LAB//{i}" for i in range(500)])
    chance = np.array(weights + [(1 - sum(weights)) / 500] * 500)
    which = draw.choice(len(codes), rows, p=chance)
    subject = np.repeat(np.asarray(subjects), per_subject)
    hours = draw.choice([0, 0, 1, 2, 6, 24, 24 * 30], rows, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.08, 0.02])
    elapsed = np.cumsum(hours) - np.repeat(
        (np.cumsum(hours) - hours)[np.cumsum(per_subject) - per_subject], per_subject
    )
    timed = pl.DataFrame(
        {
            "subject_id": subject,
            "time": np.datetime64("2000-01-01", "us") + elapsed * np.timedelta64(3600, "s"),
            "code": codes[which],
            "numeric_value": np.where(which == named.index(spo2), draw.normal(96, 8, rows), draw.normal(80, 20, rows)),
            "text_value": pl.Series([None] * rows, dtype=pl.String),
        },
        schema_overrides=EVENTS,
    )
    facts = [
        (s, None, code, None, None) for s in subjects for code in (("SEX//male", "SEX//female")[s % 2], "EYE//blue")
    ]
    return pl.concat([pl.DataFrame(facts, schema=EVENTS, orient="row"), timed]).sort(
        "subject_id", "time", maintain_order=True
    )


def times(subjects: int, shards: int, pythons: dict[str, str]) -> None:
    """Print rows, seconds and peak memory of both programs for every task file under tests/ that is ACES's own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"shard_{i}.parquet") for i in range(shards)]
        for i, file in enumerate(files):
            simulated_shard(range(i * subjects // shards, (i + 1) * subjects // shards), seed=i).write_parquet(file)
        events = pl.scan_parquet(files).select(pl.len()).collect().item()
        print(f"{subjects} simulated subjects, {events} events, {shards} shards read one after the other")
        print(f"{'task':32}{'rows':>9}{'same':>6}{'ACES s':>9}{'careloop s':>12}{'ACES MiB':>10}{'careloop MiB':>14}")
        for task in sorted(TASKS.glob("[!o]*.yaml")):
            spent = run_both([(task, files)], Path(folder), pythons)
            theirs, ours = (pl.read_parquet(f"{folder}/{program}_0.parquet") for program in ("aces", "careloop"))
            a, c = spent["aces"], spent["careloop"]
            print(
                f"{task.stem:32}{ours.height:9}{'yes' if ours.equals(theirs) else 'NO':>6}{a['seconds']:9.1f}"
                f"{c['seconds']:12.1f}{a['mib']:10.0f}{c['mib']:14.0f}",
                flush=True,
            )


def main() -> None:
    """Read the arguments; do one program's jobs, or both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python_with_aces", nargs="?")
    parser.add_argument("--random", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.run[0], Path(given.run[1]))
        return
    if not given.python_with_aces:
        parser.error("give the python of an environment with es-aces")
    pythons = {"careloop": sys.executable, "aces": given.python_with_aces}
    if given.random:
        agreement(given.random, given.seed, pythons)
    if given.subjects:
        times(given.subjects, given.shards, pythons)


if __name__ == "__main__":
    main()
