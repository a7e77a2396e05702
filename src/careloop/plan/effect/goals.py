"""A goal as arrays, and the completed value that stands in for one not seen because of censoring or a missing measure.

For every row `complete` returns a value whose mean given covariates and arm is that of the true value:

- an event by the horizon, censored at C with P(C >= t) = G(t) in the arm (Rubin & van der Laan 2007, Int J Biostat
  3:5; Robins & Rotnitzky 1992): known * Y / G(T-) + integral of Q(u) / G(u) dM_C(u), where Q(u) is the chance of the
  event by the horizon for a patient free of any event at u and M_C is the censoring martingale. A competing event is
  "no event".
- a measure R-observed with probability r: m + R / r * (Y - m).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate import aalen_johansen, horizon_weights, kaplan_meier
from careloop.evaluate.censoring import CENSORED, OUTCOME

GRID_POINTS = 64  # steps of the working model Q(u); its coarseness costs precision only, never bias
KNOWN_FLOOR = 0.05  # smallest probability of a seen measure that a weight is built on: no row counts more than 20-fold

Array = np.ndarray


@dataclass(frozen=True)
class EventGoalData:
    """Risk of the outcome by the horizon: `follow_up_days` (n,), `event` (n,) 0 censored, 1 outcome, 2 competing."""

    name: str
    follow_up_days: Array
    event: Array
    horizon_days: float
    better: Literal["lower", "higher"] = "lower"
    kind: Literal["event", "measure"] = "event"

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
        return EventGoalData(self.name, self.follow_up_days[rows], self.event[rows], self.horizon_days)


@dataclass(frozen=True)
class MeasureGoalData:
    """A numeric measure: `measured` (n,), NaN where it was not taken."""

    name: str
    measured: Array
    better: Literal["lower", "higher"]
    kind: Literal["event", "measure"] = "measure"

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
        return MeasureGoalData(self.name, self.measured[rows], self.better)


GoalData = EventGoalData | MeasureGoalData


@dataclass(frozen=True)
class FollowUp:
    """Curves of one arm at the distinct times of its follow-up cut at the horizon, each (k,)."""

    times: Array
    censoring_hazard: Array  # share of those still followed who are censored at each time
    uncensored: Array  # P(C > t), by Kaplan-Meier
    event_free: Array  # P(no event of any kind by t)
    risk: Array  # P(outcome by t), by Aalen-Johansen


def follow_up_curves(goal: EventGoalData) -> FollowUp:
    """Curves of the rows given; at a tie events come before censorings, and the horizon itself is reached."""
    cut = np.minimum(goal.follow_up_days, goal.horizon_days)
    event = np.where(goal.follow_up_days <= goal.horizon_days, goal.event, CENSORED)
    times, risk = aalen_johansen(cut, event)
    position = np.searchsorted(times, cut)
    leaving, happened = np.bincount(position), np.bincount(position, weights=event != CENSORED)
    censored = np.bincount(position, weights=~goal.known)
    still_followed = leaving[::-1].cumsum()[::-1] - happened
    hazard = np.divide(censored, still_followed, out=np.zeros(len(times)), where=censored > 0)
    return FollowUp(times, hazard, np.cumprod(1.0 - hazard), kaplan_meier(cut, event)[1], risk)


def shortfall(goal: GoalData) -> str | None:
    """Why these rows (one arm) cannot tell about the goal: none measured, or none followed to the horizon."""
    if isinstance(goal, MeasureGoalData):
        return None if goal.known.any() else f"measure {goal.name!r} was taken of none of them"
    if follow_up_curves(goal).uncensored[-1] > 0:
        return None
    return f"all follow-up ends by day {goal.follow_up_days.max():g}, before the horizon of {goal.horizon_days:g} days"


def require_told(goal: GoalData, arm: Array, options: tuple[str, ...]) -> None:
    """Raise InputError where an arm says nothing about the goal."""
    for a, option in enumerate(options):
        reason = shortfall(goal.take(np.flatnonzero(arm == a)))
        if reason is not None:
            remedy = "shorten outcome.horizon_days" if goal.kind == "event" else "drop the goal"
            raise InputError(f"every arm must tell about goal {goal.name!r}, but in {option!r} {reason}; {remedy}")


def known_weights(goal: GoalData, arm: Array) -> Array:
    """1 / probability of being known for known rows, else 0, (n,): censoring within arm; 1 for a measure taken."""
    weights = goal.known.astype(float)
    if isinstance(goal, EventGoalData):
        for a in np.unique(arm):
            rows = np.flatnonzero(arm == a)
            own = goal.take(rows)
            weights[rows] = horizon_weights(own.follow_up_days, own.event, own.horizon_days)
    return weights


def complete_event(goal: EventGoalData, expected_risk: Array) -> Array:
    """Completed outcome (n,) of the rows of one arm, `expected_risk` (n,) being the working model's risk.

    The working model for Q takes the arm's time course, bent to each row's risk at the horizon (proportional
    subdistribution hazards). Q is held constant between grid points in both parts of the martingale integral, which
    keeps its mean zero.
    """
    curves = follow_up_curves(goal)
    days = np.minimum(goal.follow_up_days, goal.horizon_days)
    completed = goal.value * horizon_weights(goal.follow_up_days, goal.event, goal.horizon_days)
    hazard = curves.censoring_hazard
    if not hazard.any():
        return completed
    step = -(-len(curves.times) // GRID_POINTS)
    starts = np.arange(0, len(curves.times), step)
    chance = _chance_of_event(curves, expected_risk, starts)  # (n, g): Q at the start of each step
    compensator = np.concatenate([[0.0], np.cumsum(hazard / curves.uncensored)])
    # The last time at which a row could have been censored: for one censored its own, for others the one before.
    censored = ~goal.known
    last = np.searchsorted(curves.times, days) - (~censored).astype(int)
    ends = np.append(starts[1:], len(curves.times))
    spent = compensator[np.minimum(ends, last[:, None] + 1)] - compensator[np.minimum(starts, last[:, None] + 1)]
    completed -= (chance * spent).sum(axis=1)
    at = last[censored]
    completed[censored] += chance[np.flatnonzero(censored), at // step] / curves.uncensored[at]
    return completed


def _chance_of_event(curves: FollowUp, expected_risk: Array, starts: Array) -> Array:
    """Q(u | x) (n, g): chance of the outcome by the horizon for a row still free of any event at u."""
    tiny = 1e-6  # keeps logarithms finite where an arm or a row has risk 0 or 1
    risk_then = np.clip(curves.risk[starts], 0.0, 1.0 - tiny)
    risk_end = np.clip(curves.risk[-1], tiny, 1.0 - tiny)
    share = np.log1p(-risk_then) / np.log1p(-risk_end)
    free = np.clip(1.0 - expected_risk, tiny, 1.0 - tiny)[:, None]
    outcome_free = free**share  # 1 - F1(u | x)
    event_free = outcome_free * (curves.event_free[starts] / (1.0 - risk_then))
    return np.clip((outcome_free - free) / np.maximum(event_free, tiny), 0.0, 1.0)


def complete_measure(goal: MeasureGoalData, expected: Array, probability_known: Array) -> Array:
    """Completed measure (n,): the expectation, corrected where it was measured by inverse probability."""
    weight = goal.known / np.maximum(probability_known, KNOWN_FLOOR)
    return expected + weight * (goal.value - expected)


def plain_estimate(goal: GoalData) -> tuple[float, Array]:
    """Unadjusted estimate of the rows given (one arm), and each row's influence on it (n,), whose sum is 0.

    Aalen-Johansen risk at the horizon (Kaplan-Meier where nothing competes), or the mean of the measures taken.
    """
    if isinstance(goal, MeasureGoalData):
        mean = float(goal.value[goal.known].mean())
        return mean, np.where(goal.known, goal.value - mean, 0.0) / goal.known.sum()
    risk = float(follow_up_curves(goal).risk[-1])
    completed = complete_event(goal, np.full(len(goal.event), risk))
    return risk, (completed - completed.mean()) / len(completed)
