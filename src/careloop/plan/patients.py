"""A study's rows as arrays, and everything that is fitted on those of them that a plan may learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.plan.definition import EventGoal, Goal, MeasureGoal, PlanSection
from careloop.plan.effect.diagnostics.balance import Balance, check_balance
from careloop.plan.effect.doubly_robust import CrossFit, Scores, cross_fit, cross_fit_propensity
from careloop.plan.effect.goals import Array, EventGoalData, GoalData, MeasureGoalData, RmstGoalData, require_told
from careloop.plan.effect.nuisance import Design, fit_design, subject_folds
from careloop.plan.policy.projection import Summaries, fit_summaries, prognosis_of

LEARNING_SPLITS = ("train", "tuning")
KEYS = ["subject_id", "prediction_time"]
FOLLOW_UP = "follow-up"


@dataclass(frozen=True)
class Patients:
    """Rows as arrays: `arm` (n,) is the option's position, -1 for none of them; `goals` in the section's order."""

    features: Any  # (n, p)
    names: tuple[str, ...]
    arm: Array
    subjects: Array
    goals: tuple[GoalData, ...]

    def take(self, rows: Array) -> Patients:
        """The same for some rows."""
        goals = tuple(goal.take(rows) for goal in self.goals)
        return Patients(self.features[rows], self.names, self.arm[rows], self.subjects[rows], goals)


def arm_names(cohort_rows: pl.DataFrame, options: Sequence[str] | None) -> tuple[str, ...]:
    """The arms in the study's order, at least two."""
    if "treatment" not in cohort_rows.columns:
        raise InputError("a plan needs treatment arms, but the cohort has none; add cohort.treatment or remove plan")
    found = tuple(options) if options is not None else tuple(cohort_rows["treatment"].drop_nulls().unique().sort())
    if len(found) < 2:
        raise InputError(
            f"a plan compares at least two arms, got {len(found)} in the cohort's treatment; add arms to "
            "cohort.treatment.arms or remove plan"
        )
    return found


def checked_reference(section: PlanSection, options: tuple[str, ...]) -> str:
    """The reference arm: the section's, else the first."""
    reference = options[0] if section.reference is None else section.reference
    if reference not in options:
        raise InputError(f"plan.reference must be one of the arms {', '.join(options)}; got {reference!r}")
    return reference


def patients_of(
    cohort_rows: pl.DataFrame,
    matrix: FeatureMatrix,
    section: PlanSection,
    *,
    horizon_days: float,
    options: tuple[str, ...],
) -> Patients:
    """Cohort rows and their features as arrays, in the same order."""
    if not cohort_rows.select(KEYS).equals(matrix.keys.select(KEYS)):
        raise InputError(
            f"features must have the cohort's rows in the cohort's order; got {matrix.keys.height} feature rows for "
            f"{cohort_rows.height} cohort rows; extract the features of this cohort again"
        )
    position = {option: float(a) for a, option in enumerate(options)}
    arm = cohort_rows["treatment"].replace_strict(position, default=-1.0, return_dtype=pl.Float64)
    return Patients(
        features=matrix.values,
        names=matrix.names,
        arm=arm.fill_null(-1.0).to_numpy().astype(int),
        subjects=cohort_rows["subject_id"].to_numpy(),
        goals=tuple(_goal_data(cohort_rows, goal, horizon_days) for goal in section.goals),
    )


def _goal_data(cohort_rows: pl.DataFrame, goal: Goal, horizon_days: float) -> GoalData:
    if not isinstance(goal, MeasureGoal):
        follow_up, event = cohort_rows["follow_up_days"].to_numpy().astype(float), cohort_rows["event"].to_numpy()
        kind = EventGoalData if isinstance(goal, EventGoal) else RmstGoalData
        return kind(goal.name, follow_up, event, float(horizon_days))
    column = f"measure_{goal.measure}"
    if column not in cohort_rows.columns:
        measures = [name.removeprefix("measure_") for name in cohort_rows.columns if name.startswith("measure_")]
        raise InputError(
            f"plan.goals names measure {goal.measure!r}, which the cohort does not have (it has: "
            f"{', '.join(measures) or 'none'}); add it to cohort.measures"
        )
    measured = cohort_rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(float)
    return MeasureGoalData(goal.name, measured, goal.better)


