"""A goal as arrays: which rows' values were seen, and what they were.

An event is judged by its risk by a horizon, or by the restricted mean survival time (RMST): the mean of the days free
of any event until the horizon (Royston & Parmar 2013, BMC Med Res Methodol 13:152). For the risk a competing event is
"no event"; for the RMST it ends the days free, since an option that kills must not seem to spare patients the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import CENSORED, OUTCOME

Array = np.ndarray
Kind = Literal["event", "rmst", "measure"]


@dataclass(frozen=True)
class EventGoalData:
    """Risk of the outcome by the horizon: `follow_up_days` (n,), `event` (n,) 0 censored, 1 outcome, 2 competing."""

    name: str
    follow_up_days: Array
    event: Array
    horizon_days: float
    better: Literal["lower", "higher"] = "lower"
    kind: Literal["event"] = "event"

    @property
    def limits(self) -> tuple[float, float]:
        """A risk lies between 0 and 1."""
        return 0.0, 1.0

    @property
    def known(self) -> Array:
        """Rows whose status at the horizon is known, (n,) bool."""
        return (self.event != CENSORED) | (self.follow_up_days >= self.horizon_days)

    @property
    def value(self) -> Array:
        """1.0 the outcome by the horizon, 0.0 not; only meaningful where `known`."""
        return ((self.event == OUTCOME) & (self.follow_up_days <= self.horizon_days)).astype(float)

    def take(self, rows: Array) -> EventGoalData:
        """The same goal on some of the rows."""
        return replace(self, follow_up_days=self.follow_up_days[rows], event=self.event[rows])


@dataclass(frozen=True)
class RmstGoalData:
    """Days free of any event until the horizon; arrays as in `EventGoalData`."""

    name: str
    follow_up_days: Array
    event: Array
    horizon_days: float
    better: Literal["lower", "higher"] = "higher"
    kind: Literal["rmst"] = "rmst"

    @property
    def limits(self) -> tuple[float, float]:
        """Days between none and all until the horizon."""
        return 0.0, self.horizon_days

    @property
    def known(self) -> Array:
        """Rows whose days are known: they had an event or were followed to the horizon, (n,) bool."""
        return (self.event != CENSORED) | (self.follow_up_days >= self.horizon_days)

    @property
    def value(self) -> Array:
        """Days free of any event; only meaningful where `known`."""
        return np.minimum(self.follow_up_days, self.horizon_days)

    def take(self, rows: Array) -> RmstGoalData:
        """The same goal on some of the rows."""
        return replace(self, follow_up_days=self.follow_up_days[rows], event=self.event[rows])


@dataclass(frozen=True)
class MeasureGoalData:
    """A numeric measure: `measured` (n,), NaN where it was not taken."""

    name: str
    measured: Array
    better: Literal["lower", "higher"]
    kind: Literal["measure"] = "measure"

    @property
    def limits(self) -> tuple[float, float]:
        """A measure may have any value."""
        return -np.inf, np.inf

    @property
    def known(self) -> Array:
        """Rows where the measure was taken, (n,) bool."""
        return np.isfinite(self.measured)

    @property
    def value(self) -> Array:
        """The measure, 0.0 where it was not taken."""
        return np.where(self.known, self.measured, 0.0)

    def take(self, rows: Array) -> MeasureGoalData:
        """The same goal on some of the rows."""
        return replace(self, measured=self.measured[rows])


SurvivalGoalData = EventGoalData | RmstGoalData
GoalData = EventGoalData | RmstGoalData | MeasureGoalData


def shortfall(goal: GoalData) -> str | None:
    """Why these rows (one arm) cannot tell about the goal: none measured, or none followed to the horizon."""
    if isinstance(goal, MeasureGoalData):
        return None if goal.known.any() else f"measure {goal.name!r} was taken of none of them"
    last = goal.follow_up_days.max()
    if goal.known[goal.follow_up_days == last].all():
        return None
    return f"all follow-up ends by day {last:g}, before the horizon of {goal.horizon_days:g} days"


def require_told(goal: GoalData, arm: Array, options: tuple[str, ...]) -> None:
    """Raise InputError where an arm says nothing about the goal."""
    for a, option in enumerate(options):
        reason = shortfall(goal.take(np.flatnonzero(arm == a)))
        if reason is not None:
            remedy = "drop the goal" if goal.kind == "measure" else "shorten outcome.horizon_days"
            raise InputError(f"every arm must tell about goal {goal.name!r}, but in {option!r} {reason}; {remedy}")
