"""The data commands as typed: ingest every format, check, clean, de-identify; one JSON object, exit codes, one line."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.cli.data import FORMATS as OFFERED
from careloop.ingest import FORMATS
from careloop.record import Record

START = datetime(2020, 1, 1, tzinfo=UTC)
LABS = """patient;birth date;sex;taken on;analyte;value;unit
P1;06.05.1960;F;31.01.2024 08:30;2160-0;1,1;mg/dL
P1;06.05.1960;F;01.02.2024 08:30;2160-0;1,3;mg/dL
P2;17.11.1955;M;31.01.2024 09:00;2951-2;139;mmol/L
P2;17.11.1955;M;31.01.2024 09:00;2951-2;not a number;mmol/L
"""


def run(*arguments: object, code: int = 0) -> str:
    """Run the command line in its own process; standard output."""
    command = [sys.executable, "-c", "from careloop.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code != 1 or done.stdout else done.stderr


def as_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json", code=code))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of 60 simulated patients: sodium twenty times each, of which a few values are 999."""
    rows: list[dict[str, Any]] = []
    for subject in range(60):
        birth = START - timedelta(days=365 * (30 + subject % 40))
        rows.append({"subject_id": subject, "time": birth, "code": "MEDS_BIRTH"})
        rows.append({"subject_id": subject, "time": None, "code": f"GENDER//{'F' if subject % 2 else 'M'}"})
        for day in range(20):
            time = START + timedelta(days=30 * day, hours=7, minutes=subject)
            value = 999.0 if (subject * 20 + day) % 97 == 0 else 140 + (subject * 7 + day * 3) % 9 - 4
            rows.append(
                {"subject_id": subject, "time": time, "known_time": time + timedelta(hours=2), "code": "LOINC//2951-2",
                 "numeric_value": value, "unit": "mmol/L", "source": f"CSV//labs//{subject}/{day}"}
            )  # fmt: skip
    folder = tmp_path_factory.mktemp("measured") / "record"
    Record.create(folder, shards=2).append(pl.DataFrame(rows, infer_schema_length=None), key="simulated")
    return folder


def test_the_command_offers_every_format() -> None:
    assert set(OFFERED) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_path_that_is_not_there_is_one_line_in_every_format(name: str, tmp_path: Path) -> None:
    more = ("--mapping", tmp_path / "none.yaml") if name == "csv" else ()
    told = run("ingest", name, tmp_path / "nothing", "--record", tmp_path / "record", *more, code=1)
    assert told.startswith("careloop: ")
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "record").exists()


