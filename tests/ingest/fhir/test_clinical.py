"""Diagnoses, procedures, vaccinations, allergies, reports, images and the like: what each must become (made up)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]
LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CIRRHOSIS = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "K74.60", "display": "Cirrhosis"}]}
NOON, LATER = "2020-01-01T12:00:00", "2020-01-03T09:00:00"


def about(kind: str, **elements: Any) -> dict[str, Any]:
    given = {"resourceType": kind, "id": "x1", "subject": {"reference": "Patient/p1"}}
    return given | elements


def verified(status: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": status}]}


def test_a_diagnosis_is_known_when_recorded(read: Read) -> None:
    result = read(
        about(
            "Condition",
            code=CIRRHOSIS,
            verificationStatus=verified("confirmed"),
            onsetDateTime="2019-05",
            recordedDate=LATER + "Z",
            abatementDateTime="2021-02-03",
        )
    )
    assert result.times() == [
        ("ICD10CM//K74.60", "2019-05-01T00:00:00", LATER),
        # It was recorded before it was over, and nobody knew then that it would be.
        ("RESOLVED//ICD10CM//K74.60", "2021-02-03T00:00:00", "2021-02-03T23:59:59"),
    ]
    assert result.codes == {"ICD10CM//K74.60": "Cirrhosis"}


@pytest.mark.parametrize(
    ("elements", "time", "known"),
    [
        ({"recordedDate": "2020-01-03"}, "2020-01-03T00:00:00", "2020-01-03T23:59:59"),
        ({"onsetPeriod": {"start": "2018", "end": "2019"}}, "2018-01-01T00:00:00", "2018-12-31T23:59:59"),
        ({"onsetDateTime": "2024-02"}, "2024-02-01T00:00:00", "2024-02-29T23:59:59"),
        ({"onsetAge": {"value": 52}, "recordedDate": NOON + "+02:00"}, "2020-01-01T10:00:00", "2020-01-01T10:00:00"),
        ({"onsetString": "long ago", "meta": {"lastUpdated": NOON + "Z"}}, NOON, NOON),
        ({"onsetDateTime": "2020-01", "abatementDateTime": "9999-12-31"}, "2020-01-01T00:00:00", "2020-01-31T23:59:59"),
    ],
)
def test_from_when_on_a_diagnosis_counts(read: Read, elements: dict[str, Any], time: str, known: str) -> None:
    assert read(about("Condition", code=CIRRHOSIS, **elements)).times() == [("ICD10CM//K74.60", time, known)]


@pytest.mark.parametrize("status", ["unconfirmed", "provisional", "differential", "confirmed"])
def test_a_suspected_diagnosis_says_so(read: Read, status: str) -> None:
    condition = about("Condition", code=CIRRHOSIS, verificationStatus=verified(status), recordedDate=LATER)
    assert read(condition).rows("text_value") == [(None if status == "confirmed" else status,)]


@pytest.mark.parametrize("status", ["refuted", "entered-in-error"])
@pytest.mark.parametrize("kind", ["Condition", "AllergyIntolerance"])
def test_what_was_refuted_or_entered_in_error_is_withdrawn(read: Read, kind: str, status: str) -> None:
    result = read(about(kind, code=CIRRHOSIS, verificationStatus=verified(status), recordedDate=LATER))
    assert (result.events.height, result.rows_kept) == (0, 1)
    assert [source for source, _ in result.withdrawn] == [f"FHIR//fhir//{kind}/x1"]


def test_conditions_without_code_or_time(read: Read) -> None:
    assert read(about("Condition", recordedDate=LATER)).skipped == {"Condition: no code": 1}
    result = read(about("Condition", code=CIRRHOSIS, onsetAge={"value": 52}))
    # An earlier version may have had a date.
    assert (result.skipped, len(result.withdrawn)) == ({"Condition: no time": 1}, 1)


@pytest.mark.parametrize("name", ["performed", "occurrence"])  # R4, R5
def test_a_procedure_is_known_when_it_is_over(read: Read, name: str) -> None:
    code = {"coding": [{"system": SNOMED, "code": "80146002"}], "text": "Appendectomy"}
    took = {f"{name}Period": {"start": NOON + "Z", "end": "2020-01-01T13:30:00Z"}}
    result = read(about("Procedure", status="completed", code=code, **took))
    assert result.times() == [("SNOMED//80146002", NOON, "2020-01-01T13:30:00")]
    at = {f"{name}DateTime": NOON + "Z"}
    assert read(about("Procedure", status="completed", code=code, **at)).times() == [("SNOMED//80146002", NOON, NOON)]
    assert read(about("Procedure", status="not-done", code=code, **at)).skipped == {"Procedure: not-done": 1}
    assert len(read(about("Procedure", status="entered-in-error", code=code, **at)).withdrawn) == 1


def test_vaccinations_given_and_not_given(read: Read) -> None:
    given = {
        "resourceType": "Immunization",
        "id": "i1",
        "status": "completed",
        "patient": {"reference": "Patient/p1"},
        "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "140"}]},
        "occurrenceDateTime": "2020-10-01",
        "recorded": LATER.replace("01-03", "10-05"),
        "doseQuantity": {"value": 0.5, "unit": "ml", "system": "http://unitsofmeasure.org", "code": "mL"},
    }
    result = read(given)
    assert result.times() == [("CVX//140", "2020-10-01T00:00:00", "2020-10-05T09:00:00")]
    assert result.rows() == [("CVX//140", 0.5, "mL", None)]
    assert read(given | {"status": "not-done"}).skipped == {"Immunization: not-done": 1}
    told = {name: value for name, value in given.items() if name not in {"occurrenceDateTime", "recorded"}}
    assert read(told | {"occurrenceString": "as a child"}).skipped == {"Immunization: no time": 1}


def test_allergies_never_read_as_the_drug_itself(read: Read) -> None:
    penicillin = {"coding": [{"system": RXNORM, "code": "7980", "display": "Penicillin G"}]}
    none = {"coding": [{"system": SNOMED, "code": "716186003", "display": "No known allergy"}]}
    result = read(
        about("AllergyIntolerance", code=penicillin, recordedDate=LATER),
        about("AllergyIntolerance", id="x2", code=none, onsetDateTime="2001", recordedDate=LATER),
        about("AllergyIntolerance", id="x3", reaction=[{"substance": penicillin}], recordedDate=LATER),
    )
    assert result.times() == [
        ("ALLERGY//RXNORM//7980", LATER, LATER),
        ("ALLERGY//SNOMED//716186003", "2001-01-01T00:00:00", LATER),
        ("ALLERGY//RXNORM//7980", LATER, LATER),
    ]
    assert result.codes["ALLERGY//RXNORM//7980"] == "allergy: Penicillin G"


def test_a_report_is_known_when_issued(read: Read) -> None:
    code = {"coding": [{"system": LOINC, "code": "18842-5", "display": "Discharge summary"}]}
    typed = {"contentType": "text/plain; charset=utf-8", "data": base64.b64encode("Grün".encode()).decode()}
    scanned = {"contentType": "application/pdf", "data": "!", "url": "http://hospital.example/Binary/7"}
    report = about("DiagnosticReport", status="final", code=code, effectiveDateTime=NOON + "Z", issued=LATER + "Z")
    result = read(report | {"presentedForm": [scanned, typed]})
    assert result.times() == [("REPORT//LOINC//18842-5", NOON, LATER)]
    assert result.rows("text_value", "asset") == [("Grün", "http://hospital.example/Binary/7")]
    concluded = report | {"conclusionCode": [{"text": "one"}, {"coding": [{"display": "two", "code": "2"}]}]}
    assert read(concluded).rows("text_value") == [("one; two",)]
    assert read(concluded | {"conclusion": "Normal."}).rows("text_value") == [("Normal.",)]
    broken = report | {"presentedForm": [{"contentType": "text/plain", "data": "%%%"}]}
    assert read(broken).rows("text_value") == [(None,)]
    assert read(report | {"status": "registered"}).skipped == {"DiagnosticReport: registered": 1}
    assert len(read(report | {"status": "cancelled"}).withdrawn) == 1


@pytest.mark.parametrize(
    "modality",
    [
        {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"},  # R4
        {"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}]},  # R5
    ],
)
def test_images_are_named_as_the_dicom_reader_names_them(read: Read, modality: dict[str, Any]) -> None:
    study = about(
        "ImagingStudy",
        status="available",
        identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:2.16.124.113543"}],
        started=NOON + "Z",
        modality=[modality],
    )
    series = {"uid": "2.16.124.113543.1", "modality": modality, "started": LATER + "Z"}
    result = read(study | {"series": [series, {"uid": "2.16.124.113543.2", "modality": modality}]})
    assert result.times() == [("IMAGING//CT", LATER, LATER), ("IMAGING//CT", NOON, NOON)]
    assert result.rows("asset") == [
        ("dicom:study/2.16.124.113543/series/2.16.124.113543.1",),
        ("dicom:study/2.16.124.113543/series/2.16.124.113543.2",),
    ]
    assert read(study).rows("code", "asset") == [("IMAGING//CT", "dicom:study/2.16.124.113543")]
    assert read(study | {"modality": []}).skipped == {"ImagingStudy: no modality": 1}


def test_documents_specimens_and_sequences(read: Read) -> None:
    text = base64.b64encode(b"All well").decode()
    note = {"attachment": {"contentType": "text/plain", "data": text, "url": "Binary/8"}}
    document = about(
        "DocumentReference",
        status="current",
        type={"coding": [{"system": LOINC, "code": "34108-1"}]},
        date=NOON + "Z",
        content=[note],
    )
    assert read(document).rows("code", "text_value", "asset") == [("DOCUMENT//LOINC//34108-1", "All well", "Binary/8")]
    assert len(read(document | {"status": "entered-in-error"}).withdrawn) == 1
    assert len(read(document | {"docStatus": "entered-in-error"}).withdrawn) == 1

    blood = {"coding": [{"system": SNOMED, "code": "119297000"}]}
    taken = {"collectedPeriod": {"start": NOON + "Z", "end": "2020-01-01T12:05:00Z"}}
    specimen = about("Specimen", status="available", type=blood, collection=taken, receivedTime=LATER + "Z")
    assert read(specimen).times() == [("SPECIMEN//SNOMED//119297000", NOON, "2020-01-01T12:05:00")]
    assert read(specimen | {"collection": {}}).times() == [("SPECIMEN//SNOMED//119297000", LATER, LATER)]

    sequence = {"resourceType": "MolecularSequence", "id": "m1", "patient": {"reference": "Patient/p1"}, "type": "dna"}
    place = {"type": "openapi", "url": "http://genomes.example/m1"}
    kept = {"repository": [place], "meta": {"lastUpdated": LATER + "Z"}}
    assert read(sequence | kept).rows("code", "asset") == [("SEQUENCE//dna", "http://genomes.example/m1")]
    # Without any date nobody can say from when on it was known.
    assert read(sequence).skipped == {"MolecularSequence: no time": 1}
