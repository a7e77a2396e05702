"""Read FHIR Observations (Bulk Data NDJSON) into a record: rows/s and peak memory beside named peers in the same run.

    python benchmarks/fhir_observations.py                      1 million Observations, 5,000 patients
    python benchmarks/fhir_observations.py --observations 100000

Every measurement runs in its own process, so that CPU time and peak memory are its own. The Observations are
simulated: 20 laboratory and vital sign codes, categories, encounters and performers as servers export them, results
known hours after they were taken. fhir.resources (pydantic models of the whole standard) reads only the first 20,000
of them, and makes no events; plain duckdb takes the same columns into one parquet file, which it neither checks nor
sorts, and without sources, withdrawals or versions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from careloop.ingest.fhir import fhir_sources

PATIENTS = 5_000
SAMPLE = 20_000  # Observations for fhir.resources, which takes minutes for a million
Figures = dict[str, float]
# LOINC code, display, UCUM unit, mean, spread, decimals
KINDS = (
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 1.1, 0.5, 2),
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 139, 4, 0),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 4.1, 0.5, 1),
    ("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 103, 4, 0),
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 110, 35, 0),
    ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 17, 8, 0),
    ("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 28, 20, 0),
    ("1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 27, 18, 0),
    ("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma", "mg/dL", 0.8, 0.5, 1),
    ("1751-7", "Albumin [Mass/volume] in Serum or Plasma", "g/dL", 4.1, 0.5, 1),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 13.4, 1.9, 1),
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 7.4, 2.6, 1),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 240, 75, 0),
    ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 6.1, 1.2, 1),
    ("2089-1", "Cholesterol in LDL [Mass/volume] in Serum or Plasma", "mg/dL", 115, 34, 0),
    ("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "mg/L", 9, 14, 1),
    ("8867-4", "Heart rate", "/min", 78, 14, 0),
    ("8310-5", "Body temperature", "Cel", 36.8, 0.5, 1),
    ("29463-7", "Body weight", "kg", 78, 17, 1),
    ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", 97, 2, 0),
)
COLUMNS = """
    SELECT subject.reference AS subject, CAST(effectiveDateTime AS TIMESTAMPTZ) AS time,
           CAST(issued AS TIMESTAMPTZ) AS known_time, code.coding[1].system || '//' || code.coding[1].code AS code,
           CAST(valueQuantity.value AS FLOAT) AS numeric_value, valueQuantity.code AS unit, id AS source
    FROM read_json('{file}', format='newline_delimited', columns={{
        id: 'VARCHAR', subject: 'STRUCT(reference VARCHAR)', effectiveDateTime: 'VARCHAR', issued: 'VARCHAR',
        code: 'STRUCT(coding STRUCT(system VARCHAR, code VARCHAR)[])',
        valueQuantity: 'STRUCT("value" DOUBLE, code VARCHAR)'}})
"""


def write_simulated(file: Path, rows: int) -> None:
    """Write simulated Observations, one a line."""
    draw = random.Random(0)
    start = datetime(2015, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    with file.open("w", encoding="utf-8") as lines:
        for number in range(rows):
            taken = start + timedelta(seconds=draw.randrange(10 * 365 * 86_400))
            lines.write(json.dumps(observation(number, taken, draw), separators=(",", ":")) + "\n")


def observation(number: int, taken: datetime, draw: random.Random) -> dict[str, object]:
    """One laboratory result or vital sign."""
    code, display, unit, mean, spread, decimals = draw.choice(KINDS)
    known = taken + timedelta(milliseconds=draw.randrange(600_000, 8 * 3_600_000))
    vital = code in {"8867-4", "8310-5", "29463-7", "59408-5"}
    category = "vital-signs" if vital else "laboratory"
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": f"{number:08x}-7c1e-4e0b-9d55-{draw.getrandbits(48):012x}",
        "meta": {
            "versionId": "1",
            "lastUpdated": known.isoformat(timespec="milliseconds"),
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"],
        },
        "status": "final",
        "category": [{"coding": [{"system": system, "code": category, "display": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display},
        "subject": {"reference": f"Patient/{draw.randrange(PATIENTS):06}"},
        "encounter": {"reference": f"Encounter/{number // 12:08}"},
        "effectiveDateTime": taken.isoformat(),
        "issued": known.isoformat(timespec="milliseconds"),
        "valueQuantity": {
            "value": round(max(mean / 10, draw.gauss(mean, spread)), decimals),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def read_only(file: Path, rows: int) -> Figures:
    """careloop: read to events, not stored."""
    events = sum(batch.events.height for source in fhir_sources(file) for batch in source.read())
    assert events == rows
    return {"rows": rows}


def whole_ingest(file: Path, rows: int) -> Figures:
    """careloop: ingest, to committed events."""
    from careloop.ingest import load
    from careloop.record import Record

    loaded = load(Record.create(file.parent / "record"), fhir_sources(file))
    assert loaded.counts.rows_kept == rows
    return {"rows": rows}


def plain_duckdb(file: Path, rows: int) -> Figures:
    """duckdb: read_json, COPY to parquet."""
    import duckdb

    out = file.parent / "plain.parquet"
    duckdb.sql(f"COPY ({COLUMNS.format(file=file)}) TO '{out}' (FORMAT parquet)")
    assert pl.scan_parquet(out).select(pl.len()).collect().item() == rows
    return {"rows": rows}


def fhir_resources(file: Path, rows: int) -> Figures:
    """fhir.resources: validate a sample."""
    from fhir.resources.R4B.observation import Observation  # type: ignore[import-not-found,import-untyped]

    with file.open("rb") as lines:
        read = sum(1 for _, line in zip(range(SAMPLE), lines, strict=False) if Observation.model_validate_json(line))
    return {"rows": read}


STEPS: list[tuple[Callable[[Path, int], Figures], str]] = [
    (whole_ingest, "careloop"),
    (read_only, "careloop"),
    (plain_duckdb, "duckdb"),
    (fhir_resources, "fhir"),
]


def is_there(module: str) -> bool:
    """True where a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def measured(step: Callable[[Path, int], Figures], file: Path, rows: int) -> Figures:
    """Run `step`; imports count in the CPU time of its process and not in the rate."""
    start = time.perf_counter()
    figures = step(file, rows)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "s": seconds,
        "rows/s": figures["rows"] / seconds,
        "CPU s": usage.ru_utime + usage.ru_stime,
        "peak MB": usage.ru_maxrss / 1024,
    }


def main() -> int:
    """Print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=1_000_000)
    rows = parser.parse_args().observations
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "Observation.ndjson"
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            pool.apply(write_simulated, (file, rows))
            size = file.stat().st_size / 1e6
            print(f"{rows:,} simulated Observations, {size:,.0f} MB, {pl.thread_pool_size()} threads")
            for step, module in STEPS:
                title = str(step.__doc__).rstrip(".")
                if not is_there(module):
                    print(f"{title:40} not installed: {module}")
                    continue
                figures = pool.apply(measured, (step, file, rows))
                print(f"{title:40}" + "".join(f"{value:12,.1f} {unit}" for unit, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
