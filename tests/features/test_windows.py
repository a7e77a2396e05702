"""Aggregations of a window against closed forms and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.features.windows import AGGREGATIONS, MICROSECONDS_A_DAY, Groups

DAY = MICROSECONDS_A_DAY


def groups_of(*groups: list[tuple[int, float]]) -> Groups:
    facts = [fact for group in groups for fact in group]
    ages, values = (np.array(column) for column in zip(*facts, strict=True))
    return Groups(ages.astype(np.int64), values.astype(np.float32), np.array([len(group) for group in groups]))


def test_a_window_is_open_at_its_old_end_and_closed_at_the_prediction_time() -> None:
    groups = groups_of([(30 * DAY, 1), (30 * DAY - 1, 2), (0, 3)], [(31 * DAY, 4)], [(0, 5)])
    kept, recent = groups.within(30)
    assert kept.tolist() == [0, 2]
    assert recent.values.tolist() == [2, 3, 5]
    assert recent.sizes.tolist() == [2, 1]


def test_slope_equals_a_line_per_day_and_needs_two_times() -> None:
    groups = groups_of([(10 * DAY, 1), (5 * DAY, 2), (0, 3)], [(DAY, 1), (DAY, 9)], [(0, 1)])
    slope = AGGREGATIONS["slope"](groups)
    assert slope[0] == pytest.approx(0.2, rel=1e-12)
    assert np.isnan(slope[1:]).all()


@given(
    st.lists(st.tuples(st.integers(0, 40 * DAY), st.floats(-1e3, 1e3, width=32)), min_size=2, max_size=20),
)
def test_slope_agrees_with_numpy_polyfit(facts: list[tuple[int, float]]) -> None:
    facts = sorted(facts, key=lambda fact: -fact[0])
    ages = np.array([age for age, _ in facts])
    if ages[0] - ages[-1] < DAY:  # polyfit itself is badly conditioned on times so close together
        return
    days = (ages[-1] - ages) / DAY
    expected = np.polyfit(days - days.mean(), [value for _, value in facts], 1)[0]
    assert AGGREGATIONS["slope"](groups_of(facts))[0] == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_slope_keeps_its_digits_for_old_facts_close_together_and_for_large_values() -> None:
    # Three values a minute apart, 80 years ago, on top of ten million: exactly 1 per minute = 1440 per day.
    minute, old = 60_000_000, 80 * 365 * DAY
    facts = [(old + 2 * minute, 1e7), (old + minute, 1e7 + 1), (old, 1e7 + 2)]
    assert AGGREGATIONS["slope"](groups_of(facts))[0] == pytest.approx(1440, rel=1e-12)


def test_every_other_aggregation_on_a_group_of_three() -> None:
    groups = groups_of([(3 * DAY, 5), (2 * DAY, 1), (DAY, 3)])
    got = {name: float(function(groups)[0]) for name, function in AGGREGATIONS.items()}
    expected = {"first": 5, "last": 3, "min": 1, "max": 5, "mean": 3, "slope": -1, "count": 3, "present": 1}
    assert got == pytest.approx({**expected, "time_since": 1})
