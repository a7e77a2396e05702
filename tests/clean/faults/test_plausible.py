"""Limits by age and sex, in any unit, and codes of the other sex; the limits themselves against textbook values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from careloop.clean.faults.plausible import (
    IMPLAUSIBLE,
    IMPOSSIBLE,
    LIMITS,
    find_implausible,
    find_other_sex,
    limits,
    sex_codes,
    shipped_limits,
)
from careloop.clean.faults.units import analytes
from careloop.record import conform

NOW = datetime(2020, 6, 1, 12, tzinfo=UTC)
WEIGHT, HEMOGLOBIN, GLUCOSE, POTASSIUM = "LOINC//29463-7", "LOINC//718-7", "LOINC//2345-7", "LOINC//2823-3"
CANONICAL = {code: analyte.unit for code, analyte in analytes().items()}


def person(subject: int, years: float, sex: str = "F", **cells: Any) -> list[dict[str, Any]]:
    birth = NOW - timedelta(days=365.25 * years)
    return [
        {"subject_id": subject, "time": birth, "code": "MEDS_BIRTH"} | cells,
        {"subject_id": subject, "time": None, "code": f"GENDER//{sex}"},
    ]


def value(subject: int, code: str, number: float, unit: str | None = None, **cells: Any) -> dict[str, Any]:
    return {"subject_id": subject, "time": NOW, "code": code, "numeric_value": number, "unit": unit} | cells


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    columns = {"numeric_value": None, "unit": None, "known_time": None}
    frame = pl.DataFrame([columns | row for row in rows], infer_schema_length=None)
    types = {"known_time": pl.Datetime("us", "UTC"), "time": pl.Datetime("us", "UTC")}
    return conform(frame.cast({name: types[name] for name in types})).with_row_index("row")


def judged(rows: pl.DataFrame, metadata: pl.DataFrame | None = None) -> dict[int, str]:
    found = find_implausible(rows, limits(CANONICAL, metadata))
    assert set(found.filter(rule=IMPOSSIBLE)["action"]) <= {"removed"}
    assert set(found.filter(rule=IMPLAUSIBLE)["action"]) <= {"flagged"}
    return dict(found.select("row", "rule").rows())


def test_impossible_is_removed_and_implausible_pointed_out() -> None:
    rows = events(value(1, POTASSIUM, 400, "mmol/L"), value(1, POTASSIUM, 12.5, "mmol/L"), value(1, POTASSIUM, 4.1))
    found = judged(rows)
    assert found[0] == IMPOSSIBLE
    assert found.get(1) == IMPLAUSIBLE
    assert 2 not in found


def test_a_weight_is_judged_by_age() -> None:
    rows = events(
        *person(1, 1.0), value(1, WEIGHT, 70, "kg"),
        *person(2, 40.0), value(2, WEIGHT, 70, "kg"),
        value(3, WEIGHT, 70, "kg"),
        *person(4, 40.0), value(4, WEIGHT, 9, "kg"),
    )  # fmt: skip
    assert judged(rows) == {2: IMPLAUSIBLE, 9: IMPLAUSIBLE}


def test_an_age_counts_from_when_it_is_known() -> None:
    born_later_known = person(1, 1.0, known_time=NOW + timedelta(days=3))
    assert judged(events(*born_later_known, value(1, WEIGHT, 70, "kg"))) == {}


@pytest.mark.parametrize(("unit", "number"), [("mg/dL", 20_000.0), (None, 20_000.0)])
def test_values_in_the_limits_unit_or_without_one(unit: str | None, number: float) -> None:
    assert judged(events(value(1, GLUCOSE, number, unit))) == {0: IMPOSSIBLE}


def test_values_in_another_unit_are_left_alone() -> None:
    assert judged(events(value(1, GLUCOSE, 20_000.0, "ng/mL"))) == {}


def test_limits_go_with_the_canonical_unit() -> None:
    table = limits(CANONICAL | {GLUCOSE: "mmol/L"}).filter(code=GLUCOSE, kind=IMPOSSIBLE)
    usual = limits(CANONICAL).filter(code=GLUCOSE, kind=IMPOSSIBLE)
    assert table["unit"].to_list() == ["mmol/L"]
    assert table["high"].item() == pytest.approx(usual["high"].item() / 18.016, rel=1e-3)


def test_the_codes_table_replaces_what_is_implausible_but_not_what_is_impossible() -> None:
    metadata = pl.DataFrame(
        {"code": [POTASSIUM, "LAB//x"], "unit": ["mmol/L", "mg/L"], "plausible_low": [1.0, None],
         "plausible_high": [14.0, 50.0]},
        schema_overrides={"plausible_low": pl.Float64},
    )  # fmt: skip
    rows = events(
        value(1, POTASSIUM, 12.5, "mmol/L"), value(1, POTASSIUM, 15.0, "mmol/L"), value(1, POTASSIUM, 400, "mmol/L"),
        value(1, "LAB//x", 60, "mg/L"), value(1, "LAB//x", 40, "mg/L"),
    )  # fmt: skip
    assert judged(rows, metadata) == {1: IMPLAUSIBLE, 2: IMPOSSIBLE, 3: IMPLAUSIBLE}


def test_the_limit_itself_is_allowed() -> None:
    for row in shipped_limits().filter(kind=IMPOSSIBLE, code=POTASSIUM).iter_rows(named=True):
        assert judged(events(value(1, POTASSIUM, row["low"], row["unit"]), value(1, POTASSIUM, row["high"]))).get(
            0
        ) in {None, IMPLAUSIBLE}


def test_bounds_and_doses_are_not_judged() -> None:
    rows = events(value(1, POTASSIUM, 400, "mmol/L", text_value=">"), value(1, "RXNORM//6809", 5000, "mg"))
    assert judged(rows) == {}


# Adults' reference intervals (NEJM 2004, 351:1548) must lie inside of what is plausible, and that inside the possible.
REFERENCE = {
    "LOINC//2951-2": (136, 145, "mmol/L"), POTASSIUM: (3.5, 5.0, "mmol/L"), GLUCOSE: (75, 115, "mg/dL"),
    HEMOGLOBIN: (12.0, 17.5, "g/dL"), "LOINC//2160-0": (0.5, 1.5, "mg/dL"), "LOINC//8310-5": (36.0, 38.0, "Cel"),
    WEIGHT: (45, 120, "kg"), "LOINC//8302-2": (150, 200, "cm"), "LOINC//8867-4": (50, 100, "/min"),
    "LOINC//8480-6": (90, 160, "mm[Hg]"), "LOINC//2744-1": (7.35, 7.45, "[pH]"),
}  # fmt: skip


@pytest.mark.parametrize("code", REFERENCE)
@pytest.mark.parametrize("sex", ["F", "M"])
def test_reference_intervals_are_plausible(code: str, sex: str) -> None:
    low, high, unit = REFERENCE[code]
    assert code in set(shipped_limits()["code"])
    assert judged(events(*person(1, 50.0, sex), value(1, code, low, unit), value(1, code, high, unit))) == {}


def test_the_table_is_in_order() -> None:
    table = shipped_limits()
    assert table.schema == LIMITS
    assert set(table["kind"]) == {IMPOSSIBLE, IMPLAUSIBLE}
    assert table.filter(pl.col("low") >= pl.col("high")).is_empty()
    assert table.filter(pl.col("age_from") >= pl.col("age_to")).is_empty()
    assert table.filter(pl.col("source").is_null()).is_empty()
    key = ["code", "sex", "age_from", "age_to", "kind"]
    assert table.filter(table.select(key).is_duplicated()).is_empty()
    both = table.filter(kind=IMPLAUSIBLE).join(table.filter(kind=IMPOSSIBLE), on=["code", "unit"], suffix="_possible")
    assert both.filter((pl.col("low") < pl.col("low_possible")) | (pl.col("high") > pl.col("high_possible"))).is_empty()


def test_codes_of_the_other_sex() -> None:
    rows = events(
        *person(1, 50, "F"), *person(2, 50, "M"),
        {"subject_id": 1, "time": NOW, "code": "ICD10CM//C61"},
        {"subject_id": 2, "time": NOW, "code": "ICD10CM//O80"},
        {"subject_id": 2, "time": NOW, "code": "ICD10CM//C61"},
        {"subject_id": 3, "time": NOW, "code": "ICD10CM//C61"},
        {"subject_id": 1, "time": NOW, "code": "ICD10CM//C50.922"},
    )  # fmt: skip
    found = find_other_sex(rows)
    assert found.select("row", "rule", "action").sort("row").rows() == [(4, "sex", "flagged"), (5, "sex", "flagged")]


def test_sex_codes_name_one_sex_each() -> None:
    table = sex_codes()
    assert set(table["sex"]) == {"F", "M"}
    assert table["code"].is_unique().all()
    assert table["source"].is_not_null().all()
