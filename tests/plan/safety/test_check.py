"""Checking an option: asks are never lost, unknown drugs are no pass, patients stay apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.plan.safety import (
    Finding,
    OptionDrug,
    SafetySection,
    check_option,
    ingredients_of,
    read_rules,
    safety_findings,
)
from careloop.record.schema import conform

CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8"))
ALL = [*CASES["planted"], *CASES["harmless"]]
# Diagnoses, drugs and their ends are taken as complete: without them nobody can say that there are more.
OPEN = ("GENDER//", "MEDS_BIRTH", "LOINC//", "ALLERGY//")


def held(findings: list[Finding]) -> bool:
    return any(finding.severity in ("block", "ask") for finding in findings)


@given(st.sampled_from(ALL), st.data())
@settings(max_examples=150, deadline=None)
def test_removing_a_fact_never_turns_ask_into_pass(
    people: SimpleNamespace, case: dict[str, Any], data: st.DataObject
) -> None:
    rows = people.events_of(case)
    removable = [i for i, row in enumerate(rows) if row["code"].startswith(OPEN)]
    gone = data.draw(st.sets(st.sampled_from(removable)))
    fewer = [row for i, row in enumerate(rows) if i not in gone]
    before = check_option("option", people.drugs_of(case), people.facts_of(rows), read_rules())
    after = check_option("option", people.drugs_of(case), people.facts_of(fewer or rows[:1]), read_rules())
    if any(finding.severity == "ask" for finding in before):
        assert held(after)


def test_one_question_for_all_rules_that_miss_the_same(people: SimpleNamespace) -> None:
    found = people.checked({"drug": "metformin", "labs": {"creatinine": None}})
    asks = [finding for finding in found if finding.severity == "ask"]
    assert [finding.rule for finding in asks] == ["metformin-egfr-30, metformin-egfr-45"]
    assert "renal function" in asks[0].text
    assert asks[0].facts == ("not known: renal function (serum creatinine)",)


def test_an_option_without_drugs_has_no_findings(people: SimpleNamespace) -> None:
    assert check_option("diet", (), people.facts_of([people.event("MEDS_BIRTH", 9000)]), read_rules()) == []


def test_drugs_by_code_and_those_unknown(people: SimpleNamespace) -> None:
    book = read_rules()
    drugs = (OptionDrug(code="RXNORM//36567"), OptionDrug(ingredient="Coumadin"), OptionDrug(code="RXNORM//1"))
    assert ingredients_of(drugs, book) == ("simvastatin", "warfarin")
    found = check_option("option", drugs, people.facts_of(people.events_of({})), book)
    assert [f.drug for f in found if f.rule == "unknown-drug"] == ["RXNORM//1"]
    assert held(found)


def test_a_combination_by_its_words_is_checked_for_each_ingredient(people: SimpleNamespace) -> None:
    drugs = (OptionDrug(ingredient="sacubitril / valsartan"),)
    found = check_option("option", drugs, people.facts_of(people.events_of({"meds": ["enalapril"]})), read_rules())
    assert {"sacubitril-ace", "dual-raas"} <= {finding.rule for finding in found}


def test_what_is_not_recognised_is_said(people: SimpleNamespace) -> None:
    found = people.checked({"drug": "lisinopril", "meds": ["elixir of life"], "allergies": ["house dust"]})
    assert {(f.rule, f.severity) for f in found} == {("unknown-medication", "info"), ("unknown-allergen", "info")}


def test_the_gravest_comes_first(people: SimpleNamespace) -> None:
    case = {"drug": "ketorolac", "allergies": ["aspirin"], "meds": ["warfarin"], "labs": {"creatinine": None}}
    severities = [finding.severity for finding in people.checked(case)]
    assert severities == sorted(severities, key=["block", "ask", "caution", "info"].index)
    assert set(severities) >= {"block", "ask", "caution"}


def test_children_have_no_adult_equation(people: SimpleNamespace) -> None:
    found = people.checked({"drug": "metformin", "age": 14, "labs": {"creatinine": 0.5}})
    assert [finding.severity for finding in found] == ["ask"]
    assert people.checked({"drug": "metformin", "age": 14, "labs": {"creatinine": 0.5, "egfr": 110}}) == []


def test_patients_and_times_stay_apart(people: SimpleNamespace) -> None:
    """Each row is judged by its own patient's facts known at its own time."""
    rows = [
        {**people.event("ALLERGY//LOCAL//nka", 900), "subject_id": 1},
        {**people.event("ALLERGY//RXNORM//7980", 30), "subject_id": 1},
        {**people.event("ALLERGY//LOCAL//nka", 900), "subject_id": 2},
    ]
    events = conform(pl.DataFrame(rows, infer_schema_length=None)).lazy()
    keys = pl.DataFrame(
        {
            "subject_id": [1, 1, 2, 3],
            "prediction_time": [people.now, people.now.replace(year=2025), people.now, people.now],
        },
        schema={"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us", "UTC")},
    )
    section = SafetySection(options={"antibiotic": (OptionDrug(ingredient="amoxicillin"),), "waiting": ()})
    found = safety_findings(events, keys, section)
    severity = [[f.severity for f in found[(s, t)]["antibiotic"]] for s, t in keys.iter_rows()]
    assert severity == [["block"], [], [], ["ask"]]
    assert all(options["waiting"] == [] for options in found.values())
