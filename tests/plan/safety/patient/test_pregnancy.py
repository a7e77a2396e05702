"""Pregnancy: yes by its last sign, no only for a reason, else unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from careloop.plan.safety.patient.pregnancy import pregnancy_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
Row = tuple[str, float]  # code, days ago


@pytest.mark.parametrize(
    ("diagnoses", "answers", "age", "sex", "expected"),
    [
        ([], [], 30, "F", "unknown"),
        ([], [], 30, None, "unknown"),
        ([], [], None, "F", "unknown"),
        ([], [], 30, "M", "no"),
        ([], [], 9, "F", "no"),
        ([], [], 10, "F", "unknown"),
        ([], [], 55, "F", "unknown"),
        ([], [], 56, "F", "no"),
        ([("ICD10//Z3400", 50)], [], 30, "F", "yes"),
        ([("ICD10//Z3400", 50)], [], 57, "F", "yes"),
        ([("ICD10//O0990", 301)], [], 30, "F", "unknown"),
        ([("ICD10//O0990", 100), ("ICD10//O80", 10)], [], 30, "F", "no"),
        ([("ICD10//O0990", 100), ("ICD10//O80", 60)], [], 30, "F", "unknown"),
        ([("ICD10//O80", 60), ("ICD10//O0990", 5)], [], 30, "F", "yes"),
        ([("ICD10//O039", 5)], [], 30, "F", "no"),
        ([("ICD10//O0990", 5), ("ICD10//Z370", 5)], [], 30, "F", "no"),
        ([("ICD10//Z90710", 900)], [], 30, "F", "no"),
        ([], [("Positive", 10)], 30, "F", "yes"),
        ([], [("Negative", 10)], 30, "F", "no"),
        ([], [("Negative", 31)], 30, "F", "unknown"),
        ([], [("Negative", 20), ("Pregnant", 5)], 30, "F", "yes"),
        ([("ICD10//O0990", 100)], [("Not pregnant", 5)], 30, "F", "no"),
        ([], [("invalid", 5)], 30, "F", "unknown"),
    ],
)
def test_status(
    diagnoses: list[Row], answers: list[Row], age: float | None, sex: Literal["F", "M"] | None, expected: str
) -> None:
    found = pregnancy_of(
        [((code,), NOW - timedelta(days=days), "active") for code, days in diagnoses],
        [("LOINC//2106-3", text, NOW - timedelta(days=days)) for text, days in answers],
        at=NOW,
        age_years=age,
        sex=sex,
    )
    assert found.status == expected
    assert found.reason


def test_a_suspected_pregnancy_is_no_sign() -> None:
    found = pregnancy_of([(("ICD10//O0990",), NOW, "suspected")], [], at=NOW, age_years=30, sex="F")
    assert found.status == "unknown"
