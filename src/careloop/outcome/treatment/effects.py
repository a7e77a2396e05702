"""Did the options do in later patients what the plan said they would: each effect, estimated again and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix
from careloop.plan.effect.doubly_robust import Z_95, Contrast, GoalEffect, estimate_effect
from careloop.plan.make import Plan
from careloop.plan.patients import learn, patients_of
from careloop.plan.words import with_interval

Z_POWER = 0.8416212335729143  # of 80 % power
MOST_NEEDED = 1_000_000  # more patients than that are as good as never

Answer = Literal["borne out", "not borne out", "cannot tell yet"]


@dataclass(frozen=True)
class EffectVerdict:
    """One effect of the plan against the same effect in later patients.

    `verdict`: borne out where the later interval lies on the same side of no effect and agrees with the plan's;
    not borne out where the two disagree by more than chance (the interval of their difference leaves out 0);
    else cannot tell yet, with `still_needed`, how many more patients tell an effect as large as the plan's from none
    with 80 % power (null where the plan's own effect is not told from none, or a million would not do).
    """

    goal: str
    option: str
    versus: str
    planned: Estimate
    later: Estimate
    patients: int
    verdict: Answer
    still_needed: int | None
    words: str


def judge_effects(cohort_rows: pl.DataFrame, matrix: FeatureMatrix, plan: Plan) -> tuple[EffectVerdict, ...]:
    """Every contrast of the plan with its reference, estimated again on `cohort_rows` that the plan has not seen.

    Rows, with their features in `matrix`, as for `make_plan`; those in no arm are left out. Nothing is said (an empty
    result) while an arm has fewer patients than the plan's `minimum_per_arm`.
    """
    section = plan.section
    patients = patients_of(cohort_rows, matrix, section, horizon_days=plan.horizon_days, options=plan.options)
    given = np.flatnonzero(patients.arm >= 0)
    sizes = [len(np.unique(patients.subjects[patients.arm == a])) for a in range(len(plan.options))]
    if min(sizes) < section.minimum_per_arm:
        return ()
    learned = learn(patients, given, section, options=plan.options)
    count = len(np.unique(learned.patients.subjects))
    usable = dict(zip(plan.options, learned.balance.usable, strict=True))
    verdicts: list[EffectVerdict] = []
    for planned, scores, goal in zip(plan.goals, learned.scores, learned.patients.goals, strict=True):
        later = estimate_effect(scores, goal, plan.options, reference=plan.reference)
        verdicts += [
            _verdict(planned, ours, theirs, patients=count)
            for ours, theirs in zip(planned.contrasts, later.contrasts, strict=True)
            if usable[ours.option] and usable[ours.versus]
        ]
    return tuple(verdicts)


def _verdict(effect: GoalEffect, planned: Contrast, later: Contrast, *, patients: int) -> EffectVerdict:
    answer = compare(planned.adjusted, later.adjusted)
    needed = still_needed(planned.adjusted, later.adjusted, patients) if answer == "cannot tell yet" else None
    text = (
        f"{planned.option} against {planned.versus} on {effect.goal}: the plan said "
        f"{with_interval(planned.adjusted, effect.kind)}, {patients} later patients say "
        f"{with_interval(later.adjusted, effect.kind)}: {answer}"
    )
    if answer == "cannot tell yet":
        text += f"; about {needed:,} more patients are needed" if needed else "; the plan claimed no effect here"
    elif answer == "not borne out":
        text += _how(planned.adjusted, later.adjusted)
    return EffectVerdict(
        effect.goal, planned.option, planned.versus, planned.adjusted, later.adjusted, patients, answer, needed, text
    )


def _how(planned: Estimate, later: Estimate) -> str:
    (p, _), (q, _) = _with_error(planned), _with_error(later)
    if p * q <= 0:
        return ", it points the other way"
    return ", it is larger than the plan said" if abs(q) > abs(p) else ", it is smaller than the plan said"


def compare(planned: Estimate, later: Estimate) -> Answer:
    """Whether a later estimate bears the planned one out, both with intervals."""
    (p, p_error), (q, q_error) = _with_error(planned), _with_error(later)
    if abs(p - q) > Z_95 * math.hypot(p_error, q_error):
        return "not borne out"
    told, same_side = abs(q) > Z_95 * q_error, p * q > 0
    return "borne out" if told and same_side and abs(p) > Z_95 * p_error else "cannot tell yet"


def still_needed(planned: Estimate, later: Estimate, patients: int) -> int | None:
    """More patients that tell the planned effect from none with 80 % power, at the spread seen in `patients`."""
    (p, p_error), (_, error) = _with_error(planned), _with_error(later)
    if abs(p) <= Z_95 * p_error:
        return None
    total = patients * (error * (Z_95 + Z_POWER) / p) ** 2
    return max(1, math.ceil(total - patients)) if total < MOST_NEEDED else None


def _with_error(estimate: Estimate) -> tuple[float, float]:
    value, low, high = estimate.value or 0.0, estimate.low or 0.0, estimate.high or 0.0
    return value, (high - low) / (2 * Z_95)
