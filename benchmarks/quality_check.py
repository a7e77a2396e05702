"""Check the quality of a record of 10 million simulated events: time and peak memory beside a named peer, same run.

    python benchmarks/quality_check.py                                    careloop alone
    python benchmarks/quality_check.py --peer PYTHON_WITH_POINTBLANK      and pointblank beside it
    python benchmarks/quality_check.py --events 1000000

PYTHON_WITH_POINTBLANK is the python of an environment with pointblank and polars. It validates the same files by the
seven checks of the report that a table validator can state (one row at a time, and repeated rows), and the violations
found are printed beside careloop's, which asks all its other questions too. Each runs in a process of its own; seconds
(by the clock, and of all cores together) include reading the files, not starting Python; peak memory is that of the
process (Linux).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import polars as pl

SUBJECTS_PER_MILLION = 5_000
LABS = (  # code, unit, typical value
    ("LOINC//2345-7", "mg/dL", 100.0), ("LOINC//2160-0", "mg/dL", 1.0), ("LOINC//2823-3", "mmol/L", 4.2),
    ("LOINC//2951-2", "mmol/L", 140.0), ("LOINC//718-7", "g/dL", 13.5), ("LOINC//8480-6", "mm[Hg]", 125.0),
    ("LOINC//8867-4", "/min", 75.0), ("LOINC//29463-7", "kg", 78.0),
)  # fmt: skip
DIAGNOSES = ("ICD10CM//I10", "ICD10CM//E11.9", "ICD10CM//N18.3", "ICD10CM//J45.909")
OTHER_LABS = 400
# What is planted, as shares of the events.
NO_UNIT, EARLY, TWICE, WRONG_CODE, IMPOSSIBLE = 0.01, 0.002, 0.001, 0.0005, 0.0002
LIMITS = {"LOINC//2345-7": (0.1, 5000.0)}
SAME = ("subject_id", "time", "code", "numeric_value", "unit", "text_value", "asset")


def simulated(rows: int, seed: int) -> pl.DataFrame:
    """Laboratory values and diagnoses of ten years with planted faults."""
    import numpy as np

    from careloop.clean.checks.codes import loinc_digit
    from careloop.record import conform

    random = np.random.default_rng(seed)
    subjects = max(rows * SUBJECTS_PER_MILLION // 1_000_000, 100)
    numbers = [str(70_000 + i) for i in range(OTHER_LABS)]
    labs = [*LABS, *((f"LOINC//{n}-{loinc_digit(n)}", "ng/mL", 10.0 + i) for i, n in enumerate(numbers))]
    weight = np.array([30.0] * len(LABS) + [1.0] * OTHER_LABS)
    which = random.choice(len(labs), rows, p=weight / weight.sum())
    codes = pl.Series([code for code, *_ in labs])
    micros = random.integers(1_262_304_000, 1_577_836_800, rows) // 60 * 60_000_000
    value = np.array([typical for *_, typical in labs])[which] * np.exp(random.normal(0, 0.15, rows))
    frame = pl.DataFrame(
        {
            "subject_id": random.integers(0, subjects, rows) + seed * subjects,
            "time": micros,
            "known_time": micros + random.integers(600, 86_400, rows) * 1_000_000,
            "code": codes.gather(which),
            "numeric_value": value.astype(np.float32),
            "unit": pl.Series([unit for _, unit, _ in labs]).gather(which),
            "at": random.random(rows),
            "diagnosis": pl.Series(DIAGNOSES).gather(random.integers(0, len(DIAGNOSES), rows)),
        }
    ).with_row_index("n")
    bounds = np.cumsum([NO_UNIT, EARLY, WRONG_CODE, IMPOSSIBLE, 0.1])
    part = [
        pl.col("at") < bounds[0],
        *(pl.col("at").is_between(a, b, closed="left") for a, b in pairwise(bounds)),
    ]
    frame = frame.with_columns(
        unit=pl.when(part[0]).then(None).otherwise("unit"),
        known_time=pl.when(part[1]).then(pl.col("time") - 5 * 86_400_000_000).otherwise("known_time"),
        code=pl.when(part[2])
        .then(pl.lit("LOINC//2160-1"))
        .when(part[3])
        .then(pl.lit("LOINC//2345-7"))
        .otherwise("code"),
        numeric_value=pl.when(part[3])
        .then(pl.lit(9000.0, dtype=pl.Float32) + pl.col("n") % 7919)
        .otherwise("numeric_value"),
    )
    frame = frame.with_columns(
        code=pl.when(part[4]).then("diagnosis").otherwise("code"),
        numeric_value=pl.when(part[4]).then(None).otherwise("numeric_value"),
        unit=pl.when(part[3]).then(pl.lit("mg/dL")).when(part[4]).then(None).otherwise("unit"),
    )
    times = pl.col("time", "known_time").cast(pl.Datetime("us", "UTC"))
    source = pl.format("FHIR//Observation/{}-{}", pl.lit(seed), "n")
    events = frame.with_columns(times, source=source).drop("at", "n", "diagnosis")
    again = events.sample(fraction=TWICE, seed=seed).with_columns(source=pl.format("HL7V2//OBX//{}", pl.col("source")))
    people = pl.DataFrame({"subject_id": np.arange(subjects) + seed * subjects})
    birth = people.with_columns(
        time=pl.lit(micros.min()).cast(pl.Datetime("us", "UTC"))
        - pl.duration(days=pl.col("subject_id") % 20_000 + 8_000),
        code=pl.lit("MEDS_BIRTH"),
        source=pl.format("FHIR//Patient/{}", "subject_id"),
    )
    sex = people.select(
        "subject_id",
        pl.lit(None).cast(pl.Datetime("us", "UTC")).alias("time"),
        source=pl.format("FHIR//Patient/{}", "subject_id"),
        code=pl.when(pl.col("subject_id") % 2 == 0).then(pl.lit("GENDER//F")).otherwise(pl.lit("GENDER//M")),
    )
    return conform(pl.concat([events, again, birth, sex], how="diagonal"))


def build(folder: Path, rows: int) -> None:
    """Make the record, half a million events at a time."""
    from careloop.record import Record

    record, batch = Record.create(folder / "record"), 500_000
    for number, start in enumerate(range(0, rows, batch)):
        record = record.append(simulated(min(batch, rows - start), number), key=f"batch {number}")
    record.compact()


def run_careloop(folder: Path) -> dict[str, int]:
    """careloop: all checks."""
    from careloop.clean.check import check_record
    from careloop.record import Record

    report = check_record(Record.open(folder / "record"))
    found = {result.check.id: result for result in report.checks}
    names = {
        "source missing": "source_present", "unit missing": "unit_present", "code of a wrong form": "loinc_check_digit",
        "impossible value": "value_possible", "known early": "known_before_it_happened", "in the future": "in_future",
        "repeated": "duplicate_events",
    }  # fmt: skip
    return {name: found[check].violated for name, check in names.items()} | {"checks": len(report.checks)}


def run_pointblank(folder: Path) -> dict[str, int]:
    """pointblank: the seven that it can state."""
    import pointblank as pb

    files = sorted((folder / "record" / "events").glob("**/*.parquet"))
    events = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in newest(files)])
    low, high = LIMITS["LOINC//2345-7"]
    after = pl.datetime(2100, 1, 1, time_unit="us", time_zone="UTC")
    events = events.with_columns(
        known_early=pl.col("known_time") < pl.col("time"),
        future=pl.col("time") > after,
        repeats=pl.struct(SAME).is_duplicated() & ~pl.struct(SAME).is_first_distinct(),
    )
    numbers = pl.col("numeric_value").is_not_null()
    validation = (
        pb.Validate(events)
        .col_vals_not_null("source")
        .col_vals_not_null("unit", pre=lambda frame: frame.filter(numbers))
        .col_vals_regex(
            "code", r"^LOINC//(?!2160-1)\d{1,7}-\d$", pre=lambda f: f.filter(pl.col("code").str.starts_with("LOINC"))
        )
        .col_vals_between(
            "numeric_value", low, high, pre=lambda f: f.filter(pl.col("code").is_in(list(LIMITS)), numbers)
        )
        .col_vals_in_set("known_early", [False], pre=lambda f: f.filter(numbers))
        .col_vals_in_set("future", [False], pre=lambda f: f.filter(pl.col("time").is_not_null()))
        .col_vals_in_set("repeats", [False])
        .interrogate(collect_extracts=True, get_first_n=5)
    )
    names = (
        "source missing",
        "unit missing",
        "code of a wrong form",
        "impossible value",
        "known early",
        "in the future",
        "repeated",
    )
    return {name: validation.n_failed(i=i, scalar=True) for i, name in enumerate(names, 1)} | {"checks": len(names)}


def newest(files: list[Path]) -> list[Path]:
    """Compacted files replace the others."""
    compacted = [file for file in files if file.name.startswith("0" * 16)]
    return compacted or files


PROGRAMS = {"careloop": run_careloop, "pointblank": run_pointblank}


def measured(program: str, folder: Path) -> None:
    """Run one program and print its figures as JSON."""
    __import__({"careloop": "careloop.clean.check", "pointblank": "pointblank"}[program])
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    found = PROGRAMS[program](folder)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "CPU seconds": cpu, "peak MiB": peak, **found}))


def main() -> None:
    """Build the record and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--peer", help="python of an environment with pointblank")
    parser.add_argument("--record", type=Path, help="folder for the record, kept for the next run (default: temporary)")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, metavar=("PROGRAM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        return build(options.build, options.events)
    if options.run:
        return measured(options.run[0], Path(options.run[1]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.record or Path(temporary)
        if not (folder / "record").exists():
            # In a process of its own: what this one holds would count in the peak of those that it starts.
            command = [sys.executable, __file__, "--events", str(options.events), "--build", str(folder)]
            subprocess.run(command, check=True)
        pythons = {"careloop": sys.executable} | ({"pointblank": options.peer} if options.peer else {})
        figures = {
            name: json.loads(
                subprocess.run(
                    [python, __file__, "--run", name, str(folder)], check=True, capture_output=True, text=True
                ).stdout
            )
            for name, python in pythons.items()
        }
    print(f"{options.events:,} simulated events")
    print(f"{'':24}" + "".join(f"{name:>16}" for name in figures))
    for row in figures["careloop"]:
        print(
            f"{row:24}"
            + "".join(
                f"{figure[row]:>16,.1f}" if row in {"seconds", "CPU seconds", "peak MiB"} else f"{figure[row]:>16,}"
                for figure in figures.values()
            )
        )


if __name__ == "__main__":
    main()
