"""Drugs ordered, given, dispensed and reported, in R4's and R5's forms (all made up)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Read = Callable[..., Any]
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
METFORMIN = {"coding": [{"system": RXNORM, "code": "6809", "display": "Metformin"}]}
NOT_TAKING = {"code": {"coding": [{"code": "not-taking"}]}}
ONE_GRAM = {"value": 1, "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"}
DOSAGE = [{"text": "daily", "doseAndRate": [{"rateRatio": {}}, {"doseQuantity": ONE_GRAM}]}]
HELD = {"resourceType": "Medication", "id": "m", "code": METFORMIN}
FORMS = [
    {"medicationCodeableConcept": METFORMIN},
    {"medication": {"concept": METFORMIN}},
    {"medicationReference": {"reference": "#m"}, "contained": [{"resourceType": "Group", "id": "m"}, HELD]},
    {"medication": {"reference": {"reference": "#m"}}, "contained": [HELD]},
]
DAY = "2022-03-01T08:00:00"


def about(kind: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": "x1", "subject": {"reference": "Patient/p1"}} | elements


@pytest.mark.parametrize("form", FORMS)
def test_an_order(read: Read, form: dict[str, Any]) -> None:
    order = about(
        "MedicationRequest", status="active", intent="order", authoredOn=DAY + "Z", dosageInstruction=DOSAGE, **form
    )
    result = read(order)
    assert result.rows() == [("RXNORM//6809", 1.0, "g", "ordered")]
    assert result.times() == [("RXNORM//6809", DAY, DAY)]


def test_an_order_that_was_stopped_on_a_known_day(read: Read) -> None:
    order = about("MedicationRequest", status="stopped", authoredOn=DAY, statusChanged="2022-04-01", **FORMS[1])
    assert read(order).times() == [
        ("RXNORM//6809", DAY, DAY),
        ("STOPPED//RXNORM//6809", "2022-04-01T00:00:00", "2022-04-01T23:59:59"),
    ]
    assert read(order | {"status": "completed"}).events.height == 1


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"status": "draft"}, "MedicationRequest: draft"),
        ({"intent": "proposal"}, "MedicationRequest: proposal, not an order"),
        ({"intent": "plan"}, "MedicationRequest: plan, not an order"),
        ({"doNotPerform": True}, "MedicationRequest: an order not to give"),
        ({"authoredOn": None}, "MedicationRequest: no time"),
        ({"medicationCodeableConcept": {}}, "MedicationRequest: no code"),
    ],
)
def test_what_is_no_order(read: Read, elements: dict[str, Any], reason: str) -> None:
    order = about("MedicationRequest", status="active", intent="order", authoredOn=DAY, **FORMS[0])
    assert read(order | elements).skipped == {reason: 1}


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
@pytest.mark.parametrize(
    "kind", ["MedicationRequest", "MedicationAdministration", "MedicationStatement", "MedicationDispense"]
)
def test_what_was_cancelled_is_withdrawn(read: Read, kind: str, status: str) -> None:
    result = read(about(kind, status=status, **FORMS[0]))
    assert [source for source, _ in result.withdrawn] == [f"FHIR//fhir//{kind}/x1"]
    assert (result.rows_kept, result.events.height) == (1, 0)


@pytest.mark.parametrize("name", ["effective", "occurence", "occurrence"])  # R4, R5 as published, R5 as meant
@pytest.mark.parametrize("form", FORMS)
def test_an_infusion_begins_and_ends(read: Read, form: dict[str, Any], name: str) -> None:
    lasted = {f"{name}Period": {"start": DAY + "Z", "end": "2022-03-01T10:00:00Z"}}
    given = about("MedicationAdministration", status="completed", dosage={"dose": ONE_GRAM}, **lasted, **form)
    result = read(given)
    assert result.times() == [
        ("RXNORM//6809", DAY, DAY),
        ("STOPPED//RXNORM//6809", "2022-03-01T10:00:00", "2022-03-01T10:00:00"),
    ]
    assert result.rows()[0] == ("RXNORM//6809", 1.0, "g", "administered")
    # Recorded at once, but the end is not known before it has come.
    recorded = read(given | {"recorded": "2022-03-01T08:01:00Z"})
    assert [known for _, _, known in recorded.times()] == ["2022-03-01T08:01:00", "2022-03-01T10:00:00"]


def test_a_drug_that_was_not_given(read: Read) -> None:
    given = about("MedicationAdministration", status="not-done", effectiveDateTime=DAY, **FORMS[0])
    assert read(given).skipped == {"MedicationAdministration: not-done": 1}


@pytest.mark.parametrize("form", FORMS)
def test_a_statement_is_known_when_it_was_made(read: Read, form: dict[str, Any]) -> None:
    told = about(
        "MedicationStatement",
        status="recorded",
        effectivePeriod={"start": "2020-01", "end": "2021-06-30"},
        dateAsserted=DAY,
        dosage=DOSAGE,
        **form,
    )
    result = read(told)
    assert result.times() == [
        ("RXNORM//6809", "2020-01-01T00:00:00", DAY),
        ("STOPPED//RXNORM//6809", "2021-06-30T00:00:00", DAY),
    ]
    assert result.rows()[0] == ("RXNORM//6809", 1.0, "g", "reported")


@pytest.mark.parametrize(
    "elements",
    [{"status": "not-taken"}, {"status": "recorded", "adherence": NOT_TAKING}],
)
def test_a_drug_that_is_not_taken(read: Read, elements: dict[str, Any]) -> None:
    told = about("MedicationStatement", dateAsserted=DAY, **elements, **FORMS[0])
    assert sum(n for reason, n in read(told).skipped.items() if reason.startswith("MedicationStatement: not-tak")) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_drug_handed_out(read: Read, form: dict[str, Any]) -> None:
    handed = about("MedicationDispense", status="completed", whenPrepared="2022-02-28", whenHandedOver=DAY, **form)
    assert read(handed).times() == [("RXNORM//6809", DAY, DAY)]
    prepared = handed | {"whenHandedOver": None}
    assert read(prepared).times() == [("RXNORM//6809", "2022-02-28T00:00:00", "2022-02-28T23:59:59")]
    assert read(handed | {"status": "declined"}).skipped == {"MedicationDispense: declined": 1}


@pytest.mark.parametrize(
    "reference", ["Medication/m", "http://server.example/fhir/Medication/m", "Medication/m/_history/2"]
)
def test_drugs_that_stand_elsewhere(read: Read, reference: str) -> None:
    order = about("MedicationRequest", status="active", authoredOn=DAY, medicationReference={"reference": reference})
    result = read(order, HELD)
    assert result.rows("code") == [("RXNORM//6809",)]
    assert result.skipped == {"Medication: not about a patient": 1}
    missing = read(order)
    assert missing.skipped == {"MedicationRequest: the medication it refers to is not in the same files": 1}
    named = order | {"medicationReference": {"reference": reference, "display": " Metformin 1 g "}}
    assert read(named).rows("code") == [("LOCAL//metformin 1 g",)]


def test_drugs_in_another_file_of_the_same_export(read: Read, read_path: Read, tmp_path: Path) -> None:
    elsewhere = {"reference": "Medication/m"}
    order = about("MedicationRequest", status="active", authoredOn=DAY, medicationReference=elsewhere)
    read(HELD, name="Medication.000.ndjson")
    read(order, name="MedicationRequest.000.ndjson")
    assert read_path(tmp_path).rows("code") == [("RXNORM//6809",)]


def test_a_drug_that_only_names_its_ingredient(read: Read) -> None:
    for part in ({"itemCodeableConcept": METFORMIN}, {"item": {"concept": METFORMIN}}):
        mixed = {"resourceType": "Medication", "id": "m", "ingredient": [part]}
        order = about("MedicationRequest", authoredOn=DAY, medicationReference={"reference": "#m"}, contained=[mixed])
        assert read(order).rows("code") == [("RXNORM//6809",)]
