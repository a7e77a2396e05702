"""Make a plan: effects from training and tuning rows, one decision by the stated rule, and a ranking for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from careloop.evaluate import Band, to_json
from careloop.features import FeatureMatrix
from careloop.plan.checks import Checks, check_effects
from careloop.plan.definition import PlanSection
from careloop.plan.effect.diagnostics.balance import Balance
from careloop.plan.effect.doubly_robust import Z_95, GoalEffect, effect_by_day, estimate_effect
from careloop.plan.effect.goals import Array, EventGoalData, MeasureGoalData
from careloop.plan.effect.nuisance import fit_outcome_model, fit_propensity
from careloop.plan.patients import (
    KEYS,
    Learned,
    Patients,
    allowed_options,
    arm_names,
    checked_reference,
    learn,
    learning_rows,
    patients_of,
)
from careloop.plan.policy.choose import Policy, decide, improvement, individual_choice
from careloop.plan.policy.projection import LINKS, Projection, prognosis_of, project
from careloop.plan.policy.splits import TreeFeatures
from careloop.plan.policy.tree import PolicyTree, learn_tree
from careloop.plan.words import decision_in_words, plan_in_words

EXPECTED = ("expected", "low", "high")
DIFFERENCE = ("difference", "difference_low", "difference_high")
CURVE_POINTS = 10  # days at which the risk under each option is estimated


@dataclass(frozen=True)
class OptionCurve:
    """Risk of the outcome by each day if everybody were given the option, adjusted, with pointwise 95 % limits."""

    option: str
    risk: Band


@dataclass(frozen=True)
class Plan:
    """Effects, their checks, the decision, and `table`: one row per (subject_id, prediction_time, option).

    Table columns: `rank` Int32 (1 first; null where the option is not ranked), `expected`, `low`, `high` Float64 (the
    first goal's expected value under the option, for an event its risk by the horizon, with 95 % interval; null where
    the option's effect is not usable), `difference`, `difference_low`, `difference_high` Float64 (the same minus that
    of the reference, whose errors go together), `recommended` Boolean (at most one option a row), `abstained` Boolean
    (no option is recommended in this row), `reason` String.
    """

    section: PlanSection
    options: tuple[str, ...]
    reference: str
    horizon_days: float
    patients: int
    goals: tuple[GoalEffect, ...]
    curves: tuple[OptionCurve, ...]
    balance: Balance
    checks: Checks
    policy: Policy
    tree: PolicyTree | None
    words: tuple[str, ...]
    table: pl.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Content of effects.json; the table is not in it (it is plan.parquet).

        {"section": PlanSection, "options": [name], "reference": name, "horizon_days": days, "patients": count learned
        from, "goals": [{"goal", "kind": "event"|"measure", "better": "lower"|"higher", "horizon_days": days|null,
        "options": [{"option", "patients", "adjusted": E, "plain": E}],
        "contrasts": [{"option", "versus", "adjusted": E, "plain": E, "e_value", "e_value_limit"}] to the reference,
        "pairs": [the same for the other pairs]}],
        "curves": [{"option", "risk": {"x": [day], "value", "low", "high"}}],
        "balance": {"covariates": [{"covariate", "before", "after"}], "options": [{"option", "patients",
        "propensity_low", "propensity_median", "propensity_high", "without_overlap", "effective_sample", "usable",
        "reason"}],
        "notable_before", "notable_after", "overlap_floor", "rule"},
        "checks": as `Checks`,
        "policy": {"goal", "best", "next", "tied": [name], "worse": [name], "lead": E|null, "gain": E|null, "departing":
        share, "decision": "individual"|"best_single"|"abstain", "reason": sentence}, "tree": as `PolicyTree`|null,
        "words": [sentence]}
        with E = {"value", "low", "high", "reason"}.
        """
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in {"table", "section"}}
        return {"section": self.section.model_dump(mode="json"), **to_json(fields)}

    def of(self, rows: pl.DataFrame) -> Plan:
        """The same plan with only the table's rows of these (subject_id, prediction_time)."""
        return replace(self, table=self.table.join(rows.select(KEYS), on=KEYS, how="semi", maintain_order="left"))

    @classmethod
    def from_json(cls, content: Mapping[str, Any], table: pl.DataFrame) -> Plan:
        """Read back what `to_json` wrote, with the table of plan.parquet."""
        return cls(
            section=PlanSection.model_validate(content["section"]),
            options=tuple(content["options"]),
            reference=content["reference"],
            horizon_days=content["horizon_days"],
            patients=content["patients"],
            goals=TypeAdapter(tuple[GoalEffect, ...]).validate_python(content["goals"]),
            curves=TypeAdapter(tuple[OptionCurve, ...]).validate_python(content["curves"]),
            balance=TypeAdapter(Balance).validate_python(content["balance"]),
            checks=TypeAdapter(Checks).validate_python(content["checks"]),
            policy=TypeAdapter(Policy).validate_python(content["policy"]),
            tree=TypeAdapter(PolicyTree | None).validate_python(content["tree"]),
            words=tuple(content["words"]),
            table=table,
        )


