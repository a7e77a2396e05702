"""What the FHIR and HL7 v2 readers write is what safety reads: from files to findings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.ingest import ingest_paths
from careloop.plan.safety import Finding, OptionDrug, SafetySection, safety_findings
from careloop.record import Record

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RXNORM, SNOMED, LOINC = "http://www.nlm.nih.gov/research/umls/rxnorm", "http://snomed.info/sct", "http://loinc.org"
WHO = {"reference": "Patient/p"}


def coded(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


PATIENT = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1990-05-05"}
CREATININE = {
    "resourceType": "Observation", "id": "o", "status": "final", "subject": WHO, "code": coded(LOINC, "2160-0", "Crea"),
    "effectiveDateTime": "2026-05-01T08:00:00Z",
    "valueQuantity": {"value": 300, "unit": "umol/L", "system": "http://unitsofmeasure.org", "code": "umol/L"},
}  # fmt: skip
WARFARIN = {
    "resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", "subject": WHO,
    "authoredOn": "2026-05-10T08:00:00Z",
    "medicationCodeableConcept": coded(RXNORM, "855332", "warfarin sodium 5 MG Oral Tablet"),
}  # fmt: skip


def allergy(code: dict[str, Any], status: str = "confirmed", clinical: str = "active") -> dict[str, Any]:
    return {
        "resourceType": "AllergyIntolerance", "id": "a", "patient": WHO, "code": code,
        "verificationStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "code": status}
            ]
        },
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": clinical}
            ]
        },
        "recordedDate": "2020-01-01T00:00:00Z",
    }  # fmt: skip


def found(record: Record, drug: str) -> list[Finding]:
    keys = pl.DataFrame(
        {"subject_id": [record.events().select("subject_id").first().collect().item()], "prediction_time": [NOW]},
        schema={"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us", "UTC")},
    )
    section = SafetySection(options={"option": (OptionDrug(ingredient=drug),)})
    findings = safety_findings(record.events(), keys, section, codes=record.code_metadata())
    return next(iter(findings.values()))["option"]


@pytest.fixture
def fhir(tmp_path: Path) -> Any:
    def make(*resources: dict[str, Any]) -> Record:
        (tmp_path / "data.ndjson").write_text("\n".join(map(json.dumps, (PATIENT, *resources))))
        ingest_paths("fhir", [tmp_path / "data.ndjson"], tmp_path / "record")
        return Record.open(tmp_path / "record")

    return make


def test_fhir_to_findings(fhir: Any) -> None:
    record = fhir(CREATININE, WARFARIN, allergy(coded(RXNORM, "723", "amoxicillin")))
    by_drug = {
        drug: {f.rule: f.severity for f in found(record, drug)} for drug in ("amoxicillin", "metformin", "aspirin")
    }
    assert by_drug["amoxicillin"]["allergy-same-ingredient"] == "block"
    assert by_drug["metformin"] == {"metformin-egfr-30": "block"}
    assert by_drug["aspirin"]["anticoagulant-nsaid"] == "caution"


@pytest.mark.parametrize("clinical", ["inactive", "resolved"])
def test_an_allergy_that_is_over_blocks_nothing_and_is_an_answer(fhir: Any, clinical: str) -> None:
    record = fhir(CREATININE, allergy(coded(RXNORM, "723", "amoxicillin"), clinical=clinical))
    assert not [f for f in found(record, "amoxicillin") if f.kind == "allergy"]


def test_a_refuted_allergy_leaves_the_list_unrecorded(fhir: Any) -> None:
    """The reader drops what was refuted, so that nobody can tell it from an allergy never asked about: ask again."""
    record = fhir(allergy(coded(RXNORM, "723", "amoxicillin"), "refuted"))
    assert [(f.severity, "allergies" in f.text) for f in found(record, "amoxicillin")] == [("ask", True)]


def test_no_known_allergy_in_fhir(fhir: Any) -> None:
    assert found(fhir(allergy(coded(SNOMED, "716186003", "No known allergy"))), "amoxicillin") == []


def test_hl7_allergies(tmp_path: Path) -> None:
    message = "\r".join(
        [
            "MSH|^~\\&|A|B|C|D|20260101000000||ADT^A01|1|P|2.5",
            "PID|1||77^^^H^MR||Doe^J||19600101|M",
            "PV1|1|I",
            "AL1|1|DA|7980^Penicillin G^RXNORM|SV|Anaphylaxis|20200101",
        ]
    )
    (tmp_path / "adt.hl7").write_text(message)
    ingest_paths("hl7v2", [tmp_path / "adt.hl7"], tmp_path / "record")
    findings = found(Record.open(tmp_path / "record"), "amoxicillin")
    assert [(f.rule, f.severity) for f in findings] == [("allergy-penicillins", "block")]
    assert findings[0].facts == ("allergy: Penicillin G (Anaphylaxis)",)
