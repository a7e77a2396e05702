"""Would following the plan have been better: its value against every fixed option and against the care given.

Values are means of doubly robust scores on held-out rows, from outcome models and propensities fitted on the rows that
the plan learned from (policy evaluation: Dudik, Langford & Li 2011, ICML; intervals by influence function with subjects
as units). Where the plan recommends nothing, following it means the care given. A plan that could not tell the best
options apart still says which ones did worse: that is judged by giving the tied options in equal shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix
from careloop.plan.effect.balance import effective_sample
from careloop.plan.effect.doubly_robust import PROPENSITY_CLIP, Scores, mean_estimate, score_by
from careloop.plan.effect.goals import Array, GoalData, shortfall
from careloop.plan.effect.nuisance import fit_design, fit_outcome_model, fit_propensity
from careloop.plan.make import Plan
from careloop.plan.patients import KEYS, Patients, learning_rows, patients_of
from careloop.plan.words import Kind, number, with_interval

FEWEST_GIVEN = 10  # patients who were given an option before anything is said about its value
PLAN = "the plan"
GIVEN = "care as given"


@dataclass(frozen=True)
class Value:
    """Mean of a goal under one way of choosing (an option for all, `the plan`, `care as given`).

    `effective_sample` is how many equally weighted patients, who were in fact given that choice, it rests on.
    """

    choice: str
    mean: Estimate
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
    options = plan.options
    choices = {PLAN: chosen, GIVEN: np.full(len(chosen), -1)}
    choices |= {option: np.full(len(chosen), a) for a, option in enumerate(options)}
    each = {name: _row_values(scores, choice, reasons) for name, choice in choices.items()}
    values = {
        name: Value(name, _mean(each[name], scores, goal.kind, reasons), _effective_sample(scores, choice))
        for name, choice in choices.items()
    }
    tied = _tied_rows(scores, plan, reasons) if (chosen < 0).all() else None
    if tied is not None:
        mean, compared = tied, list(plan.policy.worse)
    else:
        mean, compared = each[PLAN], [] if (chosen < 0).all() else [GIVEN, *options]
    verdict = PlanVerdict(
        goal=goal.name,
        kind=goal.kind,
        better=goal.better,
        patients=len(np.unique(scores.subjects)),
        rows=len(chosen),
        recommended=int((chosen >= 0).sum()),
        plan=values[PLAN],
        given=values[GIVEN],
        options=tuple(values[option] for option in options),
        tied=None if tied is None else _tied_value(tied, scores, plan, goal.kind),
        comparisons=tuple(
            _compare(mean - each[other], scores, goal, against=values[other], reasons=reasons)
            for other in compared
            if not (other != GIVEN and (chosen == choices[other]).all())
        ),
        words="",
    )
    return replace(verdict, words=value_in_words(verdict, who=who))


def _tied_options(plan: Plan) -> list[str]:
    """The options that an abstaining plan could not tell apart, the best one first."""
    return [] if plan.policy.best is None else [plan.policy.best, *plan.policy.tied]


def _tied_rows(scores: Scores, plan: Plan, reasons: tuple[str | None, ...]) -> Array | None:
    """Mean score (n,) of each row over the tied options; None unless the plan abstained and found others worse."""
    places = [plan.options.index(option) for option in _tied_options(plan)]
    if plan.policy.decision != "abstain" or not plan.policy.worse or any(reasons[a] is not None for a in places):
        return None
    return np.asarray(scores.value[:, places].mean(axis=1))


def _tied_value(values: Array, scores: Scores, plan: Plan, kind: Kind) -> Value:
    tied = _tied_options(plan)
    given = np.isin(scores.arm, [plan.options.index(option) for option in tied])
    name = f"{', '.join(tied[:-1])} or {tied[-1]}"
    return Value(name, mean_estimate(values, scores.subjects, kind=kind), float(given.sum()))


def _row_values(scores: Scores, choice: Array, reasons: tuple[str | None, ...]) -> Array:
    """Score (n,) of each row under its choice, the completed value where the choice is care as given (-1).

    NaN where the option chosen, or the one given, cannot be told about.
    """
    told = np.array([reason is None for reason in reasons])
    rows = np.arange(len(choice))
    own = np.where(told[choice], scores.value[rows, choice], np.nan)
    return np.where(choice >= 0, own, scores.completed)


def _mean(values: Array, scores: Scores, kind: Kind, reasons: tuple[str | None, ...]) -> Estimate:
    if np.isnan(values).any():
        return Estimate(None, reason=next(reason for reason in reasons if reason is not None))
    return mean_estimate(values, scores.subjects, kind=kind)


def _effective_sample(scores: Scores, choice: Array) -> float:
    rows = np.arange(len(choice))
    weight = (scores.arm == choice) / np.maximum(scores.propensity[rows, choice], PROPENSITY_CLIP)
    return effective_sample(np.where(choice >= 0, weight, 1.0))


def _compare(
    difference: Array, scores: Scores, goal: GoalData, *, against: Value, reasons: tuple[str | None, ...]
) -> Comparison:
    estimate = _mean(difference, scores, "measure", reasons)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        words = f"compared with {against.choice} nothing can be said: {estimate.reason}"
        return Comparison(against.choice, estimate, False, words)
    distinguishable = not estimate.low <= 0 <= estimate.high
    better = (estimate.value < 0) == (goal.better == "lower")
    verdict = ("better" if better else "worse") if distinguishable else "not distinguishable"
    words = (
        f"compared with {number(against.mean.value, goal.kind)} under {against.choice}, a difference of "
        f"{with_interval(estimate, goal.kind)}: {verdict}"
    )
    return Comparison(against.choice, estimate, distinguishable, words)


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