def make_plan(
    cohort_rows: pl.DataFrame,
    matrix: FeatureMatrix,
    section: PlanSection,
    *,
    horizon_days: float,
    options: Sequence[str] | None = None,
    controls: Mapping[str, pl.DataFrame] | None = None,
) -> Plan:
    """Learn effects on training and tuning rows and rank the options for all rows.

    `cohort_rows` and `matrix` have the same rows in the same order; `options` are the study's arms in its order
    (default: those found, sorted). `controls` are negative-control outcomes by name: follow_up_days and event of these
    rows in their order. Raises InputError for fewer than two arms, an arm with too few patients, an unknown
    reference, a measure that the cohort does not have, or an arm in which nobody is followed to the horizon.
    """
    names = arm_names(cohort_rows, options)
    reference = checked_reference(section, names)
    patients = patients_of(cohort_rows, matrix, section, horizon_days=horizon_days, options=names)
    learned = learn(patients, learning_rows(cohort_rows, patients.arm), section, options=names)
    effects = tuple(
        estimate_effect(scores, goal, names, reference=reference)
        for scores, goal in zip(learned.scores, learned.patients.goals, strict=True)
    )
    checks = check_effects(
        learned,
        section,
        options=names,
        reference=reference,
        controls=[_control(name, labels, learned, horizon_days) for name, labels in (controls or {}).items()],
    )
    policy = decide(
        learned.scores[0], learned.summarised, effect=effects[0], allowed=learned.allowed, fold=learned.fold
    )
    policy = replace(policy, reason=decision_in_words(policy, effects[0]))
    return Plan(
        section=section,
        options=names,
        reference=reference,
        horizon_days=float(horizon_days),
        patients=len(np.unique(learned.patients.subjects)),
        goals=effects,
        curves=_curves(learned, names, reference),
        balance=learned.balance,
        checks=checks,
        policy=policy,
        tree=learn_tree(
            learned.scores[0],
            TreeFeatures(learned.patients.features, learned.patients.names),
            effect=effects[0],
            allowed=learned.allowed,
            fold=learned.fold,
        ),
        words=plan_in_words(effects, learned.balance, policy, assignment=section.assignment),
        table=_table(cohort_rows, patients, learned, policy=policy, section=section),
    )


def _curves(learned: Learned, options: tuple[str, ...], reference: str) -> tuple[OptionCurve, ...]:
    """One curve an option; none without a goal about follow-up."""
    goal = next((goal for goal in learned.patients.goals if not isinstance(goal, MeasureGoalData)), None)
    if goal is None or learned.follow_up is None:
        return ()
    risk = EventGoalData(goal.name, goal.follow_up_days, goal.event, goal.horizon_days)
    days = np.linspace(0, goal.horizon_days, CURVE_POINTS + 1)[1:]
    effects = effect_by_day(learned.follow_up, risk, days.tolist(), options=options, reference=reference)
    by_option = [[effect.options[a].adjusted for effect in effects] for a in range(len(options))]
    return tuple(
        OptionCurve(
            option,
            Band(
                (0.0, *days.tolist()),
                (0.0, *(estimate.value for estimate in found)),
                (0.0, *(estimate.low for estimate in found)),
                (0.0, *(estimate.high for estimate in found)),
            ),
        )
        for option, found in zip(options, by_option, strict=True)
    )


def _control(name: str, labels: pl.DataFrame, learned: Learned, horizon_days: float) -> EventGoalData:
    own = labels[learned.rows]
    follow_up, event = own["follow_up_days"].to_numpy().astype(float), own["event"].to_numpy()
    return EventGoalData(name, follow_up, event, float(horizon_days))


