"""Options are held back after ranking: no silent jump to the next, and every option says why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from careloop.plan.safety import Finding, finding_table, unchecked, withhold
from careloop.plan.safety.apply import CLEAR, NOT_LISTED

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = (1, NOW)
OPTIONS = ("a", "b", "c")


def table(
    *, ranks: tuple[int | None, ...] = (1, 2, 3), recommended: str | None = "a", subject: int = 1
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": [subject] * 3,
            "prediction_time": [NOW] * 3,
            "option": OPTIONS,
            "rank": ranks,
            "expected": [0.1, 0.2, 0.3],
            "recommended": [option == recommended for option in OPTIONS],
            "abstained": [recommended is None] * 3,
            "reason": ["best of all" if option == recommended else "" for option in OPTIONS],
        },
        schema_overrides={"rank": pl.Int32(), "prediction_time": pl.Datetime("us", "UTC"), "subject_id": pl.Int64()},
    )


def finding(option: str, severity: Any) -> Finding:
    return Finding(option, "drug", "allergy", severity, "rule-1", "It harms.", "Stop.", ("fact",), "Label, 4", "1")


def applied(plan: pl.DataFrame, **severities: str) -> pl.DataFrame:
    found = {option: [finding(option, severities[option])] if option in severities else [] for option in OPTIONS}
    return withhold(plan, {KEY: found})


def test_without_findings_the_plan_stays() -> None:
    plan = table()
    after = applied(plan)
    assert after.drop("status", "safety").equals(plan)
    assert after["status"].to_list() == ["offered"] * 3
    assert after["safety"].to_list() == [[CLEAR]] * 3


@pytest.mark.parametrize(("severity", "status"), [("block", "withheld"), ("ask", "ask")])
def test_a_recommended_option_that_is_held_back_makes_the_row_abstain(severity: str, status: str) -> None:
    after = applied(table(), a=severity)
    assert after["status"].to_list() == [status, "offered", "offered"]
    assert after["rank"].to_list() == [None, 1, 2]
    assert not after["recommended"].any()
    assert after["abstained"].all()
    reason = after["reason"][0]
    assert reason.startswith("a would be recommended, but is ")
    assert "It harms (fact). Stop. [Label, 4; rule-1]" in reason or "It harms. Stop. [Label, 4; rule-1]" in reason
    assert reason.endswith("b comes next, and needs a decision of its own")


def test_holding_back_another_option_leaves_the_recommendation() -> None:
    after = applied(table(), b="block")
    assert after["recommended"].to_list() == [True, False, False]
    assert after["rank"].to_list() == [1, None, 2]
    assert after["reason"].to_list() == ["best of all", "", ""]
    assert not after["abstained"].any()


def test_a_caution_puts_the_option_behind_those_without() -> None:
    after = applied(table(), a="caution")
    assert after["status"].to_list() == ["demoted", "offered", "offered"]
    assert after["rank"].to_list() == [3, 1, 2]
    assert not after["recommended"].any()
    assert "a would be recommended, but is demoted" in after["reason"][0]


def test_a_caution_for_all_changes_no_order() -> None:
    after = applied(table(), a="caution", b="caution", c="caution")
    assert after["rank"].to_list() == [1, 2, 3]
    assert after["recommended"].to_list() == [True, False, False]


def test_info_only_shows() -> None:
    after = applied(table(), a="info")
    assert after["status"][0] == "offered"
    assert after["recommended"][0]
    assert after["safety"][0].to_list() == ["drug: It harms (fact). Stop. [Label, 4; rule-1]"]


def test_nothing_is_left() -> None:
    after = applied(table(), a="block", b="block", c="ask")
    assert after["rank"].null_count() == 3
    assert after["reason"][0].endswith("no option is left")


def test_options_without_rank_and_rows_that_abstained_keep_their_reason() -> None:
    after = applied(table(ranks=(2, 1, None), recommended=None), b="caution")
    assert after["rank"].to_list() == [1, 2, None]
    assert after["abstained"].all()
    assert after["reason"].to_list() == ["", "", ""]


def test_what_was_not_checked_is_asked() -> None:
    after = withhold(table(), {KEY: {"a": [], "b": []}})
    assert after["status"].to_list() == ["offered", "offered", "ask"]
    assert after["safety"][2].to_list() == [NOT_LISTED]
    nobody = withhold(table(), {})
    assert nobody["status"].to_list() == ["ask"] * 3
    assert nobody["abstained"].all()


def test_rows_of_several_patients_keep_their_order_and_do_not_mix() -> None:
    both = pl.concat([table(subject=2), table()])
    clear = {option: [] for option in OPTIONS}
    after = withhold(both, {KEY: clear, (2, NOW): {**clear, "a": [finding("a", "block")]}})
    assert after["subject_id"].to_list() == [2, 2, 2, 1, 1, 1]
    assert after["recommended"].to_list() == [False, False, False, True, False, False]
    assert after["rank"].to_list() == [None, 1, 2, 1, 2, 3]


def test_finding_table() -> None:
    rows = finding_table({KEY: {"a": [finding("a", "block"), finding("a", "info")], "b": []}})
    assert rows["severity"].to_list() == ["block", "info"]
    assert rows["facts"].to_list() == [["fact"], ["fact"]]
    assert finding_table({}).height == 0


def test_unchecked_rows_stand_beside_checked_ones() -> None:
    both = pl.concat([applied(table()), unchecked(table(subject=2))])
    assert both["status"].to_list() == ["offered"] * 3 + [None] * 3
    assert both["safety"].null_count() == 3
    assert both["recommended"].to_list() == [True, False, False] * 2
