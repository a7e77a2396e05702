"""Findings: applied with notes, and undone to the very rows there were."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.findings import FINDINGS, NOTE, apply_findings, findings, restore, together
from careloop.record import conform

START = datetime(2024, 1, 1, tzinfo=UTC)
TEXT = st.sampled_from([None, "", "a", 'quote " and \\', "ümlaut\n", "CARELOOP//"])


def event(subject: int, code: str, value: float | None, **cells: object) -> dict[str, object]:
    row = {"subject_id": subject, "time": START, "known_time": None, "code": code, "numeric_value": value}
    return row | {"unit": "u", "text_value": None, "asset": None, "source": "S//1"} | cells


rows_of_events = st.lists(
    st.builds(
        event,
        st.integers(1, 2),
        st.sampled_from(["A", "B"]),
        st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
        time=st.sampled_from([None, START, START + timedelta(microseconds=1), datetime(1850, 1, 1, tzinfo=UTC)]),
        unit=TEXT,
        text_value=TEXT,
        source=st.sampled_from([None, "S//1", "S//2"]),
    ),
    min_size=1,
    max_size=8,
)
steps = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.sampled_from(["r1", "r2"]),
            st.sampled_from(["changed", "removed", "flagged"]),
            st.sampled_from([None, 0.1, 7.0]),
            st.sampled_from([None, "v"]),
            st.sampled_from([None, START + timedelta(days=1)]),
        ),
        max_size=5,
    ),
    max_size=4,
)


def multiset(frame: pl.DataFrame) -> list[str]:
    return sorted(map(repr, frame.rows()))


def step_findings(rows: list[tuple[object, ...]], prefix: str) -> pl.DataFrame:
    found = []
    for row, rule, action, value, unit, known in rows:
        cells = {"row": [row], "after_numeric_value": [value], "after_unit": [unit], "after_known_time": [known]}
        frame = pl.DataFrame(cells, schema_overrides={name: FINDINGS[name] for name in cells})
        found.append(findings(frame, f"{prefix}{rule}", action))  # type: ignore[arg-type]
    return together(found)


@given(rows_of_events, steps)
@settings(max_examples=150, deadline=None)
def test_restore_gives_every_row_back(rows: list[dict[str, object]], plan: list[list[tuple[object, ...]]]) -> None:
    before = conform(pl.DataFrame(rows, infer_schema_length=None)).with_columns(source_time=pl.col("time"))
    facts, notes = before.with_row_index("row"), []
    for step, found in enumerate(plan):
        facts, written = apply_findings(facts, step_findings(found, f"s{step}"), step=step)
        notes.append(written)
    after = pl.concat([facts.drop("row"), *notes])
    assert multiset(restore(after)) == multiset(before)
    # In another order of rows, as a record may store them, too.
    assert multiset(restore(after.reverse())) == multiset(before)


@given(rows_of_events, steps, st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_undoing_a_rule_leaves_what_came_before_it(
    rows: list[dict[str, object]], plan: list[list[tuple[object, ...]]], undone: int
) -> None:
    before = conform(pl.DataFrame(rows, infer_schema_length=None)).with_columns(subject_id=pl.lit(1, dtype=pl.Int64))
    # One source row for each event, so that undoing reaches just those that the rule touched.
    before = before.with_columns(source=pl.int_range(pl.len()).cast(pl.String))
    facts, notes, states = before.with_row_index("row"), [], []
    for step, found in enumerate(plan):
        states.append(facts)
        facts, written = apply_findings(facts, step_findings(found, f"s{step}"), step=step)
        notes.append(written)
    after = pl.concat([facts.drop("row"), *notes])
    partly = restore(after, [f"s{undone}r1", f"s{undone}r2"])
    touched = {row[0] for row in plan[undone]} if undone < len(plan) else set()
    for number in range(before.height):
        source = pl.col("source") == str(number)
        own = partly.filter(source & ~pl.col("code").str.starts_with(NOTE))
        then = states[undone] if number in touched and undone < len(plan) else facts
        assert multiset(own) == multiset(then.filter(source).drop("row"))
    assert multiset(restore(partly)) == multiset(before)


def test_a_note_says_what_was_and_what_is() -> None:
    events = conform(pl.DataFrame([event(1, "LOINC//1", 5.0)])).with_row_index("row")
    cells = pl.DataFrame({"row": [0], "after_numeric_value": [90.078], "after_unit": ["mg/dL"]})
    after, notes = apply_findings(events, findings(cells, "unit", "changed"), step=1)
    assert after.select("numeric_value", "unit").row(0) == (pytest.approx(90.078), "mg/dL")
    note = notes.row(0, named=True)
    assert (note["code"], note["source"], note["known_time"]) == ("CARELOOP//NOTE//unit", "S//1", START)
    text = json.loads(note["text_value"])
    assert (text["action"], text["row"]["numeric_value"], text["row"]["unit"]) == ("changed", 5.0, "u")
    assert text["now"]["unit"] == "mg/dL"


def test_a_note_is_known_when_the_finding_is() -> None:
    events = conform(pl.DataFrame([event(1, "A", 5.0), event(1, "GENDER//F", None, time=None)])).with_row_index("row")
    later = START + timedelta(days=3)
    cells = pl.DataFrame(
        {"row": [0, 1], "evident_time": [later, None]}, schema_overrides={"evident_time": pl.Datetime("us", "UTC")}
    )
    after, notes = apply_findings(events, findings(cells, "after_death", "flagged"), step=0)
    assert notes["known_time"].to_list() == [later, None]
    assert after.equals(events)


def test_a_later_correction_of_the_source_row_takes_event_and_note_along() -> None:
    events = conform(pl.DataFrame([event(1, "A", 5.0), event(1, "A", 7.0, source="S//2")])).with_row_index("row")
    cells = pl.DataFrame({"row": [0, 1], "after_numeric_value": [50.0, 70.0]})
    facts, notes = apply_findings(events, findings(cells, "unit", "changed"), step=0)
    cleaned = pl.concat([facts.drop("row"), notes])
    corrected = conform(pl.DataFrame([event(1, "A", 6.0)]))
    newer = pl.concat([cleaned.filter(pl.col("source") != "S//1"), corrected])
    assert multiset(restore(newer)) == multiset(pl.concat([corrected, events.drop("row").slice(1)]))


def test_a_note_without_its_row_stays_and_invents_nothing() -> None:
    events = conform(pl.DataFrame([event(1, "A", 5.0)])).with_row_index("row")
    cells = pl.DataFrame({"row": [0], "after_numeric_value": [50.0]})
    facts, notes = apply_findings(events, findings(cells, "unit", "changed"), step=0)
    altered = pl.concat([facts.drop("row").with_columns(numeric_value=pl.lit(51.0, dtype=pl.Float32)), notes])
    assert multiset(restore(altered)) == multiset(altered)
