"""Time travel planted by hand is found, and what only looks like it is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.clean.faults.times import (
    calendar,
    find_before_order,
    find_known_early,
    find_off_calendar,
    find_outside_life,
    swap_day_and_month,
)
from careloop.clean.sketch import sketch
from careloop.record import conform

LAB, DRUG = "LOINC//2345-7", "RXNORM//6809"


def at(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[arg-type]


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Events of subject 1, numbered by `row`; a lab has the value 5."""
    full = [{"subject_id": 1, "known_time": None} | row for row in rows]
    value = [5.0 if row["code"] == LAB and "text_value" not in row else None for row in full]
    frame = pl.DataFrame(full, infer_schema_length=None, schema_overrides={"known_time": pl.Datetime("us", "UTC")})
    return conform(frame.with_columns(numeric_value=pl.Series(value, dtype=pl.Float32))).with_row_index("row")


def lab(time: datetime | None, known: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"code": LAB, "time": time, "known_time": known} | more


def test_a_result_known_before_it_was_measured_is_known_when_it_was() -> None:
    rows = events(
        lab(at(2020, 5, 5, 12), at(2020, 5, 3, 12)),
        lab(at(2020, 5, 5, 12), at(2020, 5, 5, 13)),
        lab(at(2020, 5, 5), at(2020, 5, 5)),
        {"code": DRUG, "time": at(2020, 5, 9), "known_time": at(2020, 5, 1), "text_value": "ordered"},
        {"code": "MEDS_DEATH", "time": at(2020, 6, 9), "known_time": at(2020, 6, 1)},
        {"code": "VISIT_START//IMP", "time": at(2020, 6, 9), "known_time": at(2020, 6, 1)},
        # A date stands for all of its day.
        lab(at(2020, 5, 6), at(2020, 5, 5, 23)),
    )
    found = find_known_early(rows).sort("row")
    assert found.select("row", "action").rows() == [(0, "changed"), (4, "flagged"), (6, "changed")]
    assert found["after_known_time"].to_list() == [at(2020, 5, 5, 12), None, at(2020, 5, 6)]


def test_before_birth_and_after_death_with_a_day_to_spare() -> None:
    rows = events(
        {"code": "MEDS_BIRTH", "time": at(1950, 3, 4)},
        {"code": "MEDS_DEATH", "time": at(2020, 3, 4), "known_time": at(2020, 3, 6)},
        lab(at(1949, 12, 24)),
        lab(at(1950, 3, 3, 12)),
        lab(at(2020, 3, 5)),
        lab(at(2020, 3, 8)),
        {"code": "REPORT//autopsy", "time": at(2020, 3, 9)},
        {"code": "FAMILY//mother//ICD10CM//C50.9", "time": at(1940, 1, 1)},
        lab(None),
    )
    found = find_outside_life(rows).sort("row")
    assert found.select("row", "rule", "action").rows() == [
        (2, "before_birth", "flagged"),
        (5, "after_death", "flagged"),
    ]


def test_a_contradiction_is_known_when_both_of_its_facts_are() -> None:
    birth_known, death_known = at(1960, 1, 1), at(2020, 9, 9)
    rows = events(
        {"code": "MEDS_BIRTH", "time": at(1950, 3, 4), "known_time": birth_known},
        {"code": "MEDS_DEATH", "time": at(2020, 3, 4), "known_time": death_known},
        lab(at(1940, 1, 1)),
        lab(at(2020, 4, 1)),
    )
    assert find_outside_life(rows).sort("row")["evident_time"].to_list() == [birth_known, death_known]


def test_exchanged_day_and_month_are_suggested() -> None:
    # 3 April was written 4 March, the day before the birth.
    rows = events({"code": "MEDS_BIRTH", "time": at(2020, 3, 20)}, lab(at(2020, 3, 4, 9), at(2020, 5, 1)))
    found = find_outside_life(rows)
    assert found["after_time"].to_list() == [at(2020, 4, 3, 9)]
    assert found["action"].to_list() == ["flagged"]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)))
def test_day_and_month_twice_exchanged_is_the_same_time(time: datetime) -> None:
    frame = pl.DataFrame({"time": [time.replace(tzinfo=UTC)]}, schema={"time": pl.Datetime("us", "UTC")})
    once = frame.select(time=swap_day_and_month(pl.col("time")))
    if time.day > 12 or time.day == time.month:
        assert once["time"].to_list() == [None]
    else:
        expected = time.replace(day=time.month, month=time.day, tzinfo=UTC)
        assert once["time"].to_list() == [expected]
        assert once.select(swap_day_and_month(pl.col("time"))).item() == frame.item()


def order(time: datetime, code: str = LAB, **more: Any) -> dict[str, Any]:
    return {"code": code, "time": time, "text_value": "ordered"} | more


def test_a_result_days_before_its_order() -> None:
    rows = events(
        order(at(2020, 1, 1)),
        lab(at(2020, 1, 2)),
        order(at(2020, 2, 10), known_time=at(2020, 2, 11)),
        lab(at(2020, 2, 3)),
        order(at(2020, 3, 1), DRUG),
        {"code": DRUG, "time": at(2020, 2, 20), "text_value": "administered"},
    )
    found = find_before_order(rows).sort("row")
    assert found.select("row", "rule", "action").rows() == [
        (3, "before_order", "flagged"),
        (5, "before_order", "flagged"),
    ]
    assert found["evident_time"].to_list() == [at(2020, 3, 12), at(2020, 4, 1)], "a month after the order"
    by_role = events({"code": f"ORDER//{LAB}", "time": at(2020, 1, 9)}, lab(at(2020, 1, 2)))
    assert find_before_order(by_role)["row"].to_list() == [1]


def test_what_is_no_result_before_its_order() -> None:
    urgent = [order(at(2020, 1, 1, 12)), lab(at(2020, 1, 1, 9))]
    another_patient = [order(at(2020, 1, 9)), lab(at(2020, 1, 1), subject_id=2)]
    no_pairs = [order(at(2020, 1, 9)), lab(at(2020, 1, 1)), lab(at(2020, 1, 10))]
    for rows in (urgent, another_patient, no_pairs, [lab(at(2020, 1, 1))], [order(at(2020, 1, 1))]):
        assert find_before_order(events(*rows)).is_empty()


def test_off_the_calendar_are_few_events_years_away() -> None:
    usual = [lab(at(2010, 1, 1) + timedelta(days=3 * i)) for i in range(1200)]
    stray = [lab(at(1900, 1, 1)), lab(at(2099, 12, 31)), {"code": "MEDS_BIRTH", "time": at(1931, 1, 1)}]
    rows = events(*usual, *stray[:1], *stray[2:])
    found = find_off_calendar(rows, sketch(rows).months)
    assert found.select("row", "rule", "action").rows() == [(1200, "off_calendar", "flagged")]
    rows = events(*usual, stray[1])
    assert find_off_calendar(rows, sketch(rows).months)["row"].to_list() == [1200]


@pytest.mark.parametrize("gap_years", [1, 5])
def test_a_second_part_of_the_record_is_on_the_calendar(gap_years: int) -> None:
    first = [lab(at(2005, 1, 1) + timedelta(days=3 * i)) for i in range(300)]
    second = [lab(at(2008 + gap_years, 1, 1) + timedelta(days=3 * i)) for i in range(300)]
    rows = events(*first, *second)
    assert find_off_calendar(rows, sketch(rows).months).is_empty()


def test_a_record_without_times_has_no_calendar() -> None:
    rows = events(lab(None))
    assert calendar(sketch(rows).months) is None
    assert find_off_calendar(rows, sketch(rows).months).is_empty()
