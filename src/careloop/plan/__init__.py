"""Treatment plans: the effect of each option with its assumptions checked, and who should get which, or no advice."""

from __future__ import annotations

from careloop.plan.definition import EventGoal, MeasureGoal, PlanSection
from careloop.plan.events import decision_events, plan_events
from careloop.plan.make import Plan, make_plan

__all__ = ["EventGoal", "MeasureGoal", "Plan", "PlanSection", "decision_events", "make_plan", "plan_events"]
