"""Patients, visits, families and questionnaires: what each resource must become (all made up)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
MRN = "http://hospital.example/mrn"


def patient(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": "p1"} | elements


def test_birth_death_and_what_does_not_change(read: Read) -> None:
    result = read(
        patient(
            birthDate="1950-03-02",
            deceasedDateTime="2020-05-06T07:08:00+02:00",
            gender="female",
            maritalStatus={"coding": [{"code": "M"}]},
            communication=[
                {"language": {"coding": [{"code": "en"}]}},
                {"language": {"coding": [{"code": "nl"}]}, "preferred": True},
            ],
            extension=[
                {
                    "url": US_CORE + "us-core-race",
                    "extension": [
                        {"url": "ombCategory", "valueCoding": {"code": "2106-3", "display": "White"}},
                        {"url": "text", "valueString": "white, Irish"},
                    ],
                },
                {"url": "http://example.org/shoe-size", "valueString": "43"},
            ],
            name=[{"family": "Nobody"}],
        )
    )
    assert result.times() == [
        ("MEDS_BIRTH", "1950-03-02T00:00:00", "1950-03-02T23:59:59"),
        ("MEDS_DEATH", "2020-05-06T05:08:00", "2020-05-06T05:08:00"),
        ("GENDER//F", None, None),
        ("RACE//white", None, None),
        ("LANGUAGE//nl", None, None),
        ("MARITAL//M", None, None),
    ]
    assert result.events["subject"].unique().to_list() == ["fhir:p1"]
    assert result.events["source"].unique().to_list() == ["FHIR//fhir//Patient/p1"]


def test_the_hour_of_birth_counts_where_it_is_given(read: Read) -> None:
    hour = {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "2016-05-18T10:28:45Z"}
    result = read(patient(birthDate="2016-05-18", _birthDate={"extension": [hour]}))
    assert result.times() == [("MEDS_BIRTH", "2016-05-18T10:28:45", "2016-05-18T10:28:45")]


def test_a_death_without_a_date_cannot_be_placed(read: Read) -> None:
    result = read(patient(deceasedBoolean=True), patient(id="p2", deceasedBoolean=True, gender="male"))
    assert result.rows("subject", "code") == [("fhir:p2", "GENDER//M")]
    assert result.skipped == {"Patient: says nothing that is read": 1}


def test_a_patient_who_is_not_active_keeps_the_facts(read: Read) -> None:
    # Also the record of somebody who died or moved away is set inactive.
    assert read(patient(active=False, gender="other")).rows("code") == [("GENDER//other",)]


@pytest.mark.parametrize(
    ("kind", "pair"),
    [("replaced-by", ("fhir:p1", "fhir:p2")), ("replaces", ("fhir:p2", "fhir:p1")), ("seealso", None), ("refer", None)],
)
def test_links_merge_patients(read: Read, kind: str, pair: tuple[str, str] | None) -> None:
    result = read(patient(active=False, link=[{"other": {"reference": "Patient/p2"}, "type": kind}]))
    assert result.merges == ([pair] if pair else [])
    assert result.rows_kept == (1 if pair else 0)


def test_the_hospitals_own_number_joins_other_formats(read: Read) -> None:
    numbers = [
        {"system": "http://insurer.example", "value": "9"},
        {"system": MRN, "value": "old-1", "use": "old"},
        {"system": MRN, "value": "4711"},
    ]
    result = read(patient(gender="male", identifier=numbers), patient_identifier=MRN)
    assert result.merges == [("fhir:p1", "4711")]
    assert read(patient(gender="male", identifier=numbers)).merges == []
    nameless = {"resourceType": "Patient", "gender": "male", "identifier": numbers[::2]}
    assert read(nameless, patient_identifier=MRN).rows("subject") == [("4711",)]
    assert read(nameless, origin="").rows("subject") == [("http://insurer.example|9",)]
    nobody = read({"resourceType": "Patient", "gender": "male"})
    assert nobody.skipped == {"Patient: neither id nor identifier": 1}


def encounter(status: str = "finished", **elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "e1",
        "status": status,
        "subject": {"reference": "Patient/p1"},
    } | elements


PERIOD = {"start": "2020-01-01T08:00:00Z", "end": "2020-01-04"}
HOME = {"dischargeDisposition": {"coding": [{"code": "home", "display": "Home"}]}}


@pytest.mark.parametrize(
    "visit",
    [
        encounter(**{"class": {"code": "IMP"}, "period": PERIOD, "hospitalization": HOME}),  # R4
        encounter(
            "completed",
            **{"class": [{"coding": [{"code": "IMP"}]}], "actualPeriod": PERIOD, "admission": HOME},  # R5
        ),
    ],
)
def test_a_visit_begins_and_ends(read: Read, visit: dict[str, Any]) -> None:
    result = read(visit)
    assert result.times() == [
        ("VISIT_START//IMP", "2020-01-01T08:00:00", "2020-01-01T08:00:00"),
        ("VISIT_END//IMP", "2020-01-04T00:00:00", "2020-01-04T23:59:59"),
    ]
    assert result.rows("text_value") == [(None,), ("Home",)]


def test_visits_that_are_planned_open_cancelled_or_undated(read: Read) -> None:
    open_end = {"start": "2020-01-01", "end": "9999-12-31"}
    assert read(encounter("in-progress", period=open_end)).rows("code") == [("VISIT_START//UNK",)]
    assert read(encounter("planned", period=PERIOD)).skipped == {"Encounter: planned": 1}
    assert read(encounter()).skipped == {"Encounter: no time": 1}
    withdrawn = read(encounter("cancelled", period=PERIOD, meta={"lastUpdated": "2020-02-01T00:00:00Z"}))
    assert [source for source, _ in withdrawn.withdrawn] == ["FHIR//fhir//Encounter/e1"]
    assert (withdrawn.rows_kept, withdrawn.events.height) == (1, 0)


def test_conditions_of_a_relative(read: Read) -> None:
    history = {
        "resourceType": "FamilyMemberHistory",
        "id": "f1",
        "status": "completed",
        "patient": {"reference": "Patient/p1"},
        "date": "2011-03-18",
        "relationship": {"coding": [{"code": "FTH"}]},
        "condition": [
            {"code": {"coding": [{"system": "http://snomed.info/sct", "code": "315619001", "display": "MI"}]}},
            {"code": {"text": "Stroke"}},
        ],
    }
    assert read(history).times() == [
        ("FAMILY//FTH//SNOMED//315619001", "2011-03-18T00:00:00", "2011-03-18T23:59:59"),
        ("FAMILY//FTH//LOCAL//stroke", "2011-03-18T00:00:00", "2011-03-18T23:59:59"),
    ]
    assert read(history | {"condition": []}).skipped == {"FamilyMemberHistory: no condition": 1}
    assert read(history | {"status": "health-unknown"}).skipped == {"FamilyMemberHistory: health-unknown": 1}
    assert len(read(history | {"status": "entered-in-error"}).withdrawn) == 1


def test_answers_of_a_questionnaire(read: Read) -> None:
    form = {
        "resourceType": "QuestionnaireResponse",
        "id": "q1",
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "authored": "2021-01-01T10:00:00Z",
        "questionnaire": "http://hospital.example/Questionnaire/phq|2",
        "item": [
            {"linkId": "1", "text": "Tired?", "answer": [{"valueBoolean": True, "item": [
                {"linkId": "1.1", "answer": [{"valueInteger": 3}, {"valueDecimal": 1.5}]},
            ]}]},
            {"linkId": "g", "item": [{"linkId": "2", "answer": [
                {"valueQuantity": {"value": 70, "unit": "kg"}}, {"valueCoding": {"code": "a", "display": "Often"}},
                {"valueDate": "2020-02"}, {"valueString": " free text "},
            ]}]},
            {"linkId": "3"},
        ],
    }  # fmt: skip
    result = read(form)
    assert result.rows() == [
        ("QUESTIONNAIRE//phq//1", None, None, "true"),
        ("QUESTIONNAIRE//phq//1.1", 3.0, None, None),
        ("QUESTIONNAIRE//phq//1.1", 1.5, None, None),
        ("QUESTIONNAIRE//phq//2", 70.0, "kg", None),
        ("QUESTIONNAIRE//phq//2", None, None, "Often"),
        ("QUESTIONNAIRE//phq//2", None, None, "2020-02"),
        ("QUESTIONNAIRE//phq//2", None, None, "free text"),
    ]
    assert result.codes == {"QUESTIONNAIRE//phq//1": "Tired?"}
    assert read(form | {"status": "in-progress"}).skipped == {"QuestionnaireResponse: in-progress": 1}
    assert read(form | {"item": []}).skipped == {"QuestionnaireResponse: no answer": 1}
