"""What one option's rows tell about survival: a working model of the course, and outcomes completed under censoring.

A row's value Z (the outcome by the horizon, or the days free of any event until it) is not seen where follow-up ended
before. With C the time of censoring, P(C >= t | x) = G(t | x) and Q(u | x) the expectation of Z for a patient free of
any event at u, its completed value is known * Z / G(T-) + integral of Q(u) / G(u) dM_C(u), M_C being the censoring
martingale (Robins & Rotnitzky 1992; Rubin & van der Laan 2007, Int J Biostat 3:5; with cross-fitted models: Westling
et al. 2024, JASA 119:1541). Its mean given the covariates is that of Z if either G or the course of events is right.
Both come from proportional hazards given the covariates, fitted on other rows than those completed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.evaluate import aalen_johansen, kaplan_meier
from careloop.evaluate.censoring import CENSORED, COMPETING, OUTCOME
from careloop.plan.effect.goals import Array, EventGoalData, GoalData, MeasureGoalData, RmstGoalData, SurvivalGoalData
from careloop.plan.effect.hazards import Hazard, fit_hazard

GRID_POINTS = 64  # steps of Q(u): where the censoring model is right, their coarseness costs precision only, never bias
CENSORING_FLOOR = 0.02  # smallest P(still followed) that a weight is built on: no row counts more than 50-fold
TINY = 1e-12


@dataclass(frozen=True)
class Course:
    """The working model's course of n rows on a grid (g + 1,) of days from 0 to the horizon, each (n, g + 1)."""

    days: Array
    event_free: Array  # P(no event of any kind by then)
    incidence: Array  # P(outcome by then)

    def expectation(self, goal: SurvivalGoalData) -> Array:
        """Expected value (n, g + 1) of the goal for a row still free of any event at each of the days."""
        free = np.maximum(self.event_free, TINY)
        if isinstance(goal, EventGoalData):
            return np.clip((self.incidence[:, -1:] - self.incidence) / free, 0.0, 1.0)
        width = np.diff(self.days)
        area = (self.event_free[:, 1:] + self.event_free[:, :-1]) / 2 * width
        to_come = np.column_stack([area[:, ::-1].cumsum(axis=1)[:, ::-1], np.zeros(len(area))])
        return np.clip(self.days + to_come / free, self.days, self.days[-1])


@dataclass(frozen=True)
class SurvivalModel:
    """Hazards of the outcome, of competing events and of censoring under one option."""

    outcome: Hazard
    competing: Hazard
    censoring: Hazard

    def course(self, covariates: Array, horizon_days: float) -> Course:
        """The course of rows (n, p) until the horizon."""
        days = _grid(np.concatenate([self.outcome.times, self.competing.times, self.censoring.times]), horizon_days)
        outcome, competing = (
            -hazard.relative(covariates)[:, None] * hazard.log_baseline_at(days)
            for hazard in (self.outcome, self.competing)
        )
        event_free = np.exp(-outcome - competing)
        rise, other = np.diff(outcome), np.diff(competing)
        share = np.divide(rise, rise + other, out=np.zeros_like(rise), where=rise > 0)
        incidence = np.cumsum(-np.diff(event_free) * share, axis=1)
        return Course(days, event_free, np.column_stack([np.zeros(len(covariates)), incidence]))

    def expected(self, covariates: Array, goal: SurvivalGoalData) -> Array:
        """Expectation (n,) of the goal."""
        return self.course(covariates, goal.horizon_days).expectation(goal)[:, 0]

    def complete(self, covariates: Array, goal: SurvivalGoalData) -> Array:
        """Completed values (n,) of rows that were given the option; equal to the value where nothing is censored.

        Q is held constant between grid points in both parts of the martingale integral, which keeps its mean zero.
        """
        course = self.course(covariates, goal.horizon_days)
        to_come = course.expectation(goal)[:, :-1]
        relative = self.censoring.relative(covariates)
        left = np.minimum(goal.follow_up_days, goal.horizon_days)
        before, after = self.censoring.log_baseline_before(left), self.censoring.log_baseline_at(left)
        # A row without a known value was at risk of censoring until it was censored, others only before they left.
        own = _inverse(relative * np.where(goal.known, before, after))
        through = _inverse(relative[:, None] * self.censoring.log_baseline_before(course.days))
        spent = np.diff(np.minimum(through, own[:, None]), axis=1)
        step = np.clip(np.searchsorted(course.days, left, side="right") - 1, 0, len(course.days) - 2)
        seen = np.where(goal.known, goal.value, to_come[np.arange(len(left)), step])
        return np.asarray(own * seen - (to_come * spent).sum(axis=1))


def _grid(times: Array, horizon_days: float) -> Array:
    """Days from 0 to the horizon: the times within, or about `GRID_POINTS` quantiles of them."""
    within = np.unique(times[(times > 0) & (times < horizon_days)])
    if len(within) > GRID_POINTS:
        within = within[np.linspace(0, len(within) - 1, GRID_POINTS).astype(int)]
    return np.concatenate([[0.0], within, [horizon_days]])


def _inverse(log_probability: Array) -> Array:
    return np.asarray(1.0 / np.maximum(np.exp(log_probability), CENSORING_FLOOR))


def fit_survival(covariates: Array, goal: SurvivalGoalData) -> SurvivalModel:
    """Fit all three hazards to the rows of one option, (n, p); what comes after the horizon is not looked at."""
    days, event = _until_horizon(goal)
    # Events come before censoring at a tie: who had one is not at risk of censoring on that day.
    at_risk_until = np.where(event == CENSORED, days, np.nextafter(days, -np.inf))
    return SurvivalModel(
        outcome=fit_hazard(covariates, days, event == OUTCOME),
        competing=fit_hazard(covariates, days, event == COMPETING),
        censoring=fit_hazard(covariates, at_risk_until, ~goal.known),
    )


def plain_estimate(goal: GoalData) -> tuple[float, Array]:
    """Unadjusted estimate of the rows given (one arm), and each row's influence on it (n,), whose sum is 0.

    Aalen-Johansen risk at the horizon (Kaplan-Meier where nothing competes), the area under the Kaplan-Meier curve of
    any event, or the mean of the measures taken.
    """
    if isinstance(goal, MeasureGoalData):
        mean = float(goal.value[goal.known].mean())
        return mean, np.where(goal.known, goal.value - mean, 0.0) / goal.known.sum()
    days, event = _until_horizon(goal)
    if isinstance(goal, RmstGoalData):
        times, free = kaplan_meier(days, event)
        widths = np.diff(times, prepend=0.0, append=goal.horizon_days)
        value = float(widths @ np.append(1.0, free))
    else:
        value = float(aalen_johansen(days, event)[1][-1])
    nothing = np.empty((len(days), 0))
    completed = fit_survival(nothing, goal).complete(nothing, goal)
    return value, (completed - completed.mean()) / len(completed)


def _until_horizon(goal: SurvivalGoalData) -> tuple[Array, Array]:
    """Follow-up cut at the horizon, and what it ended with, censored if by the cut."""
    event = np.where(goal.follow_up_days <= goal.horizon_days, goal.event, CENSORED)
    return np.minimum(goal.follow_up_days, goal.horizon_days), event
