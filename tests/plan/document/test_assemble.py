"""One patient's plan from the study's: whose rows are taken, and that safety and abstention only take advice back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan import Plan, PlanSection, make_plan
from careloop.plan.document.assemble import findings_of, patient_plan, prediction_of
from careloop.plan.document.patient_plan import PatientPlan, PatientPrediction, Reason
from careloop.plan.safety import Finding, finding_table, withhold
from careloop.predict import PREDICTIONS, prediction_events

AT = datetime(2020, 1, 1, tzinfo=UTC)
ROW = {
    "subject_id": 3, "prediction_time": AT, "boolean_value": None, "predicted_boolean_value": True,
    "predicted_boolean_probability": 0.3, "model": "cox", "model_version": "abc", "low": 0.2, "high": 0.4,
    "abstained": False, "abstained_reason": None, "record_version": 5, "conformal_set": [True],
}  # fmt: skip


@pytest.fixture(scope="module")
def learned(simulate: Callable[..., Any]) -> Plan:
    """A plan for a few simulated patients, whose decision the tests set."""
    world = simulate(240, 3)
    return make_plan(world.rows(), world.matrix(), PlanSection(assignment="randomised", folds=2), horizon_days=365.0)


@pytest.fixture(scope="module")
def plan(learned: Plan) -> Plan:
    """The drug is advised for everybody, with lower risks; control did worse."""
    policy = replace(learned.policy, best="drug", next="control", tied=(), worse=("control",), decision="best_single")
    is_drug = pl.col("option") == "drug"
    table = learned.table.with_columns(
        rank=pl.when(is_drug).then(1).otherwise(2),
        expected=pl.when(is_drug).then(0.2).otherwise(0.3),
        low=pl.when(is_drug).then(0.15).otherwise(0.26),
        high=pl.when(is_drug).then(0.24).otherwise(0.35),
        difference=pl.when(is_drug).then(-0.1).otherwise(0.0),
        difference_low=pl.when(is_drug).then(-0.14).otherwise(0.0),
        difference_high=pl.when(is_drug).then(-0.06).otherwise(0.0),
        recommended=is_drug,
        abstained=pl.lit(False),
    )
    return replace(learned, policy=policy, table=table)


@pytest.fixture
def prediction() -> PatientPrediction:
    return prediction_of(ROW, target="the outcome", horizon_days=365.0)


def finding(severity: Any, option: str = "drug") -> Finding:
    return Finding(option, "aspirin", "allergy", severity, "r1", "Allergic.", "Choose another.", (), "A label", "1")


def made(prediction: PatientPrediction, plan: Plan | None, *findings: Finding) -> PatientPlan:
    return patient_plan(prediction, plan, study="s", made_at=AT, findings=findings)


def statuses(made: PatientPlan) -> dict[str, str]:
    return {option.name: option.status for option in made.options}


def test_the_prediction_is_known_in_the_record_by_its_id(prediction: PatientPrediction) -> None:
    events = prediction_events(pl.DataFrame([ROW], schema=PREDICTIONS), horizon_days=365.0)
    assert prediction.id == events["source"][0]
    assert prediction.risk == Estimate(0.3, 0.2, 0.4)
    assert prediction.patient_key == "3"


def test_an_advised_option_without_findings_is_recommended(plan: Plan, prediction: PatientPrediction) -> None:
    found = made(prediction, plan)
    assert found.recommended == "drug"
    assert not found.abstains
    assert statuses(found) == {"drug": "recommended", "control": "offered"}
    assert [reason.kind for reason in found.reasons] == ["best_single"]
    assert [reason.kind for reason in found.options[1].reasons] == ["worse"]
    assert found.options[0].expected == Estimate(0.2, 0.15, 0.24)
    assert found.options[0].effect is not None
    assert found.options[1].effect is None  # the reference


def test_benefit_is_of_this_patient(plan: Plan, prediction: PatientPrediction) -> None:
    found = made(prediction, plan).benefit("drug")
    assert found is not None
    assert found.reduction == Estimate(0.1, 0.06, 0.14)
    assert found.basis == "given"
    assert made(prediction, plan).benefit("control") is None
    assert made(prediction, plan).compared == "drug"


@pytest.mark.parametrize(("severity", "status"), [("block", "withheld"), ("ask", "ask"), ("caution", "demoted")])
def test_safety_takes_the_advice_back_and_advises_nothing_else(
    plan: Plan, prediction: PatientPrediction, severity: str, status: str
) -> None:
    found = made(prediction, plan, finding(severity))
    assert found.abstains
    assert statuses(found) == {"control": "offered", "drug": status}
    assert found.options[0].name == "control"
    assert found.is_checked
    assert found.reasons[0].names == ("drug",)
    assert found.reasons[0].kind == ("advice_demoted" if severity == "caution" else "advice_withheld")


def test_a_caution_on_every_option_tells_none_apart(plan: Plan, prediction: PatientPrediction) -> None:
    found = made(prediction, plan, finding("caution"), finding("caution", "control"))
    assert found.recommended == "drug"
    assert statuses(found) == {"drug": "recommended", "control": "demoted"}


def test_the_strictest_finding_stands(plan: Plan, prediction: PatientPrediction) -> None:
    for order in (("caution", "block", "ask"), ("block", "ask", "caution")):
        found = made(prediction, plan, *(finding(severity) for severity in order))
        assert statuses(found)["drug"] == "withheld"
        assert [r.kind for r in found.options[-1].reasons][:3] == ["blocked", "missing_fact", "caution"]


def test_a_table_that_went_through_safety_is_taken_as_it_is(plan: Plan, prediction: PatientPrediction) -> None:
    found = finding("block")
    key = (prediction.subject_id, prediction.as_of)
    screened = replace(plan, table=withhold(plan.table, {key: {"drug": [found]}}))  # control is not listed
    once = made(prediction, screened, *findings_of(finding_table({key: {"drug": [found]}}), prediction))
    assert once.findings == (found,)
    assert once.is_checked
    assert statuses(once) == {"control": "ask", "drug": "withheld"}
    assert once.option("control").reasons[0] == Reason("not_listed", ("control",))  # type: ignore[union-attr]
    assert once.reasons == (Reason("advice_withheld", ("drug",)),)


def test_a_plan_that_no_rule_was_asked_about_says_so(plan: Plan, prediction: PatientPrediction) -> None:
    assert not made(prediction, plan).is_checked


def test_a_note_changes_nothing_but_is_kept(plan: Plan, prediction: PatientPrediction) -> None:
    found = made(prediction, plan, finding("info"))
    assert found.recommended == "drug"
    assert len(found.findings) == 1


def test_an_abstaining_model_recommends_nothing(plan: Plan, prediction: PatientPrediction) -> None:
    found = made(replace(prediction, abstain_reason="CD4 is 4"), plan)
    assert found.abstains
    assert (found.reasons[0].kind, found.reasons[0].text) == ("outside_population", "CD4 is 4")


def test_options_that_cannot_be_told_apart(plan: Plan, prediction: PatientPrediction) -> None:
    policy = replace(plan.policy, tied=("control",), worse=(), decision="abstain")
    found = made(prediction, replace(plan, policy=policy, table=plan.table.with_columns(recommended=pl.lit(False))))
    assert found.abstains
    assert found.reasons == (Reason("tied_best", ("drug", "control")),)
    assert {o.name: o.reasons for o in found.options} == {
        "drug": (Reason("tied", ("control",)),),
        "control": (Reason("tied", ("drug",)),),
    }


def test_a_patient_may_depart_from_the_best_single_option(plan: Plan, prediction: PatientPrediction) -> None:
    is_control = pl.col("option") == "control"
    table = plan.table.with_columns(recommended=is_control, rank=pl.when(is_control).then(1).otherwise(2))
    found = made(prediction, replace(plan, table=table))
    assert found.recommended == "control"
    assert found.reasons == (Reason("individual", ("drug",)),)
    assert found.compared == "drug"  # the icon array needs another option than the reference


def test_a_patient_whom_the_best_option_was_not_given_to(plan: Plan, prediction: PatientPrediction) -> None:
    is_drug = pl.col("option") == "drug"
    table = plan.table.with_columns(rank=pl.when(is_drug).then(None).otherwise(1), recommended=pl.lit(False))
    found = made(prediction, replace(plan, table=table))
    assert found.abstains
    assert found.reasons == (Reason("few_comparable", ("drug",)),)


def test_an_option_without_overlap_is_not_ranked_and_says_why(plan: Plan, prediction: PatientPrediction) -> None:
    is_control = pl.col("option") == "control"
    table = plan.table.with_columns(rank=pl.when(is_control).then(None).otherwise("rank"))
    unlike = made(prediction, replace(plan, table=table)).option("control")
    assert unlike is not None
    assert (unlike.status, unlike.reasons) == ("not_ranked", (Reason("few_comparable", ("control",)),))
    gone = table.with_columns(
        reason=pl.when(is_control).then(pl.lit("no overlap")).otherwise("reason"),
        expected=pl.when(is_control).then(None).otherwise("expected"),
    )
    unusable = made(prediction, replace(plan, table=gone)).option("control")
    assert unusable is not None
    assert (unusable.expected, unusable.reasons) == (None, (Reason("no_overlap", ("control",), "no overlap"),))


def test_a_study_without_treatments(prediction: PatientPrediction) -> None:
    found = made(prediction, None)
    assert (found.options, found.goal, found.reference) == ((), None, None)
    assert found.reasons[0].kind == "no_plan"
    assert found.compared is None


def test_strangers_are_refused(plan: Plan, prediction: PatientPrediction) -> None:
    with pytest.raises(InputError, match="no rows of this patient"):
        made(replace(prediction, subject_id=10**9), plan)
    with pytest.raises(InputError, match="the options are control, drug"):
        made(prediction, plan, finding("block", "surgery"))
