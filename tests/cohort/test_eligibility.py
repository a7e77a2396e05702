"""Rules by hand-made cases: what counts as known, windows and values with their ends, repeated index events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from careloop.cohort import CohortSection
from careloop.cohort.labels import read_facts
from careloop.cohort.select import select_shard

Rows = list[tuple[Any, ...]]


def enters(events: pl.DataFrame, *, index: dict[str, Any] | None = None, **changes: Any) -> list[float]:
    """Days at which subject 1 enters."""
    outcome = {"codes": ["OUT"], "horizon_days": 30, **changes.pop("outcome", {})}
    section = {"index": index or {"code": "INDEX"}, "outcome": outcome, "eligibility": changes}
    times = select_shard(events.lazy(), CohortSection.model_validate(section)).rows["prediction_time"]
    return [(time.timestamp() - 1577836800) / 86400 for time in times]  # days since 2020-01-01


@pytest.mark.parametrize(
    ("row", "criterion", "meets"),
    [
        ((1, -5, "DRUG"), {}, True),
        ((1, -5, "DRUG", None, 0), {}, True),
        ((1, -5, "DRUG", None, 1), {}, False),  # happened before, known after
        ((1, 5, "DRUG", None, -1), {}, True),  # planned, and known to be
        ((1, 5, "DRUG", None, -1), {"window_days": [-30, 0]}, False),
        ((1, None, "DRUG"), {}, True),
        ((1, None, "DRUG"), {"window_days": [-30, 0]}, False),
        ((1, -30, "DRUG"), {"window_days": [-30, -3]}, True),
        ((1, -3, "DRUG"), {"window_days": [-30, -3]}, True),
        ((1, -30.5, "DRUG"), {"window_days": [-30, -3]}, False),
        ((1, -2.5, "DRUG"), {"window_days": [-30, -3]}, False),
        ((1, -5, "DRUG", 0.1), {"value": {"max": 0.1}}, True),  # 0.1 in 32 bits is more than 0.1
        ((1, -5, "DRUG", 0.7), {"value": {"min": 0.7}}, True),  # 0.7 in 32 bits is less than 0.7
        ((1, -5, "DRUG", 0.2), {"value": {"max": 0.1}}, False),
        ((1, -5, "DRUG"), {"value": {"max": 0.1}}, False),
        ((1, -5, "DRUG"), {"at_least": 2}, False),
        ((1, -5, "DRUGS"), {}, False),
        ((1, -5, "DRUGS"), {"codes": ["DRUG*"]}, True),
    ],
)
def test_a_criterion_counts_known_events_in_its_window_and_range(
    events_of: Callable[[Rows], pl.DataFrame], row: tuple[Any, ...], criterion: dict[str, Any], meets: bool
) -> None:
    events = events_of([(1, 0, "INDEX"), row])
    rule = {"codes": ["DRUG"], **criterion}
    assert enters(events, require=[rule]) == ([0] if meets else [])
    assert enters(events, exclude=[rule]) == ([] if meets else [0])


@pytest.mark.parametrize(
    ("rows", "free"),
    [
        ([(1, 5, "OUT")], True),
        ([(1, 0, "OUT")], False),
        ([(1, -5, "OUT", None, 3)], False),  # dated before, known after
        ([(1, 3, "OUT", None, -5)], False),  # known before, dated after
        ([(1, None, "OUT")], False),
        ([(1, 0, "MEDS_DEATH")], False),
        ([(1, 1, "MEDS_DEATH")], True),
    ],
)
def test_a_previous_outcome_or_death_excludes(
    events_of: Callable[[Rows], pl.DataFrame], rows: Rows, free: bool
) -> None:
    assert enters(events_of([(1, 0, "INDEX"), *rows])) == ([0] if free else [])


def test_a_previous_outcome_can_be_allowed(events_of: Callable[[Rows], pl.DataFrame]) -> None:
    assert enters(events_of([(1, -5, "OUT"), (1, 0, "INDEX")]), outcome={"previous": "keep"}) == [0]


@pytest.mark.parametrize(
    ("index", "days"),
    [
        ({"which": "first"}, [0]),
        ({"which": "last"}, [30]),
        ({"which": "every"}, [0, 5, 12, 14, 30]),
        ({"which": "every", "every_days": 7}, [0, 12, 14, 30]),  # stretches 0-7, 7-14, 14-21, 28-35
    ],
)
def test_which_index_events_count(
    events_of: Callable[[Rows], pl.DataFrame], index: dict[str, Any], days: list[float]
) -> None:
    rows = [(1, day, "INDEX") for day in (0, 5, 12, 14, 30, 30)] + [(1, None, "INDEX")]
    assert enters(events_of(rows), index={"code": "INDEX", **index}) == days


def test_the_prediction_time_is_when_the_index_event_became_known(
    events_of: Callable[[Rows], pl.DataFrame],
) -> None:
    assert enters(events_of([(1, 0, "INDEX", None, 9), (1, 2, "INDEX", None, 4)])) == [4]


def test_history_counts_from_the_first_known_event_birth_and_static_facts_aside(
    events_of: Callable[[Rows], pl.DataFrame],
) -> None:
    rows: Rows = [(1, -9000, "MEDS_BIRTH"), (1, None, "SEX"), (1, -90, "VISIT", None, -10), (1, 0, "INDEX")]
    assert enters(events_of(rows), history_days=10) == [0]
    assert enters(events_of(rows), history_days=10.5) == []


def test_facts_hold_only_named_codes_and_leave_out_careloop_s_own_time(
    events_of: Callable[[Rows], pl.DataFrame],
) -> None:
    section = CohortSection.model_validate({"index": {"code": "A"}, "outcome": {"code": "B*", "horizon_days": 1}})
    rows = [(1, 0, "A"), (1, 1, "B1"), (1, 2, "C"), (1, 9, "CARELOOP//PLAN")]
    facts = read_facts(events_of(rows).lazy(), section)
    assert sorted(facts.events["code"]) == ["A", "B1"]
    assert facts.codes == {"A", "B1", "C", "CARELOOP//PLAN"}
    assert facts.spans["follow_up_end"].item().day == 3
