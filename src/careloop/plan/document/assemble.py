"""Put one patient's plan together from the study's plan, the safety findings and the lifestyle options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.document.lifestyle import LifestyleOption
from careloop.plan.document.patient_plan import (
    PatientOption,
    PatientPlan,
    PatientPrediction,
    PlanGoal,
    Reason,
    ReasonKind,
    Status,
)
from careloop.plan.make import Plan
from careloop.plan.patients import KEYS
from careloop.plan.safety import Finding, unchecked, withhold

# The reason that a finding gives for its option's status, the gravest first.
SAFETY: dict[str, ReasonKind] = {"block": "blocked", "ask": "missing_fact", "caution": "caution"}
# The order in which options are shown; within one status they stand by rank.
ORDER: tuple[Status, ...] = ("recommended", "offered", "demoted", "ask", "withheld", "not_ranked")
HELD_BACK = ("withheld", "ask")


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

    `plan` may hold many patients; the one of `prediction` (subject and time) is taken. `findings` are this patient's. A
    plan whose table has not been through `safety.withhold` goes through it here, if there are findings. Nothing is
    recommended where the model abstains: what it says of options rests on patients unlike this one.

    InputError: the plan has no rows of the patient, or a finding is about an option that it does not have.
    """
    rows = None if plan is None else _rows(plan, prediction, findings)
    options = [] if plan is None or rows is None else [_option(r, plan, findings) for r in rows.iter_rows(named=True)]
    recommended, reasons = _decision(plan, prediction, options)
    return PatientPlan(
        study=study,
        made_at=made_at,
        prediction=prediction,
        goal=None if plan is None else PlanGoal(plan.goals[0].goal, plan.goals[0].kind, plan.goals[0].better),
        reference=None if plan is None else plan.reference,
        options=tuple(sorted(_as_decided(options, recommended), key=lambda o: _order(o, len(options)))),
        is_checked=rows is not None and rows["status"].null_count() == 0,
        findings=tuple(findings),
        lifestyle=tuple(lifestyle),
        recommended=recommended,
        reasons=reasons,
    )


def findings_of(table: pl.DataFrame, prediction: PatientPrediction) -> tuple[Finding, ...]:
    """The patient's findings of a table of all (`safety.finding_table`, a run's safety.parquet)."""
    mine = table.filter(_is_mine(prediction)).drop(KEYS)
    return tuple(Finding(**{**row, "facts": tuple(row["facts"] or ())}) for row in mine.iter_rows(named=True))


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


def _is_mine(prediction: PatientPrediction) -> pl.Expr:
    return (pl.col(KEYS[0]) == prediction.subject_id) & (pl.col(KEYS[1]) == prediction.as_of)


def _rows(plan: Plan, prediction: PatientPrediction, findings: Sequence[Finding]) -> pl.DataFrame:
    """The patient's rows of the plan's table, with the status that safety gives each option."""
    rows = plan.table.filter(_is_mine(prediction))
    if not rows.height:
        raise InputError("the plan has no rows of this patient at this prediction time; plan the patient first")
    strangers = sorted({finding.option for finding in findings} - set(plan.options))
    if strangers:
        raise InputError(f"a safety finding is about {strangers[0]!r}, but the options are {', '.join(plan.options)}")
    if "status" in rows.columns and rows["status"].null_count() < rows.height:
        return rows
    if not findings:
        return unchecked(rows)
    by_option = {name: [finding for finding in findings if finding.option == name] for name in plan.options}
    return withhold(rows, {(prediction.subject_id, prediction.as_of): by_option})


def _difference(row: Mapping[str, Any], plan: Plan) -> Estimate | None:
    if row["option"] == plan.reference or row["difference"] is None:
        return None
    return Estimate(row["difference"], row["difference_low"], row["difference_high"])


def _option(row: Mapping[str, Any], plan: Plan, findings: Sequence[Finding]) -> PatientOption:
    name: str = row["option"]
    status: Status = row["status"] or "offered"
    mine = [finding for finding in findings if finding.option == name]
    reasons = [
        Reason(kind, tuple(dict.fromkeys(finding.drug for finding in mine if finding.severity == severity)))
        for severity, kind in SAFETY.items()
        if any(finding.severity == severity for finding in mine)
    ]
    if status == "ask" and not reasons:
        reasons.append(Reason("not_listed", (name,)))
    return PatientOption(
        name=name,
        status="not_ranked" if row["rank"] is None and status not in HELD_BACK else status,
        rank=row["rank"],
        expected=None if row["expected"] is None else Estimate(row["expected"], row["low"], row["high"]),
        difference=_difference(row, plan),
        effect=next((c.adjusted for c in plan.goals[0].contrasts if c.option == name), None),
        reasons=(*reasons, *_rank_reasons(row, plan)),
    )


def _rank_reasons(row: Mapping[str, Any], plan: Plan) -> Iterator[Reason]:
    """Why the plan ranks the option as it does; nothing where only safety holds the best one back."""
    name, policy = row["option"], plan.policy
    if row["expected"] is None:
        yield Reason("no_overlap", (name,), row["reason"])
    elif row["rank"] is None and row["status"] not in HELD_BACK:
        yield Reason("few_comparable", (name,))
    elif row["recommended"]:
        yield Reason("best_single" if name == policy.best else "individual", (policy.best or name,))
    elif policy.best is not None and name in policy.worse:
        yield Reason("worse", (policy.best,))
    elif policy.best is not None and policy.tied and name in (policy.best, *policy.tied):
        yield Reason("tied", tuple(option for option in (policy.best, *policy.tied) if option != name))
    elif name != policy.best:
        yield Reason("lower_ranked")


def _decision(
    plan: Plan | None, prediction: PatientPrediction, options: Sequence[PatientOption]
) -> tuple[str | None, tuple[Reason, ...]]:
    """What is recommended and why, or why nothing is."""
    against = [Reason("outside_population", (), prediction.abstain_reason)] if prediction.abstain_reason else []
    if plan is None:
        return None, (*against, Reason("no_plan"))
    for option in options:
        advice = tuple(reason for reason in option.reasons if reason.kind in ("best_single", "individual"))
        if advice:
            return (None, tuple(against)) if against else (option.name, advice)
    return None, (*against, _why_none(plan, options))


def _why_none(plan: Plan, options: Sequence[PatientOption]) -> Reason:
    """Why no option is advised: the plan itself does not, or safety took its advice back."""
    policy = plan.policy
    if policy.best is None:
        return Reason("too_few_options")
    if policy.decision == "abstain":
        return Reason("tied_best", (policy.best, *policy.tied))
    status = {option.name: option.status for option in options}
    if status[policy.best] == "not_ranked":
        return Reason("few_comparable", (policy.best,))
    held = [name for name in (policy.best, *status) if status[name] in HELD_BACK]
    if held:
        return Reason("advice_withheld", (held[0],))
    demoted = [name for name in (policy.best, *status) if status[name] == "demoted"]
    return Reason("advice_demoted", (demoted[0],)) if demoted else Reason("tied_best", (policy.best, *policy.tied))


def _as_decided(options: Sequence[PatientOption], recommended: str | None) -> list[PatientOption]:
    return [replace(option, status="recommended") if option.name == recommended else option for option in options]


def _order(option: PatientOption, last: int) -> tuple[int, int, str]:
    """By status, then rank, then name."""
    return ORDER.index(option.status), option.rank or last + 1, option.name
