"""What was seen of a goal, and arms that say nothing about it."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData, RmstGoalData, require_told

DAYS, EVENT = np.array([10.0, 20, 30, 400, 500]), np.array([1, 2, 0, 0, 1])


def test_a_competing_event_is_no_outcome_but_ends_the_days_free() -> None:
    risk, days = EventGoalData("outcome", DAYS, EVENT, 365.0), RmstGoalData("days", DAYS, EVENT, 365.0)
    np.testing.assert_array_equal(risk.known, [True, True, False, True, True])
    np.testing.assert_array_equal(days.known, risk.known)
    np.testing.assert_array_equal(risk.value[risk.known], [1, 0, 0, 0])
    np.testing.assert_array_equal(days.value[days.known], [10, 20, 365, 365])


@pytest.mark.parametrize(
    "goal",
    [
        EventGoalData("outcome", DAYS, EVENT, 365.0),
        RmstGoalData("days", DAYS, EVENT, 365.0),
        MeasureGoalData("score", np.array([1.0, np.nan, 3, 4, 5]), "lower"),
    ],
)
def test_taking_rows_keeps_what_the_goal_is(goal: GoalData) -> None:
    some = goal.take(np.array([0, 2, 4]))
    np.testing.assert_array_equal(some.value, goal.value[[0, 2, 4]])
    assert (some.name, some.kind, some.better, some.limits) == (goal.name, goal.kind, goal.better, goal.limits)


@pytest.mark.parametrize("kind", [EventGoalData, RmstGoalData])
def test_an_arm_that_nobody_is_followed_in_to_the_horizon_is_named(kind: type) -> None:
    arm = np.array([0, 0, 1, 1])
    short = kind("outcome", np.array([500.0, 500, 100, 200]), np.array([0, 0, 1, 0]), 365.0)
    with pytest.raises(InputError, match=r"in 'drug' all follow-up ends by day 200.*shorten outcome.horizon_days"):
        require_told(short, arm, ("control", "drug"))
    # All had an event: nothing is left to be told.
    require_told(kind("outcome", np.array([500.0, 500, 100, 200]), np.array([0, 0, 0, 1]), 365.0), arm, ("a", "b"))


def test_an_arm_in_which_a_measure_was_never_taken_is_named() -> None:
    missing = MeasureGoalData("score", np.array([1.0, 2, np.nan, np.nan]), "higher")
    with pytest.raises(InputError, match="in 'drug' measure 'score' was taken of none"):
        require_told(missing, np.array([0, 0, 1, 1]), ("control", "drug"))
