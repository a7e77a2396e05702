"""Decisions on plans: only those that fit the plan are written, once, and read back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.plan.decisions import DECISIONS, Decision, decision_frame, record_decision, recorded_decisions
from careloop.plan.events import decision_events
from careloop.record import EVENTS, Record

MOMENT, LATER = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, 9, tzinfo=UTC)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """One subject with a plan of three options, b recommended; a second subject whose plan recommends nothing."""
    rows = [
        {"subject_id": subject, "time": MOMENT, "code": f"CARELOOP//PLAN//study//{option}",
         "text_value": f'{{"recommended":{str(subject == 1 and option == "b").lower()}}}'}
        for subject in (1, 2) for option in "abc"
    ]  # fmt: skip
    birth = pl.DataFrame(
        {"subject_id": [1, 2], "time": [datetime(1960, 1, 1, tzinfo=UTC)] * 2, "code": ["MEDS_BIRTH"] * 2}
    )
    record = Record.create(tmp_path / "record", shards=1).append(birth, key="facts")
    return record.append(pl.DataFrame(rows), key="plans", origin="careloop")


def decided(record: Record, **changes: object) -> Record:
    fields = {"plan": "study", "subject_id": 1, "prediction_time": MOMENT, "action": "accept", "at": LATER, **changes}
    return record_decision(record.path, Decision(**fields))  # type: ignore[arg-type]


def test_accepting_takes_the_recommended_option_and_the_same_again_changes_nothing(record: Record) -> None:
    first = decided(record, actor="Dr. 王")
    assert decided(record, actor="Dr. 王").version == first.version
    found = recorded_decisions(first, plan="study")
    assert found.schema == DECISIONS
    assert found.row(0, named=True) == {
        "subject_id": 1, "prediction_time": MOMENT, "plan": "study", "action": "accept", "chosen": "b",
        "recommended": "b", "reason": None, "actor": "Dr. 王", "at": LATER,
    }  # fmt: skip
    assert Record.open(record.path).facts_version == record.facts_version  # a decision is no new input of a study


def test_the_latest_decision_counts_and_beats_what_treatments_show(record: Record) -> None:
    decided(record, action="change", chosen="a", reason="allergy to b")
    decided(record, action="reject", reason="patient declined", at=datetime(2024, 5, 3, tzinfo=UTC))
    given_c = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [MOMENT] * 2, "treatment": ["c", "a"]})
    seen = decision_events(
        given_c.with_columns(pl.col("prediction_time").cast(EVENTS["time"])),
        name="study",
        known_time=datetime(2025, 1, 1),
    )
    now = Record.open(record.path).append(seen, key="seen", origin="careloop")
    found = recorded_decisions(now, plan="study").select("subject_id", "action", "chosen", "reason").rows()
    assert found == [(1, "reject", None, "patient declined"), (2, "observed", "a", None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "accept", "chosen": "c"}, "recommends b; use change, with a reason, for c"),
        ({"action": "change", "chosen": "c"}, "needs a reason"),
        ({"action": "reject", "reason": "  "}, "needs a reason"),
        ({"action": "change", "reason": "why"}, "needs the option chosen, one of a, b, c"),
        ({"action": "change", "chosen": "d", "reason": "why"}, "options are a, b, c; got 'd'"),
        ({"action": "reject", "chosen": "a", "reason": "why"}, "use change"),
        ({"subject_id": 2}, "recommends no option"),
        ({"subject_id": 3}, "no plan 'study' for subject 3"),
        ({"plan": "other"}, "no plan 'other'"),
    ],
)
def test_a_decision_that_does_not_fit_the_plan_is_refused(record: Record, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decided(record, **changes)
    assert recorded_decisions(Record.open(record.path), plan="study").is_empty()


@settings(max_examples=50)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_reason_and_actor_come_back_as_written(reason: str, actor: str) -> None:
    decision = Decision("study", 1, MOMENT, "change", LATER, "a", reason, actor)
    text = decision_frame([(decision, "b")])["text_value"]
    back = text.str.json_decode(pl.Struct({"reason": pl.String, "actor": pl.String})).struct.unnest().row(0)
    assert back == (reason, actor)
