"""Patients for the safety tests: events as ingest writes them, and what the rules say of one option."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from careloop.plan.safety import (
    Finding,
    OptionDrug,
    PatientFacts,
    SafetySection,
    check_option,
    patient_facts,
    read_rules,
)
from careloop.record.schema import conform

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
# Measure to LOINC code and unit; the values are those of somebody healthy.
LAB = {
    "creatinine": ("2160-0", "mg/dL", 0.9), "weight": ("29463-7", "kg", 80.0), "potassium": ("2823-3", "mmol/L", 4.2),
    "sodium": ("2951-2", "mmol/L", 140.0), "calcium": ("17861-6", "mg/dL", 9.4), "alt": ("1742-6", "U/L", 20.0),
    "platelets": ("777-3", "10*3/uL", 250.0), "neutrophils": ("751-8", "10*3/uL", 4.0),
    "hemoglobin": ("718-7", "g/dL", 14.0), "inr": ("6301-6", "{INR}", 1.0), "qtc": ("8636-3", "ms", 410.0),
    "bilirubin": ("1975-2", "mg/dL", 0.6), "albumin": ("1751-7", "g/dL", 4.2), "egfr": ("98979-8", "mL/min", None),
}  # fmt: skip


def event(code: str, days: float, **more: Any) -> dict[str, Any]:
    """An event so many days ago, known at once."""
    return {"subject_id": 1, "time": NOW - timedelta(days=days), "code": code, **more}


def named(code: str) -> str:
    """What stands for a code in the cases: a name is a local code."""
    return code if "//" in code else f"LOCAL//{code.lower()}"


def events_of(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The events of a case of cases.yaml, on top of a healthy man's of 50 years."""
    days = case.get("days", 20)
    rows = [{"subject_id": 1, "time": None, "code": f"GENDER//{case.get('sex', 'M')}"}]
    if case.get("age", 50) is not None:
        rows.append(event("MEDS_BIRTH", case.get("age", 50) * 365.25 + 1))
    if not case.get("no_allergy_list") and "allergies" not in case:
        rows.append(event("ALLERGY//LOCAL//no known allergies", 100))
    rows += [event(f"ALLERGY//{named(c)}", 100, text_value=case.get("allergy_text")) for c in case.get("allergies", ())]
    for code in case.get("dx", ()):
        code, _, said = code.partition("=")
        rows.append(event(code, days, text_value=said or ("provisional" if case.get("suspected") else None)))
    rows += [event(f"RESOLVED//{code}", days - 5) for code in case.get("resolved", ())]
    rows += [event(named(c), days, text_value=case.get("manner", "reported")) for c in case.get("meds", ())]
    rows += [event(f"STOPPED//{named(c)}", days - 5) for c in case.get("stopped", ())]
    if "pregnant" in case:
        said = "Pregnant" if case["pregnant"] == "yes" else "Not pregnant"
        rows.append(event("LOINC//82810-3", 10, text_value=said))
    healthy = {name: value for name, (_, _, value) in LAB.items()}
    for when, values in (
        (case.get("lab_days", 30), {**healthy, **case.get("labs", {})}),
        (60, case.get("earlier", {})),
    ):
        for name, value in values.items():
            loinc, unit, _ = LAB[name]
            value, unit = value if isinstance(value, list) else (value, unit)
            if value is not None:
                rows.append(event(f"LOINC//{loinc}", when, numeric_value=value, unit=unit))
    return rows


def drugs_of(case: Mapping[str, Any]) -> tuple[OptionDrug, ...]:
    """The option's drugs."""
    if "drugs" in case:
        return tuple(OptionDrug(**drug) for drug in case["drugs"])
    return (OptionDrug(ingredient=case["drug"], daily_dose=case.get("dose"), dose_unit=case.get("unit", "mg")),)


def facts_of(
    rows: list[dict[str, Any]], *, at: datetime = NOW, section: SafetySection | None = None, codes: Any = None
) -> PatientFacts:
    """The facts known at a time from events."""
    events = conform(pl.DataFrame(rows, infer_schema_length=None)).lazy()
    keys = pl.DataFrame({"subject_id": [1], "prediction_time": [at]}, schema_overrides={"subject_id": pl.Int64})
    keys = keys.cast({"prediction_time": pl.Datetime("us", "UTC")})
    section = section or SafetySection(options={"any": ()})
    return patient_facts(events, keys, read_rules().formulary, section=section, codes=codes)[(1, at)]


@pytest.fixture(scope="session")
def people() -> SimpleNamespace:
    """The functions of this module, and the birth and sex of a woman of 60 years."""
    woman = [event("MEDS_BIRTH", 365.25 * 60 + 1), {"subject_id": 1, "time": None, "code": "GENDER//F"}]
    return SimpleNamespace(
        now=NOW, event=event, events_of=events_of, drugs_of=drugs_of, facts_of=facts_of, woman=woman, checked=checked
    )


def checked(case: Mapping[str, Any]) -> list[Finding]:
    """What the shipped rules say of a case's option."""
    return check_option("option", drugs_of(case), facts_of(events_of(case)), read_rules())
