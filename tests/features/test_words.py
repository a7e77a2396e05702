"""Features and their values in words that a clinician reads."""

from __future__ import annotations

import pytest

from careloop.features.recipe import Column
from careloop.features.words import number, stated


def column(kind: str, code: str, aggregation: str, description: str = "", **fields: object) -> Column:
    return Column("name", kind, code, aggregation, description=description, **fields)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (column("age", "MEDS_BIRTH", "age"), 63.24, "age 63.24 years"),
        (column("static_category", "SEX", "category", category="male"), 1.0, "SEX male: yes"),
        (column("static_present", "GENDER//M", "present", "male"), 0.0, "male: no"),
        (
            column("value", "LOINC//2160-0", "mean", "creatinine", window_days=365.0, unit="mg/dL"),
            1.2345678,
            "creatinine, mean in 365 days 1.235 mg/dL",
        ),
        (
            column("value", "A//B", "slope", "body mass", window_days=30.0, unit="kg"),
            -0.5,
            "body mass, change per day in 30 days -0.5 kg/d",
        ),
        (column("value", "A//B", "last", "body mass", unit="kg"), float("nan"), "body mass missing"),
        (column("value", "A//B", "last", "CD4 count", unit="{cells}/uL"), 210.0, "CD4 count 210 cells/uL"),
        (column("value", "A//B", "last", "Karnofsky score", unit="{score}"), 90.0, "Karnofsky score 90"),
        (column("value", "A//B", "present", "body mass"), 1.0, "body mass: recorded"),
        (column("code", "ICD10CM//K74", "present", window_days=365.0), 0.0, "K74 in 365 days: not recorded"),
        (column("code", "ICD10CM//K74", "count", "cirrhosis"), 3.0, "cirrhosis, number of entries 3"),
        (column("code", "ICD10CM//K74", "time_since", "cirrhosis"), 12.0, "cirrhosis, days since the last entry 12"),
    ],
)
def test_features_in_words(column: Column, value: float, expected: str) -> None:
    assert stated(column, value) == expected


def test_numbers_are_written_as_clinicians_write_them() -> None:
    assert [number(v) for v in (0.012345, 98765.4, 1234567.0, 5.0)] == ["0.01235", "98,770", "1,235,000", "5"]
