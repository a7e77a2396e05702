"""Would following the plan have been better: its value against every fixed option and against the care given.

Values are means of doubly robust scores on held-out rows, from outcome models and propensities fitted on the rows that
the plan learned from (policy evaluation: Dudik, Langford & Li 2011, ICML; intervals by influence function with subjects
as units); self-normalised inverse propensity scores, which need no outcome model, stand beside. Nothing is said of a
choice by which fewer than an effective 50 patients were treated. Where the plan recommends nothing, following it means
the care given. A plan that could not tell the best options apart still says which ones did worse: that is judged by
giving the tied options in equal shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix
from careloop.plan.effect.doubly_robust import Scores, mean_estimate, score_by
from careloop.plan.effect.goals import Array, GoalData, shortfall
from careloop.plan.effect.nuisance import fit_design, fit_outcome_model, fit_propensity
from careloop.plan.make import Plan
from careloop.plan.patients import KEYS, Patients, learning_rows, patients_of
from careloop.plan.policy.off_policy import (
    AS_GIVEN,
    CARE_AS_GIVEN,
    effective_patients,
    policy_scores,
    policy_value,
    policy_weights,
)
from careloop.plan.words import Kind, number, with_interval

FEWEST_GIVEN = 10  # patients who were given an option before anything is said about its value
PLAN = "the plan"


@dataclass(frozen=True)
class Value:
    """Mean of a goal under one way of choosing (an option for all, `the plan`, `care as given`).

    `mean` is doubly robust; `snips` the self-normalised mean of those in fact given that choice, without an outcome
    model. `effective_sample` is how many equally weighted patients those are.
    """

    choice: str
    mean: Estimate
    snips: Estimate
    effective_sample: float


@dataclass(frozen=True)
class Comparison:
    """The plan, or where it abstains its tied options, minus another choice; `distinguishable` without 0 in between."""

    against: str
    difference: Estimate
    distinguishable: bool
    words: str


@dataclass(frozen=True)
class PlanVerdict:
    """The plan's value for one goal; of the `rows` of `patients` it recommended an option in `recommended`.

    `tied` is the value of the options that the plan could not tell apart, in equal shares; null unless it abstained
    and found others worse.
    """

    goal: str
    kind: Kind
    better: Literal["lower", "higher"]
    patients: int
    rows: int
    recommended: int
    plan: Value
    given: Value
    options: tuple[Value, ...]
    tied: Value | None
    comparisons: tuple[Comparison, ...]
    words: str


def judge_plan(cohort_rows: pl.DataFrame, matrix: FeatureMatrix, plan: Plan, *, who: str) -> tuple[PlanVerdict, ...]:
    """One verdict per goal of the plan, on held-out rows that belong to an arm."""
    everyone = patients_of(cohort_rows, matrix, plan.section, horizon_days=plan.horizon_days, options=plan.options)
    held = np.flatnonzero((cohort_rows["split"] == "held_out").to_numpy() & (everyone.arm >= 0))
    learned, judged = everyone.take(learning_rows(cohort_rows, everyone.arm)), everyone.take(held)
    chosen = _recommended(cohort_rows.select(KEYS)[held], plan)
    return tuple(
        _judge(scores, goal, plan, chosen=chosen, reasons=reasons, who=who)
        for scores, goal, reasons in _held_out_scores(learned, judged, plan)
    )


def _recommended(keys: pl.DataFrame, plan: Plan) -> Array:
    """Position (n,) of the option recommended in each row, -1 for none."""
    position = {option: float(a) for a, option in enumerate(plan.options)}
    recommended = plan.table.filter("recommended").select(*KEYS, "option")
    option = keys.join(recommended, on=KEYS, how="left", maintain_order="left")["option"]
    return option.replace_strict(position, default=-1.0, return_dtype=pl.Float64).fill_null(-1.0).to_numpy().astype(int)


def _held_out_scores(
    learned: Patients, judged: Patients, plan: Plan
) -> Iterator[tuple[Scores, GoalData, tuple[str | None, ...]]]:
    """Scores of held-out rows for each goal, and for each option why its value cannot be told, if so."""
    options = len(plan.options)
    design = fit_design(learned.features, learned.names)
    covariates, held = design.transform(learned.features), design.transform(judged.features)
    propensity = fit_propensity(covariates, learned.arm, options, assignment=plan.section.assignment)(held)
    for goal, own in zip(learned.goals, judged.goals, strict=True):
        reasons = tuple(_cannot_tell(judged, own, a) for a in range(options))
        told = [a for a, reason in enumerate(reasons) if reason is None]
        model = fit_outcome_model(covariates, learned.arm, goal, options)
        told_arm = np.where(np.isin(judged.arm, told), judged.arm, -1)
        scores = score_by(model, held, told_arm, goal=own, subjects=judged.subjects, propensity=propensity)
        yield scores, own, reasons


def _cannot_tell(judged: Patients, goal: GoalData, a: int) -> str | None:
    rows = np.flatnonzero(judged.arm == a)
    patients = len(np.unique(judged.subjects[rows]))
    if patients < FEWEST_GIVEN:
        return f"only {patients} of these patients were given it, fewer than {FEWEST_GIVEN}"
    return shortfall(goal.take(rows))


def _judge(
    scores: Scores,
    goal: GoalData,
    plan: Plan,
    *,
    chosen: Array,
    reasons: tuple[str | None, ...],
    who: str,
) -> PlanVerdict:
    rows, nothing = len(chosen), bool((chosen == AS_GIVEN).all())
    policies = {PLAN: chosen, CARE_AS_GIVEN: np.full(rows, AS_GIVEN)}
    policies |= {option: np.full(rows, a) for a, option in enumerate(plan.options)}
    values = {name: _value(name, policy, scores, goal.kind, reasons) for name, policy in policies.items()}
    tied = _tied(scores, plan, goal.kind, reasons) if nothing else None
    followed = (chosen, values[PLAN]) if tied is None else tied
    against = [*plan.policy.worse] if tied is not None else [] if nothing else [CARE_AS_GIVEN, *plan.options]
    verdict = PlanVerdict(
        goal=goal.name,
        kind=goal.kind,
        better=goal.better,
        patients=len(np.unique(scores.subjects)),
        rows=rows,
        recommended=int((chosen >= 0).sum()),
        plan=values[PLAN],
        given=values[CARE_AS_GIVEN],
        options=tuple(values[option] for option in plan.options),
        tied=None if tied is None else tied[1],
        comparisons=tuple(
            _compare(scores, followed, (policies[other], values[other]), goal)
            for other in against
            if other == CARE_AS_GIVEN or not (chosen == policies[other]).all()
        ),
        words="",
    )
    return replace(verdict, words=value_in_words(verdict, who=who))


def _value(name: str, policy: Array, scores: Scores, kind: Kind, reasons: tuple[str | None, ...]) -> Value:
    """Value of a policy, or why it has none: an option that cannot be told about, or too few treated so."""
    reason = _untold(scores, policy, reasons)
    if reason is None:
        found = policy_value(scores, policy, name=name, kind=kind)
        return Value(name, found.doubly_robust, found.snips, found.effective_sample)
    unknown = Estimate(None, reason=reason)
    return Value(name, unknown, unknown, effective_patients(policy_weights(scores, policy), scores.subjects))


def _untold(scores: Scores, policy: Array, reasons: tuple[str | None, ...]) -> str | None:
    """Why an option that the policy gives, or keeps, cannot be told about."""
    used = np.flatnonzero(policy.any(axis=0)) if policy.ndim == 2 else np.unique(policy[policy >= 0])
    untold = [reasons[a] for a in used if reasons[a] is not None]
    if policy.ndim == 1 and (scores.arm[policy == AS_GIVEN] < 0).any():
        untold += [reason for reason in reasons if reason is not None]
    return untold[0] if untold else None


def _tied(scores: Scores, plan: Plan, kind: Kind, reasons: tuple[str | None, ...]) -> tuple[Array, Value] | None:
    """The options that the plan could not tell apart in equal shares (n, K), and their value.

    None unless the plan abstained and found others worse, or where that value cannot be told.
    """
    policy = plan.policy
    if policy.decision != "abstain" or policy.best is None or not policy.worse:
        return None
    tied = [policy.best, *policy.tied]
    shares = np.isin(plan.options, tied) / len(tied) * np.ones((len(scores.arm), 1))
    value = _value(f"{', '.join(tied[:-1])} or {tied[-1]}", shares, scores, kind, reasons)
    return None if value.mean.value is None else (shares, value)


def _compare(scores: Scores, followed: tuple[Array, Value], against: tuple[Array, Value], goal: GoalData) -> Comparison:
    name, other = against[1].choice, against[1].mean
    reason = followed[1].mean.reason or other.reason
    if reason is not None:
        words = f"compared with {name} nothing can be said: {reason}"
        return Comparison(name, Estimate(None, reason=reason), False, words)
    estimate = mean_estimate(policy_scores(scores, followed[0]) - policy_scores(scores, against[0]), scores.subjects)
    low, value, high = estimate.low, estimate.value, estimate.high
    distinguishable = value is not None and low is not None and high is not None and not low <= 0 <= high
    better = value is not None and (value < 0) == (goal.better == "lower")
    verdict = ("better" if better else "worse") if distinguishable else "not distinguishable"
    words = (
        f"compared with {number(other.value, goal.kind)} under {name}, a difference of "
        f"{with_interval(estimate, goal.kind)}: {verdict}"
    )
    return Comparison(name, estimate, distinguishable, words)


def value_in_words(verdict: PlanVerdict, *, who: str) -> str:
    """What a clinician reads: the goal had the plan been followed, beside the care given and each option for all."""
    goal = "the risk of the outcome" if verdict.kind == "event" else f"the mean {verdict.goal}"
    options = "; ".join(
        f"{option.choice} {with_interval(option.mean, verdict.kind) if option.mean.value is not None else 'unknown'}"
        for option in verdict.options
    )
    everybody = f"Had everybody been given one option, {goal} would have been: {options}."
    if verdict.recommended == 0:
        return _abstention_in_words(verdict, goal, who=who, everybody=everybody)
    if verdict.plan.mean.value is None:
        return f"What following the plan would have done cannot be told: {verdict.plan.mean.reason}. {everybody}"
    part = (
        ""
        if verdict.recommended == verdict.rows
        else (
            f" (it recommended an option in {verdict.recommended} of {verdict.rows} cases; the others count as treated)"
        )
    )
    compared = "; ".join(comparison.words for comparison in verdict.comparisons)
    return (
        f"On {verdict.patients} {who} patients, following the plan{part} would have made {goal} "
        f"{with_interval(verdict.plan.mean, verdict.kind)}, seen in an effective {verdict.plan.effective_sample:.0f} "
        f"patients who were treated so; {compared}."
    )


def _abstention_in_words(verdict: PlanVerdict, goal: str, *, who: str, everybody: str) -> str:
    head = f"The plan recommended no single option to these {verdict.patients} {who} patients"
    if verdict.tied is None:
        given = with_interval(verdict.given.mean, verdict.kind)
        return f"{head}, so there is nothing to follow; as treated, {goal} was {given}. {everybody}"
    compared = "; ".join(comparison.words for comparison in verdict.comparisons)
    return (
        f"{head}: it could not tell {verdict.tied.choice} apart and found the others worse. Given these in equal "
        f"shares, {goal} would have been {with_interval(verdict.tied.mean, verdict.kind)}; {compared}. {everybody}"
    )
