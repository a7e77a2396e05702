"""Nobody is shown older than 90, and what is shown at any moment does not tell how long somebody lives on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.privacy.ages import cap_stated_ages, without_old_ages
from careloop.record import BIRTH, conform

BORN = datetime(1925, 6, 15, tzinfo=UTC)


def events_at(*days: int) -> pl.DataFrame:
    rows = [{"subject_id": 1, "time": BORN, "known_time": BORN, "code": BIRTH}]
    rows += [{"subject_id": 1, "time": BORN + timedelta(days=d), "code": "A", "numeric_value": float(d)} for d in days]
    return conform(pl.DataFrame(rows, infer_schema_length=None))


def shown(events: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str], Counter[str]]:
    removed: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    return without_old_ages(events, removed, changed), removed, changed


def test_followed_to_the_ninetieth_birthday_only() -> None:
    after, removed, changed = shown(events_at(30_000, 32_870, 32_871, 33_500))
    assert after.filter(code="A")["numeric_value"].to_list() == [30_000, 32_870]
    assert after.filter(code=BIRTH)["time"].to_list() == [BORN]
    assert removed["after the 90th birthday"] == 2
    assert changed["birth moved, first known at 90 or older"] == 0


@pytest.mark.parametrize("first", [32_900, 34_000, 38_000])
def test_first_known_past_ninety_is_ninety_then_whatever_the_age(first: int) -> None:
    after, removed, changed = shown(events_at(first, first + 400))
    birth = after.filter(code=BIRTH)["time"][0]
    assert (BORN + timedelta(days=first)) - birth == timedelta(days=32_873)
    assert after.filter(code="A").height == 2  # times stay, so that intervals are exact
    assert +removed == Counter()
    assert changed["birth moved, first known at 90 or older"] == 1


def test_without_a_birth_nothing_is_dropped() -> None:
    events = events_at(40_000).filter(pl.col("code") != BIRTH)
    assert shown(events)[0].equals(events)


@settings(max_examples=60, deadline=None)
@given(days=st.lists(st.integers(31_000, 36_000), min_size=1, max_size=8), cut=st.integers(31_000, 36_000))
def test_what_comes_later_changes_nothing_before(days: list[int], cut: int) -> None:
    early = [day for day in days if day <= cut]
    if not early:
        return
    moment = BORN + timedelta(days=cut)
    whole = shown(events_at(*days))[0].filter((pl.col("time") <= moment) | (pl.col("code") == BIRTH))
    part = shown(events_at(*early))[0]
    assert whole.sort(pl.all()).equals(part.sort(pl.all()))


@pytest.mark.parametrize(
    ("code", "value", "unit", "expected"),
    [
        ("AGE", 89.0, "years", 89.0),
        ("AGE", 89.5, "a", 90.0),
        ("AGE", 104.0, None, 90.0),
        ("LOINC//30525-0", 97.0, "a", 90.0),
        ("AGE", 1100.0, "mo", None),  # in months none is judged, so none is shown
        ("LOINC//2160-0", 104.0, "a", 104.0),
    ],
)
def test_stated_ages(code: str, value: float, unit: str | None, expected: float | None) -> None:
    rows = {"subject_id": [1], "time": [BORN], "code": [code], "numeric_value": [value], "unit": [unit]}
    events = conform(pl.DataFrame(rows, schema_overrides={"unit": pl.String}).with_columns(text_value=pl.lit("so old")))
    after = cap_stated_ages(events)
    assert after["numeric_value"][0] == expected
    assert after["text_value"][0] == ("so old" if code == "LOINC//2160-0" else None)
