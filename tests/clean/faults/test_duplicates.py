"""Repeated facts, values and texts are found; what rightly repeats itself is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.faults.duplicates import CHANCE, FACT, find_copied_texts, find_copied_values, find_exact, find_near
from careloop.clean.sketch import sketch
from careloop.record import conform

START = datetime(2020, 1, 1, 8, tzinfo=UTC)
PANEL = ("LOINC//2951-2", "LOINC//2823-3", "LOINC//2075-0", "LOINC//17861-6")
MIDDLE = {"LOINC//2951-2": 140.0, "LOINC//2823-3": 4.2, "LOINC//2075-0": 103.0, "LOINC//17861-6": 9.4}


def value(after: timedelta, number: float = 5.0, **cells: Any) -> dict[str, Any]:
    time = START + after
    row = {"subject_id": 1, "time": time, "known_time": time, "code": "LOINC//2823-3", "numeric_value": number}
    return row | {"unit": "mmol/L", "text_value": None, "source": "LAB//a"} | cells


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows), infer_schema_length=None)).with_row_index("row")


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def test_of_equal_facts_the_one_known_first_stays() -> None:
    rows = events(
        value(seconds(0), known_time=START + seconds(90), source="HL7V2//b"),
        value(seconds(0), source="LAB//a"),
        value(seconds(0), number=5.1),
        value(seconds(0), unit=None),
        value(seconds(0), subject_id=2),
        value(seconds(0), code="CARELOOP//PREDICTION//m"),
        value(seconds(0), code="CARELOOP//PREDICTION//m"),
    )
    assert find_exact(rows).select("row", "action").rows() == [(0, "removed")]


def test_two_equal_measurements_of_a_day_are_only_pointed_out() -> None:
    day = {"time": datetime(2020, 1, 2, tzinfo=UTC), "known_time": datetime(2020, 1, 2, tzinfo=UTC)}
    rows = events(value(seconds(0), **day, source="LAB//x/1"), value(seconds(0), **day, source="LAB//x/2"))
    assert find_exact(rows)["action"].to_list() == ["flagged"]
    other_system = events(value(seconds(0), **day, source="LAB//x/1"), value(seconds(0), **day, source="HL7V2//y"))
    assert find_exact(other_system)["action"].to_list() == ["removed"]


facts = st.builds(
    value,
    st.sampled_from([seconds(0), seconds(60), timedelta(hours=16)]),
    st.sampled_from([5.0, 6.0]),
    subject_id=st.integers(1, 2),
    source=st.sampled_from([None, "LAB//a", "HL7V2//b"]),
    known_time=st.sampled_from([START + timedelta(days=2), START + timedelta(days=3)]),
)


@given(st.lists(facts, min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_stays_says_everything_once(rows: list[dict[str, Any]]) -> None:
    before = events(*rows)
    gone = find_exact(before).filter(action="removed")
    left = before.join(gone.select("row"), on="row", how="anti")
    assert sorted(map(repr, left.select(FACT).unique().rows())) == sorted(
        map(repr, before.select(FACT).unique().rows())
    )
    # Of values with a time of day nothing is left to remove; of a day's, one system may well have measured two.
    timed = left.filter(pl.col("time").dt.time() != pl.time(0))
    assert find_exact(timed).is_empty()
    # Nothing is learned later than it was.
    first = before.group_by(FACT).agg(pl.col("known_time").min()).sort(FACT)
    assert left.group_by(FACT).agg(pl.col("known_time").min()).sort(FACT).equals(first)


def test_a_value_sent_again_seconds_later() -> None:
    rows = events(
        value(seconds(0)),
        value(seconds(4), known_time=START + seconds(4)),
        value(seconds(5), number=6.0),
        value(timedelta(hours=1), number=6.0),
        value(timedelta(hours=1, seconds=11), number=6.0),
    )
    found = find_near(rows)
    assert found.select("row", "rule", "action", "evident_time").rows() == [
        (1, "near_duplicate", "flagged", START + seconds(4))
    ]


def test_a_monitor_may_repeat_itself() -> None:
    rows = events(*(value(seconds(i), number=75.0, code="LOINC//8867-4", unit="/min") for i in range(120)))
    assert find_near(rows)["row"].to_list() == [1]  # of the first two nobody can know yet that more follow


def panels(copied: bool, *, patients: int = 60, each: int = 8, seed: int = 5) -> pl.DataFrame:
    """Four electrolytes a day, which hardly ever repeat; patient 0's second panel is the first one's if `copied`."""
    random = np.random.default_rng(seed)
    rows = []
    for subject in range(patients):
        previous: dict[str, float] = {}
        for day in range(each):
            for code in PANEL:
                number = round(MIDDLE[code] * (1 + 0.04 * random.standard_normal()), 2)
                if copied and subject == 0 and day == 1:
                    number = previous[code]
                previous[code] = number
                rows.append(value(timedelta(days=day), number, code=code, subject_id=subject))
    return events(*rows)


def test_a_panel_copied_from_the_day_before() -> None:
    rows = panels(copied=True)
    found = find_copied_values(rows, sketch(rows).pairs)
    assert found["row"].to_list() == [4, 5, 6, 7]
    assert found["rule"].unique().to_list() == ["copy_forward"]
    assert found["evident_time"].unique().to_list() == [START + timedelta(days=1)]
    rows = panels(copied=False)
    assert find_copied_values(rows, sketch(rows).pairs).is_empty()


def test_values_that_often_repeat_are_no_copies() -> None:
    random = np.random.default_rng(2)
    rows = events(
        *(
            value(timedelta(days=day), float(random.integers(0, 2)), code=code, subject_id=subject)
            for subject in range(60)
            for day in range(8)
            for code in PANEL
        )
    )
    assert CHANCE < 2.0**-4  # of four coins: most panels repeat by chance somewhere
    assert find_copied_values(rows, sketch(rows).pairs).is_empty()


def test_a_long_text_copied_forward() -> None:
    text = "Patient comfortable at rest, lungs clear. " * 6
    note = {"code": "DOCUMENT//progress", "numeric_value": None, "unit": None}
    rows = events(
        value(seconds(0), **note, text_value=text),
        value(timedelta(days=1), **note, text_value=text),
        value(timedelta(days=1), **note, text_value=text, subject_id=2),
        value(timedelta(days=2), **note, text_value=text + "New cough."),
        value(timedelta(days=3), **note, text_value="No change."),
        value(timedelta(days=4), **note, text_value="No change."),
    )
    assert find_copied_texts(rows).select("row", "rule", "action").rows() == [(1, "copy_forward", "flagged")]
