"""The commands about treatment as typed: plan documents, safety of drugs, decisions, and the page of outcomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.plan.decisions import recorded_decisions
from careloop.record import Record

Careloop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def patient(actg175: Any) -> dict[str, Any]:
    """A held-out patient's prediction."""
    return pl.read_parquet(actg175.run / "predictions.parquet").row(0, named=True)


def test_one_patients_plan_as_page_and_fhir(
    careloop: Careloop, actg175: Any, patient: dict[str, Any], tmp_path: Path
) -> None:
    page, bundle, subject = tmp_path / "plan.html", tmp_path / "plan.json", patient["subject_id"]
    code, out, _ = careloop("plan", actg175.run, "--subject", subject, "--page", page, "--fhir", bundle)
    assert code == 0
    assert f"Wrote {page}" in out
    text = page.read_text(encoding="utf-8")
    assert "Not for clinical use" in text
    assert f"{patient['model_version']}" in text
    kinds = [entry["resource"]["resourceType"] for entry in json.loads(bundle.read_text())["entry"]]
    assert {"RiskAssessment", "CarePlan"} <= set(kinds)
    careloop("plan", actg175.run, "--subject", subject, "--page", page, "--language", "zh")
    assert "仅供研究" in page.read_text(encoding="utf-8")


def test_documents_go_with_one_subject_that_the_run_predicted_for(
    careloop: Careloop, actg175: Any, patient: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    assert careloop("plan", actg175.run, "--page", page)[0] == 2
    cohort = pl.read_parquet(actg175.run / "cohort.parquet")
    trained = cohort.filter(pl.col("split") == "train")["subject_id"][0]
    code, _, told = careloop("plan", actg175.run, "--subject", trained, "--page", page)
    assert code == 1
    assert f"no prediction of subject {trained}" in told
    code, _, told = careloop(
        "plan", actg175.run, "--subject", patient["subject_id"], "--at", "2001-01-01", "--page", page
    )
    assert code == 1
    assert "has no prediction at 2001-01-01" in told
    assert not page.exists()


@pytest.fixture
def allergic(tmp_path: Path) -> Path:
    """A record of one simulated man of 60 with a penicillin allergy, normal creatinine and a statin."""
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    rows = [
        {"subject_id": 7, "time": datetime(1964, 1, 1, tzinfo=UTC), "code": "MEDS_BIRTH"},
        {"subject_id": 7, "time": None, "code": "GENDER//M"},
        {"subject_id": 7, "time": moment, "code": "ALLERGY//RXNORM//7980"},
        {"subject_id": 7, "time": moment, "code": "LOINC//2160-0", "numeric_value": 0.9, "unit": "mg/dL"},
        {"subject_id": 7, "time": moment, "code": "RXNORM//36567"},
        {"subject_id": 7, "time": moment, "code": "PGX//CYP2C19//DIPLOTYPE", "text_value": "*2/*2"},
    ]
    Record.create(tmp_path / "record", shards=1).append(pl.DataFrame(rows, infer_schema_length=None), key="facts")
    return tmp_path / "record"


def test_safety_of_drugs(careloop: Careloop, allergic: Path) -> None:
    drugs = ["--drug", "amoxicillin", "--drug", "clarithromycin", "--drug", "voriconazole", "--drug", "no such drug"]
    code, out, _ = careloop("safety", "--record", allergic, "--subject", 7, *drugs, "--json")
    assert code == 0
    found = json.loads(out)
    severities = {drug: [f["severity"] for f in each] for drug, each in found["findings"].items()}
    assert "block" in severities["clarithromycin"]  # with simvastatin
    kinds = {f["kind"] for f in found["findings"]["voriconazole"]}
    assert "pharmacogenomics" in kinds
    assert severities["no such drug"]  # never passed over
    assert "block" in severities["amoxicillin"]
    (refused,) = (f for f in found["findings"]["amoxicillin"] if f["severity"] == "block")
    assert refused["facts"] == ["allergy: penicillin g (7980)"]
    text = careloop("safety", "--record", allergic, "--subject", 7, "--drug", "metformin", "--at", "2024-12-31")[1]
    assert "ASK FIRST" in text  # the creatinine is too old by then
    assert "renal function" in text


def test_a_decision_is_recorded_and_a_wrong_one_told(
    careloop: Careloop, actg175: Any, patient: dict[str, Any], tmp_path: Path
) -> None:
    path = shutil.copytree(actg175.record.path, tmp_path / "record")
    at = f"{patient['prediction_time']:%Y-%m-%dT%H:%M:%S}"
    said = ["--record", path, "--plan", "actg175", "--subject", patient["subject_id"], "--at", at]
    code, out, _ = careloop(
        "decide", "change", *said, "--chosen", "didanosine", "--reason", "patient's wish", "--actor", "Dr. A", "--json"
    )
    assert code == 0
    assert json.loads(out)["action"] == "change"
    own = recorded_decisions(Record.open(path), plan="actg175").filter(pl.col("subject_id") == patient["subject_id"])
    assert own.select("action", "chosen", "reason", "actor").row(0) == (
        "change",
        "didanosine",
        "patient's wish",
        "Dr. A",
    )
    code, _, told = careloop("decide", "change", *said, "--chosen", "aspirin", "--reason", "why")
    assert code == 1
    assert "options are" in told


def test_outcome_judges_plan_and_months_and_draws_them(careloop: Careloop, actg175: Any, tmp_path: Path) -> None:
    page = tmp_path / "outcome.html"
    code, out, _ = careloop("outcome", actg175.run, "--record", actg175.record.path, "--page", page, "--json")
    assert code == 0
    found = json.loads(out)
    assert {effect["verdict"] for effect in found["effects"]} <= {"borne out", "not borne out", "cannot tell yet"}
    assert len(found["effects"]) == 6  # three options against zidovudine, two goals
    assert "nothing to follow" in found["followed"][0]["words"]  # the plan recommends no single option here
    months = found["following"]["months"][0]["months"]
    assert sum(month["rows"] for month in months) == found["predictions"][0]["rows"]
    assert page.read_text(encoding="utf-8").count("<svg") >= 2


def test_outcome_tells_silent_predictions_and_the_risk_had_nobody_acted(
    careloop: Careloop, actg175: Any, tmp_path: Path
) -> None:
    """Didanosine counts as what is done about a high risk: those given it leave the risk without it."""
    path = shutil.copytree(actg175.record.path, tmp_path / "record")
    package = actg175.run / "models" / "logistic_regression"
    at = ["--at", "1992-02-01"]
    subject = pl.read_parquet(actg175.run / "predictions.parquet")["subject_id"][0]
    told = careloop("predict", package, "--record", path, "--subject", subject, *at, "--silent")
    assert told[0] == 2  # only what is written back can be silent
    assert careloop("predict", package, "--record", path, "--subject", subject, *at, "--write-back", "--silent")[0] == 0
    code, out, _ = careloop("outcome", actg175.run, "--record", path, "--acted", "ACTG175//ARM//didanosine", "--json")
    assert code == 0
    found = json.loads(out)
    (silent,) = found["silent"]
    assert silent["model"] == "logistic_regression"
    assert (silent["silent"]["rows"], silent["shown"]["rows"]) == (1, found["predictions"][2]["rows"] - 1)
    untreated = found["untreated"]
    assert 50 < untreated["acted"] < untreated["rows"] / 2
    assert untreated["untreated"]["observed_expected"]["value"] > 0
    code, _, wrong = careloop("outcome", actg175.run, "--record", path, "--acted", "NO//SUCH")
    assert code == 1
    assert "nobody acted" in wrong