def _table(
    cohort_rows: pl.DataFrame, patients: Patients, learned: Learned, *, policy: Policy, section: PlanSection
) -> pl.DataFrame:
    """The ranking of the options for all rows, one row per (subject_id, prediction_time, option)."""
    goal, options = learned.patients.goals[0], [option.option for option in learned.balance.options]
    summaries, propensity = _carry_over(patients, learned, section)
    allowed = allowed_options(propensity, learned.balance)
    lines = project(
        learned.summarised,
        learned.scores[0].value,
        learned.patients.subjects,
        usable=learned.balance.usable,
        slopes="own" if policy.decision == "individual" else "shared",
        link=LINKS[goal.kind],
    )
    expected = lines.expected(summaries)
    best = options.index(policy.best) if policy.best is not None else -1
    chosen = _recommend(policy, lines, summaries, best=best, better=goal.better, allowed=allowed)
    reference = options.index(checked_reference(section, tuple(options)))
    difference, reach = expected - expected[:, [reference]], Z_95 * lines.difference_error(summaries, reference)
    values = np.stack([expected, *lines.interval(summaries)])
    differences = np.stack([difference, difference - reach, difference + reach])
    usable = learned.balance.usable
    values[:, :, ~usable] = differences[:, :, ~(usable & usable[reference])] = np.nan
    columns = {
        "option": np.tile(options, len(chosen)),
        "rank": _ranks(improvement(expected, goal.better), chosen, allowed).ravel(),
        **dict(zip(EXPECTED, np.clip(values, *goal.limits).reshape(3, -1), strict=True)),
        **dict(zip(DIFFERENCE, differences.reshape(3, -1), strict=True)),
        "recommended": (chosen[:, None] == np.arange(len(options))).ravel(),
        "abstained": np.repeat(chosen < 0, len(options)),
        "reason": _reasons(policy, learned.balance, chosen=chosen, best=best, allowed=allowed).ravel(),
    }
    keys = cohort_rows.select(KEYS)[np.repeat(np.arange(len(chosen)), len(options))]
    table = keys.hstack(pl.DataFrame({name: pl.Series(column) for name, column in columns.items()}))
    return table.with_columns(
        pl.col("rank").replace(0, None).cast(pl.Int32),
        pl.col(*EXPECTED, *DIFFERENCE).fill_nan(None),
        pl.col("option", "reason").cast(pl.String),
    )


def _carry_over(patients: Patients, learned: Learned, section: PlanSection) -> tuple[Array, Array]:
    """Summaries (n, s) and propensities (n, K) of all rows; learning rows keep their cross-fitted ones."""
    own, options = learned.patients, len(learned.balance.options)
    covariates = learned.design.transform(patients.features)
    outcome = fit_outcome_model(learned.covariates, own.arm, own.goals[0], options)
    prognosis = prognosis_of(outcome.expected(covariates), own.goals[0].kind)
    prognosis[learned.rows] = learned.prognosis
    propensity = fit_propensity(learned.covariates, own.arm, options, assignment=section.assignment)(covariates)
    propensity[learned.rows] = learned.propensity
    return learned.summaries.transform(covariates, prognosis), propensity


def _recommend(policy: Policy, lines: Projection, summaries: Array, *, best: int, better: str, allowed: Array) -> Array:
    """Option (n,) recommended in each row, -1 for none."""
    none = np.full(len(summaries), -1)
    if best < 0 or policy.decision == "abstain":
        return none
    for_all = np.where(allowed[:, best] & (policy.decision == "best_single" or not policy.tied), best, -1)
    if policy.decision == "best_single":
        return for_all
    own = individual_choice(lines, summaries, best=best, better=better, allowed=allowed)
    return np.where(own != best, own, for_all)


def _ranks(goodness: Array, chosen: Array, allowed: Array) -> Array:
    """Ranks (n, K) from 1, the recommended option first, then by expected value; 0 for options not allowed."""
    recommended = chosen[:, None] == np.arange(goodness.shape[1])
    order = np.argsort(np.where(recommended, -np.inf, np.where(allowed, -goodness, np.inf)), axis=1, kind="stable")
    ranks = np.argsort(order, axis=1) + 1
    return np.where(allowed, ranks, 0)


def _reasons(policy: Policy, balance: Balance, *, chosen: Array, best: int, allowed: Array) -> Array:
    """Why an option is recommended, why none is, or why an option is not ranked, (n, K) strings."""
    options = np.array([option.option for option in balance.options], dtype=object)
    reasons = np.full(allowed.shape, "", dtype=object)
    reasons[chosen < 0] = policy.reason
    if best >= 0:
        reasons[(chosen < 0) & ~allowed[:, best]] = f"too few comparable patients were given {options[best]}"
        single = np.flatnonzero(chosen == best)
        reasons[single, best] = policy.reason
        departing = np.flatnonzero((chosen >= 0) & (chosen != best))
        reasons[departing, chosen[departing]] = (
            f"for this patient the expected gain over {options[best]} has its 95 % interval above zero"
        )
    for a, option in enumerate(balance.options):
        reasons[~allowed[:, a], a] = option.reason or f"too few comparable patients were given {option.option}"
    return reasons
