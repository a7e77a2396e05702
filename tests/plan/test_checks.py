"""The checks of a plan: what observed and randomised treatment get, and negative controls that find what is hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop.plan import EventGoal, Plan, PlanSection, RmstGoal, make_plan

GOALS = (EventGoal(event="outcome"), RmstGoal(days_without="outcome"))


def planned(data: Any, assignment: str, controls: dict[str, pl.DataFrame] | None = None) -> Plan:
    section = PlanSection(assignment=assignment, goals=GOALS, folds=3)  # type: ignore[arg-type]
    return make_plan(data.rows(), data.matrix(), section, horizon_days=365, controls=controls)


@pytest.fixture(scope="module")
def observed(simulate: Callable[..., Any]) -> tuple[Any, Plan]:
    data = simulate(1_200, 7, confounding=0.8)
    return data, planned(data, "observed")


def test_observed_treatment_gets_every_check(observed: tuple[Any, Plan]) -> None:
    data, plan = observed
    checks = plan.checks
    assert [(t.option, t.goal) for t in checks.estimators] == [("drug", "outcome"), ("drug", "days without outcome")]
    assert [r.option for r in checks.robustness] == ["drug"]
    assert [p.reference for p in checks.placebo] == ["control"]
    assert [t.option for t in checks.treated] == ["drug"]
    assert [h.option for h in checks.heterogeneity] == ["drug"]
    truth = data.true_risk[1] - data.true_risk[0]
    for row in checks.estimators[0].rows[1:]:
        assert row.difference.low < truth < row.difference.high, row.estimator
    ratio = checks.hazard_ratios[0].ratio
    assert 0.4 < ratio.low < ratio.high < 0.95  # the conditional ratio is exp(-0.5) = 0.61


def test_randomised_treatment_needs_no_check_of_confounding(simulate: Callable[..., Any]) -> None:
    checks = planned(simulate(600, 8), "randomised").checks
    assert (checks.robustness, checks.placebo, checks.treated, checks.controls) == ((), (), (), ())
    assert len(checks.heterogeneity) == len(checks.hazard_ratios) == 1


def test_a_negative_control_that_shares_a_hidden_cause_speaks_up(simulate: Callable[..., Any]) -> None:
    """The control follows a trait that the drug's patients have and no feature tells."""
    data = simulate(1_500, 9, confounding=0.0)
    random = np.random.default_rng(0)
    trait = data.arm + random.normal(size=len(data.arm))
    days = random.exponential(400 * np.exp(-0.7 * trait))
    control = pl.DataFrame({"follow_up_days": np.minimum(days, 700.0), "event": (days < 700).astype(np.int8)})
    plan = planned(data, "observed", {"injury": control})
    assert [effect.control for effect in plan.checks.controls] == ["injury"]
    assert not plan.checks.controls[0].null
    assert any("Confounding is left" in sentence for sentence in plan.checks.words)


def test_a_plan_with_its_checks_goes_through_json_and_back(observed: tuple[Any, Plan]) -> None:
    plan = observed[1]
    content = json.loads(json.dumps(plan.to_json()))
    back = Plan.from_json(content, plan.table)
    assert back.checks == plan.checks
    assert back.tree == plan.tree
    assert back.curves == plan.curves
    assert back.to_json() == plan.to_json()


def test_risk_over_time_ends_at_the_effect_and_rises(observed: tuple[Any, Plan]) -> None:
    plan = observed[1]
    for curve, option in zip(plan.curves, plan.goals[0].options, strict=True):
        assert curve.option == option.option
        assert curve.risk.value[-1] == pytest.approx(option.adjusted.value)
        assert curve.risk.x[-1] == 365
        assert all(
            later > earlier - 0.01 for earlier, later in zip(curve.risk.value, curve.risk.value[1:], strict=False)
        )
