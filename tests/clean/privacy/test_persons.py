"""Birth, death and sex of each event's subject, as they were known first."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from careloop.clean.privacy.persons import ALWAYS, age_years, known_by_then, with_persons
from careloop.record import BIRTH, DEATH, conform


def at(year: int, month: int = 1) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


EVENTS = conform(
    pl.DataFrame(
        [
            {"subject_id": 1, "time": at(1950), "known_time": at(2001), "code": BIRTH},
            {
                "subject_id": 1,
                "time": at(1960),
                "known_time": at(2003),
                "code": BIRTH,
            },  # said later: counts for nothing
            {"subject_id": 1, "time": at(2010), "known_time": at(2012), "code": DEATH},
            {"subject_id": 1, "time": None, "known_time": None, "code": "GENDER//F"},
            {"subject_id": 2, "time": None, "known_time": None, "code": "GENDER//other"},
            {"subject_id": 1, "time": at(2000), "known_time": at(2000), "code": "A"},
            {"subject_id": 1, "time": at(2011), "known_time": at(2011), "code": "A"},
            {"subject_id": 2, "time": at(2011), "known_time": at(2011), "code": "A"},
        ]
    )
)


def test_what_was_known_first_counts() -> None:
    rows = with_persons(EVENTS.filter(code="A"), EVENTS)
    assert rows.select("birth", "birth_known", "death", "death_known", "sex").rows() == [
        (at(1950), at(2001), at(2010), at(2012), "F"),
        (at(1950), at(2001), at(2010), at(2012), "F"),
        (None, None, None, None, None),
    ]
    assert rows.filter(pl.col("sex_known") == ALWAYS).height == 2
    assert rows.columns[: EVENTS.width] == EVENTS.columns


def test_a_fact_is_used_from_when_it_was_known() -> None:
    rows = with_persons(EVENTS.filter(code="A"), EVENTS)
    known = rows.select(birth=known_by_then("birth"), death=known_by_then("death"), sex=known_by_then("sex"))
    assert known.rows() == [(False, False, True), (True, False, True), (None, None, None)]


def test_ages_are_in_years() -> None:
    ages = with_persons(EVENTS.filter(code="A"), EVENTS).select(age_years().round(2)).to_series()
    assert ages.to_list() == [50.0, 61.0, None]
