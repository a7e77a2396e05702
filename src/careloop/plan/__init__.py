"""Treatment plans: the effect of each option with its assumptions checked, and who should get which, or no advice."""

from __future__ import annotations

from careloop.plan.decisions import Decision, record_decision, recorded_decisions
from careloop.plan.definition import EventGoal, MeasureGoal, PlanSection, RmstGoal
from careloop.plan.events import decision_events, plan_events
from careloop.plan.make import Plan, make_plan

__all__ = [
    "Decision",
    "EventGoal",
    "MeasureGoal",
    "Plan",
    "PlanSection",
    "RmstGoal",
    "decision_events",
    "make_plan",
    "plan_events",
    "record_decision",
    "recorded_decisions",
]
