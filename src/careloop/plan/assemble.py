"""Put one patient's plan together: the study's plan for the patient, then safety, which may take its advice back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.lifestyle import LifestyleOption
from careloop.plan.make import Plan
from careloop.plan.patient_plan import (
    PatientOption,
    PatientPlan,
    PatientPrediction,
    PlanGoal,
    Reason,
    ReasonKind,
    Status,
)
from careloop.plan.patients import KEYS
from careloop.plan.safety.finding import Finding

# What a finding does to its option, the strictest first.
SAFETY: dict[str, tuple[Status, ReasonKind]] = {
    "block": ("withheld", "blocked"),
    "ask": ("ask", "missing_fact"),
    "caution": ("demoted", "caution"),
}
# The order in which options are shown; within one status they stand by rank.
ORDER: tuple[Status, ...] = ("recommended", "offered", "demoted", "ask", "withheld", "not_ranked")
ADVICE: tuple[ReasonKind, ...] = ("best_single", "individual")


def patient_plan(
    prediction: PatientPrediction,
    plan: Plan | None,
    *,
    study: str,
    made_at: datetime,
    findings: Sequence[Finding] = (),
    lifestyle: Sequence[LifestyleOption] = (),
) -> PatientPlan:
    """Put together one patient's plan.

    `plan` may hold many patients; the one of `prediction` (subject and time) is taken. `findings` are this patient's: a
    block withholds its option, ask holds it back, caution demotes it. Where one of these meets the advised option, or
    the model abstains, nothing is recommended, since the next best option is not shown to be better than the others.

    InputError: the plan has no rows of the patient, or a finding is about an option that it does not have.
    """
    options = () if plan is None else _options(plan, prediction, findings)
    recommended, reasons = _decision(plan, prediction, options)
    shown = [_as_decided(option, recommended) for option in options]
    return PatientPlan(
        study=study,
        made_at=made_at,
        prediction=prediction,
        goal=None if plan is None else PlanGoal(plan.goals[0].goal, plan.goals[0].kind, plan.goals[0].better),
        reference=None if plan is None else plan.reference,
        options=tuple(sorted(shown, key=lambda o: (ORDER.index(o.status), o.rank or len(shown) + 1, o.name))),
        findings=tuple(findings),
        lifestyle=tuple(lifestyle),
        recommended=recommended,
        reasons=reasons,
    )


def prediction_of(
    row: Mapping[str, Any], *, target: str, horizon_days: float, patient_key: str | None = None
) -> PatientPrediction:
    """A row of predictions.parquet (schema `careloop.predict.PREDICTIONS`) as the prediction that a plan rests on.

    `target` is the outcome in words; the patient is called by the subject_id unless there is another key.
    """
    moment = row["prediction_time"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    model, version, subject = row["model"], row["model_version"], row["subject_id"]
    return PatientPrediction(
        id=f"careloop:prediction:{model}:{version}:{subject}:{moment}",  # as predict.prediction_events writes it
        subject_id=subject,
        patient_key=patient_key or str(subject),
        as_of=row["prediction_time"],
        model=model,
        model_version=version,
        data_version=row["record_version"],
        target=target,
        horizon_days=horizon_days,
        risk=Estimate(row["predicted_boolean_probability"], row["low"], row["high"]),
        abstain_reason=row["abstained_reason"] if row["abstained"] else None,
    )


def _options(plan: Plan, prediction: PatientPrediction, findings: Sequence[Finding]) -> tuple[PatientOption, ...]:
    """The plan's options for the patient with what safety says of them."""
    is_mine = (pl.col(KEYS[0]) == prediction.subject_id) & (pl.col(KEYS[1]) == prediction.as_of)
    rows = plan.table.filter(is_mine)
    if not rows.height:
        raise InputError("the plan has no rows of this patient at this prediction time; plan the patient first")
    strangers = sorted({finding.option for finding in findings} - set(plan.options))
    if strangers:
        raise InputError(f"a safety finding is about {strangers[0]!r}, but the options are {', '.join(plan.options)}")
    return tuple(_option(row, plan, findings) for row in rows.iter_rows(named=True))


def _option(row: Mapping[str, Any], plan: Plan, findings: Sequence[Finding]) -> PatientOption:
    name = row["option"]
    mine = [finding for finding in findings if finding.option == name]
    status: Status = "not_ranked" if row["rank"] is None else "offered"
    reasons = [_rank_reason(row, plan)]
    for severity in reversed(SAFETY):  # the strictest last, so that it stands
        found = [finding for finding in mine if finding.severity == severity]
        if found:
            worse, kind = SAFETY[severity]
            status = status if (status, worse) == ("not_ranked", "demoted") else worse
            reasons.insert(0, Reason(kind, tuple(dict.fromkeys(finding.drug for finding in found))))
    return PatientOption(
        name=name,
        status=status,
        rank=row["rank"],
        expected=None if row["expected"] is None else Estimate(row["expected"], row["low"], row["high"]),
        effect=next((c.adjusted for c in plan.goals[0].contrasts if c.option == name), None),
        reasons=tuple(reasons),
    )


def _rank_reason(row: Mapping[str, Any], plan: Plan) -> Reason:
    """Why the plan ranks the option as it does."""
    name, policy = row["option"], plan.policy
    if row["rank"] is None:
        is_usable = any(option.usable for option in plan.balance.options if option.option == name)
        return Reason("few_comparable", (name,)) if is_usable else Reason("no_overlap", (name,), row["reason"])
    if row["recommended"]:
        return Reason("best_single" if name == policy.best else "individual", (policy.best or name,))
    if policy.best is not None and name in policy.worse:
        return Reason("worse", (policy.best,))
    if policy.best is not None and policy.tied and name in (policy.best, *policy.tied):
        return Reason("tied", tuple(option for option in (policy.best, *policy.tied) if option != name))
    return Reason("lower_ranked")


def _decision(
    plan: Plan | None, prediction: PatientPrediction, options: Sequence[PatientOption]
) -> tuple[str | None, tuple[Reason, ...]]:
    """What is recommended and why, or why nothing is."""
    against = [Reason("outside_population", (), prediction.abstain_reason)] if prediction.abstain_reason else []
    if plan is None:
        return None, (*against, Reason("no_plan"))
    advised = next((option for option in options if _advice(option)), None)
    if advised is None:
        return None, (*against, _why_none(plan, options))
    if advised.status in ("withheld", "ask"):
        against.append(Reason("advice_withheld", (advised.name,)))
    elif advised.status == "demoted" and any(option.status == "offered" for option in options):
        against.append(Reason("advice_demoted", (advised.name,)))
    return (None, tuple(against)) if against else (advised.name, _advice(advised))


def _advice(option: PatientOption) -> tuple[Reason, ...]:
    """The reasons for which the plan advises the option, none where it does not."""
    return tuple(reason for reason in option.reasons if reason.kind in ADVICE)


def _why_none(plan: Plan, options: Sequence[PatientOption]) -> Reason:
    """Why the plan itself advises nothing."""
    best = plan.policy.best
    if best is None:
        return Reason("too_few_options")
    if any(option.name == best and option.rank is None for option in options):
        return Reason("few_comparable", (best,))
    return Reason("tied", (best, *plan.policy.tied))


def _as_decided(option: PatientOption, recommended: str | None) -> PatientOption:
    return replace(option, status="recommended") if option.name == recommended else option
