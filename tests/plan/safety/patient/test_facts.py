"""Facts as of the prediction time: units, windows, what is recorded as none and what is not recorded."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.plan.safety import SafetySection
from careloop.plan.safety.patient.facts import normal_code

CODES = [
    "LOINC//2160-0", "LOINC//82810-3", "LOINC//2106-3", "ICD10CM//O09.90", "ICD10CM//K74.60", "GENDER//M",
    "RESOLVED//ICD10CM//K74.60", "RXNORM//36567", "STOPPED//RXNORM//36567", "ALLERGY//RXNORM//7980", "MEDS_BIRTH",
    "ALLERGY//LOCAL//nka", "RESOLVED//ALLERGY//RXNORM//7980", "SNOMED//84114007", "LOCAL//aspirin",
]  # fmt: skip
LATER = st.fixed_dictionaries(
    {
        "code": st.sampled_from(CODES),
        "back": st.floats(0, 400),
        "late": st.floats(0.01, 400),
        "text_value": st.sampled_from([None, "ordered", "refuted", "Pregnant", "provisional"]),
        "numeric_value": st.sampled_from([None, 5.0]),
    }
)


@given(st.lists(LATER, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_facts_known_later_change_nothing(people: SimpleNamespace, later: list[dict[str, Any]]) -> None:
    """Whatever happened before but became known after the prediction time, added or not, gives the same facts."""
    event = people.event
    known = [
        *people.woman,
        event("LOINC//2160-0", 20, numeric_value=1.1, unit="mg/dL"),
        event("ICD10CM//K74.60", 100),
        event("RXNORM//36567", 30, text_value="ordered"),
        event("ALLERGY//RXNORM//7980", 500),
    ]
    added = [
        {
            "subject_id": 1,
            "time": people.now - timedelta(days=row["back"]),
            "known_time": people.now + timedelta(days=row["late"]),
            "code": row["code"],
            "text_value": row["text_value"],
            "numeric_value": row["numeric_value"],
            "unit": "mg/dL",
        }
        for row in later
    ]
    assert people.facts_of([*known, *added]) == people.facts_of(known)


def test_age_sex_and_what_contradicts_itself(people: SimpleNamespace) -> None:
    facts = people.facts_of(people.woman)
    assert (round(facts.age_years or 0), facts.sex) == (60, "F")
    both = people.facts_of([*people.woman, {"subject_id": 1, "time": None, "code": "GENDER//M"}])
    assert both.sex is None
    word = people.facts_of([{"subject_id": 1, "time": None, "code": "SEX", "text_value": "male"}])
    assert (word.sex, word.age_years) == ("M", None)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(1.0, "mg/dL", 1.0), (88.4, "umol/L", 1.0), (88.4, "µmol/L", 1.0), (0.01, "g/L", 1.0), (10, "mg/L", 1.0)],
)
def test_creatinine_comes_in_any_unit(people: SimpleNamespace, value: float, unit: str, expected: float) -> None:
    event = people.event
    facts = people.facts_of([*people.woman, event("LOINC//2160-0", 20, numeric_value=value, unit=unit)])
    assert facts.measurements["creatinine"].value == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(75, "mL/min", 75), (75, None, 75), (75, "mL/min/1.73m2", 75), (1.25, "mL/s/{1.73_m2}", 75)],
)
def test_reported_filtration_counts_however_its_unit_is_spelt(
    people: SimpleNamespace, value: float, unit: str | None, expected: float
) -> None:
    facts = people.facts_of([*people.woman, people.event("LOINC//98979-8", 20, numeric_value=value, unit=unit)])
    assert facts.measurements["egfr"].value == pytest.approx(expected)


@pytest.mark.parametrize("unit", [None, "mm[Hg]", "nonsense"])
def test_a_value_of_no_unit_or_another_dimension_is_missing(people: SimpleNamespace, unit: str | None) -> None:
    event = people.event
    facts = people.facts_of([*people.woman, event("LOINC//2160-0", 20, numeric_value=1, unit=unit)])
    assert "creatinine" not in facts.measurements


def test_the_codes_table_gives_units_and_names(people: SimpleNamespace) -> None:
    event = people.event
    codes = pl.DataFrame(
        {
            "code": ["LOINC//2160-0", "RXNORM//312961", "NDC//0071-0155"],
            "description": [None, "simvastatin 20 MG Oral Tablet", "Lipitor"],
            "unit": ["mg/dL", None, None],
            "parent_codes": [None, None, None],
        },
        schema_overrides={"parent_codes": pl.List(pl.String)},
    )
    rows = [
        *people.woman,
        event("LOINC//2160-0", 20, numeric_value=1),
        event("RXNORM//312961", 5),
        event("NDC//0071-0155", 5),
    ]
    facts = people.facts_of(rows, codes=codes)
    assert facts.measurements["creatinine"].value == 1
    assert sorted(name for m in facts.medications for name in m.substances) == ["atorvastatin", "simvastatin"]


def test_the_last_value_counts_and_old_ones_are_missing(people: SimpleNamespace) -> None:
    event = people.event
    rows = [
        *people.woman,
        *(event("LOINC//2160-0", d, numeric_value=v, unit="mg/dL") for d, v in ((90, 1.0), (10, 3.0), (50, 2.0))),
    ]
    assert people.facts_of(rows).measurements["creatinine"].value == 3
    section = SafetySection(options={"any": ()}, lab_days=9)
    assert "creatinine" not in people.facts_of(rows, section=section).measurements


def test_a_drug_is_taken_until_it_is_stopped_or_its_window_has_passed(people: SimpleNamespace) -> None:
    event = people.event

    def taken(*rows: dict[str, Any]) -> bool:
        return bool(people.facts_of([*people.woman, *rows]).medications)

    assert taken(event("RXNORM//36567", 100, text_value="ordered"))
    assert not taken(event("RXNORM//36567", 200, text_value="ordered"))
    assert not taken(event("RXNORM//36567", 100, text_value="ordered"), event("STOPPED//RXNORM//36567", 50))
    assert taken(event("RXNORM//36567", 20, text_value="ordered"), event("STOPPED//RXNORM//36567", 50))
    assert taken(event("RXNORM//36567", 20, text_value="ordered"), event("STOPPED//RXNORM//36567", 20))
    assert taken(event("RXNORM//36567", 5, text_value="administered"))
    assert not taken(event("RXNORM//36567", 8, text_value="administered"))
    assert not taken(event("RXNORM//36567", -5, text_value="ordered", known_time=people.now - timedelta(days=1)))
    assert taken(event("HOSPITAL//4711", 5, text_value="dispensed"))
    assert not taken(event("SNOMED//84114007", 5))


@pytest.mark.parametrize(
    ("codes", "expected", "count"),
    [
        ([], "not recorded", 0),
        (["ALLERGY//LOCAL//nka"], "none known", 0),
        (["ALLERGY//LOCAL//no known drug allergies"], "none known", 0),
        (["ALLERGY//LOCAL//none"], "none known", 0),
        (["ALLERGY//SNOMED//409137002"], "none known", 0),
        (["ALLERGY//LOCAL//no known food allergies"], "not recorded", 0),
        (["ALLERGY//SNOMED//429625007"], "not recorded", 0),
        (["ALLERGY//RXNORM//7980"], "recorded", 1),
        (["ALLERGY//RXNORM//7980", "ALLERGY//LOCAL//nka"], "recorded", 1),
        (["ICD10CM//Z88.0"], "recorded", 1),
    ],
)
def test_none_known_differs_from_nothing_recorded(
    people: SimpleNamespace, codes: list[str], expected: str, count: int
) -> None:
    event = people.event
    facts = people.facts_of([*people.woman, *(event(code, 50) for code in codes)])
    assert (facts.allergy_list, len(facts.allergies)) == (expected, count)


def test_wider_codes_of_a_diagnosis_come_from_the_codes_table(people: SimpleNamespace) -> None:
    event = people.event
    codes = pl.DataFrame(
        {"code": ["SNOMED//426263006"], "parent_codes": [["SNOMED//84114007"]]},
        schema_overrides={"parent_codes": pl.List(pl.String)},
    )
    found = people.facts_of([*people.woman, event("SNOMED//426263006", 5)], codes=codes).diagnoses
    assert found[0].codes == ("SNOMED//426263006", "SNOMED//84114007")


def test_standing_of_a_diagnosis(people: SimpleNamespace) -> None:
    event = people.event

    def standing(*rows: dict[str, Any]) -> list[str]:
        return [d.standing for d in people.facts_of([*people.woman, *rows]).diagnoses]

    assert standing(event("ICD10CM//I10", 9)) == ["active"]
    assert standing(event("ICD10CM//I10", 9), event("RESOLVED//ICD10CM//I10", 3)) == ["resolved"]
    assert standing(event("ICD10CM//I10", 2), event("RESOLVED//ICD10CM//I10", 3)) == ["active"]
    assert standing(event("ICD10CM//I10", 9, text_value="provisional")) == ["suspected"]
    assert standing(event("ICD10CM//I10", 9, text_value="provisional"), event("ICD10CM//I10", 1)) == ["active"]
    assert standing(event("ICD10CM//I10", 9, text_value="refuted")) == []
    assert standing(event("ICD10CM//I10", -9, known_time=people.now - timedelta(days=1))) == []


def test_icd_editions_meet() -> None:
    assert {normal_code(c) for c in ("ICD10CM//K74.60", "ICD10//K7460", "DIAGNOSIS//ICD//10//K7460")} == {
        "ICD10//K7460"
    }
    assert normal_code("DIAGNOSIS//ICD//9//5715") == normal_code("ICD9CM//571.5") == "ICD9//5715"
    assert normal_code("SNOMED//1") == "SNOMED//1"