def test_own_files_go_in_by_a_suggested_mapping(tmp_path: Path) -> None:
    labs, mapping, record = tmp_path / "labs.csv", tmp_path / "mapping.yaml", tmp_path / "record"
    labs.write_text(LABS, encoding="cp1252")
    suggested = as_json("ingest", "csv", labs, "--suggest", "--mapping", mapping)
    assert suggested["mapping"] == str(mapping)
    assert suggested["check"], "what is guessed is for a person to check"
    assert "exists already" in run("ingest", "csv", labs, "--suggest", "--mapping", mapping, code=1)
    summary = as_json("ingest", "csv", labs, "--mapping", mapping, "--record", record)
    assert set(summary) >= {"rows_read", "rows_kept", "rows_rejected", "reasons", "events_added", "record_version"}
    assert (summary["rows_read"], summary["rows_rejected"]) == (8, 0)  # a table of results and one of people
    events = Record.open(record).events().collect()
    creatinine = events.filter(pl.col("code").str.contains("2160-0")).sort("time")
    assert creatinine["numeric_value"].to_list() == pytest.approx([1.1, 1.3])
    assert creatinine["time"].to_list() == [
        datetime(2024, 1, 31, 8, 30, tzinfo=UTC),
        datetime(2024, 2, 1, 8, 30, tzinfo=UTC),
    ]
    assert events.filter(code="MEDS_BIRTH").height == 2
    again = as_json("ingest", "csv", labs, "--mapping", mapping, "--record", record)
    assert (again["events_added"], again["record_version"]) == (0, summary["record_version"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ingest", "csv", "labs.csv", "--record", "r"), "csv needs --mapping FILE"),
        (("ingest", "fhir", "x.json", "--suggest"), "--suggest goes with csv"),
        (("ingest", "fhir", "x.json"), "Missing option '--record'"),
        (("check",), "Missing option '--record'"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], told: str) -> None:
    command = [sys.executable, "-c", "from careloop.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr


def test_check_prints_and_writes_what_is_wrong(measured: Path, tmp_path: Path) -> None:
    page = tmp_path / "quality.html"
    report = as_json("check", "--record", measured, "--out", page)
    status = {check["id"]: check["status"] for check in report["checks"]}
    assert (status["value_possible"], status["birth_present"]) == ("fail", "pass")
    assert report["not_for_clinical_use"] is True
    text = page.read_text(encoding="utf-8")
    assert "Research software. Not for clinical use." in text
    assert "CSV//labs//" in text, "for the hospital: with examples"
    run("check", "--record", measured, "--out", page, "--shared")
    assert "CSV//labs//" not in page.read_text(encoding="utf-8")
    assert "thresholds: no check nonsense" in run("check", "--record", measured, "--threshold", "nonsense=1", code=1)
    assert "must be CHECK=SHARE" in run("check", "--record", measured, "--threshold", "one_birth", code=1)


def test_clean_changes_nothing_dry_and_can_be_undone(measured: Path) -> None:
    before = Record.open(measured)
    found = as_json("clean", "--record", measured, "--dry-run")
    assert found["record_version"] == before.version
    planted = before.events().filter(numeric_value=999).collect().height
    assert sum(found["counts"]["impossible"].values()) == planted > 0
    cleaned = as_json("clean", "--record", measured)
    assert cleaned["counts"] == found["counts"]
    assert Record.open(measured).events().filter(numeric_value=999).collect().is_empty()
    assert as_json("clean", "--record", measured)["record_version"] == cleaned["record_version"]
    run("clean", "--record", measured, "--undo")
    order = before.events().collect().columns
    assert Record.open(measured).events().collect().sort(order).equals(before.events().collect().sort(order))
    assert "cleaning rules: unknown polish" in run("clean", "--record", measured, "--rule", "polish", code=1)


def test_a_record_without_identities_and_who_stands_alone_in_it(measured: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "shared", tmp_path / "key"
    summary = as_json("deidentify", "--record", measured, "--out", out, "--key", key)
    assert summary["subjects"] == 60
    assert not (out / "private").exists()
    shared, own = Record.open(out).events().collect(), Record.open(measured).events().collect()
    assert not set(shared["subject_id"]) & set(own["subject_id"])
    assert (out / "deidentification.txt").exists()
    report = as_json("anonymity", out, "--quasi", "GENDER//*", "-k", 5)
    assert (report["passed"], report["smallest_class"]) == (True, 30)
    alone = as_json("anonymity", out, "--quasi", "GENDER//*", "--quasi", "birth_year", "-k", 5, code=1)
    assert alone["passed"] is False
    settings = tmp_path / "settings.yaml"
    settings.write_text("smallest_group: 1\n")
    told = run("deidentify", "--record", measured, "--out", out, "--key", key, "--settings", settings, code=1)
    assert "settings.yaml: smallest_group: input should be greater than or equal to 2" in told


def test_dicom_files_without_identities(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    (tmp_path / "in").mkdir()
    file = Path(get_testdata_file("CT_small.dcm"))
    (tmp_path / "in" / "a.dcm").write_bytes(file.read_bytes())
    done = as_json("deidentify-dicom", tmp_path / "in", "--out", tmp_path / "out", "--key", tmp_path / "key")
    assert (done["files_read"], done["files_written"]) == (1, 1)
    written = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert str(written.PatientName) != str(pydicom.dcmread(file).PatientName)
    assert written.PatientIdentityRemoved == "YES"
