"""Treatment plans: the effect of each option with its assumptions checked, and who should get which, or no advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from careloop.plan.definition import EventGoal, MeasureGoal, PlanSection

if TYPE_CHECKING:
    from careloop.plan.events import decision_events, plan_events
    from careloop.plan.make import Plan, make_plan

__all__ = ["EventGoal", "MeasureGoal", "Plan", "PlanSection", "decision_events", "make_plan", "plan_events"]


def __getattr__(name: str) -> Any:
    """Load the estimators (scikit-learn, LightGBM) on first use only (PEP 562)."""
    if name in {"Plan", "make_plan"}:
        from careloop.plan import make

        return getattr(make, name)
    if name in {"plan_events", "decision_events"}:
        from careloop.plan import events

        return getattr(events, name)
    raise AttributeError(f"module 'careloop.plan' has no attribute {name!r}")