def learning_rows(cohort_rows: pl.DataFrame, arm: Array) -> Array:
    """Positions of training and tuning rows that belong to an arm."""
    return np.flatnonzero(cohort_rows["split"].is_in(LEARNING_SPLITS).to_numpy() & (arm >= 0))


@dataclass(frozen=True)
class Learned:
    """What the learning rows (n of them) gave: scores of every goal, and the parts to carry over to other rows."""

    patients: Patients
    rows: Array  # (n,) positions among the cohort's rows
    design: Design
    covariates: Array  # (n, p)
    fold: Array  # (n,)
    propensity: Array  # (n, K), cross-fitted
    balance: Balance
    allowed: Array  # (n, K) the option is usable, and usable for this row
    follow_up: CrossFit | None  # models of the event goals, if there are any
    scores: tuple[Scores, ...]
    prognosis: Array  # (n,) first goal's expectation averaged over options, cross-fitted
    summaries: Summaries
    summarised: Array  # (n, s)


def learn(cohort_patients: Patients, rows: Array, section: PlanSection, *, options: tuple[str, ...]) -> Learned:
    """Fit propensities and outcome models on the rows at these positions, by folds of subjects, and check the arms."""
    patients = cohort_patients.take(rows)
    _check_arm_sizes(patients, options, section.minimum_per_arm)
    for goal in patients.goals:
        require_told(goal, patients.arm, options)
    design = fit_design(patients.features, patients.names)
    covariates = design.transform(patients.features)
    fold = subject_folds(patients.subjects, section.folds, section.seed)
    propensity = cross_fit_propensity(covariates, patients.arm, len(options), fold=fold, assignment=section.assignment)
    balance = check_balance(
        covariates,
        design.names,
        arm=patients.arm,
        propensity=propensity,
        options=options,
        minimum_effective_sample=section.minimum_effective_sample,
    )
    fitted: dict[str, CrossFit] = {}
    for goal in patients.goals:
        about = _about(goal)
        fitted[about] = fitted.get(about) or cross_fit(
            covariates, patients.arm, goal, subjects=patients.subjects, propensity=propensity, fold=fold
        )
    scores = tuple(fitted[_about(goal)].score(goal) for goal in patients.goals)
    prognosis = prognosis_of(scores[0].expected, patients.goals[0].kind)
    summaries = fit_summaries(covariates, prognosis)
    return Learned(
        patients=patients,
        rows=rows,
        design=design,
        covariates=covariates,
        fold=fold,
        propensity=propensity,
        balance=balance,
        allowed=allowed_options(propensity, balance),
        follow_up=fitted.get(FOLLOW_UP),
        scores=scores,
        prognosis=prognosis,
        summaries=summaries,
        summarised=summaries.transform(covariates, prognosis),
    )


def _about(goal: GoalData) -> str:
    """What a goal's models are fitted to: goals about the same follow-up share them."""
    return goal.name if isinstance(goal, MeasureGoalData) else FOLLOW_UP


def _check_arm_sizes(patients: Patients, options: tuple[str, ...], minimum: int) -> None:
    for a, option in enumerate(options):
        count = len(np.unique(patients.subjects[patients.arm == a]))
        if count < minimum:
            raise InputError(
                f"each arm needs at least plan.minimum_per_arm = {minimum} training and tuning patients, but arm "
                f"{option!r} has {count}; drop it from cohort.treatment.arms, join it to another, or widen eligibility"
            )


def allowed_options(propensity: Array, balance: Balance) -> Array:
    """Options (n, K) that are usable at all and that enough patients like this one were given."""
    return (propensity >= balance.overlap_floor) & balance.usable
