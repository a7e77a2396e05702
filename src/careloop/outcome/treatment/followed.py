"""Did patients whose plan was followed do better than comparable ones whose plan was not.

Following is not drawn by lot: sicker or more reluctant patients deviate. So it is treated as an observed option like
any other, with propensity, outcome model, overlap and balance, and a difference is refused where those do not allow it.
The option that was recommended counts among the covariates, because patients with different advice are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.features import FeatureMatrix
from careloop.plan.definition import PlanSection
from careloop.plan.effect.diagnostics.balance import Balance
from careloop.plan.effect.doubly_robust import Contrast, GoalEffect, estimate_effect
from careloop.plan.patients import learn, patients_of
from careloop.plan.words import with_interval

FOLLOWED = "plan followed"
NOT_FOLLOWED = "plan not followed"
ARMS = (NOT_FOLLOWED, FOLLOWED)


@dataclass(frozen=True)
class FollowedVerdict:
    """Followed minus not followed on one goal, adjusted and plain; `difference` has a reason where it cannot be told.

    `deviations` counts the options that were given instead, the commonest first, and `balance` says whether followed
    and not followed patients could be compared; null where there were too few.
    """

    goal: str
    followed: int
    not_followed: int
    difference: Estimate
    plain: Estimate
    balance: Balance | None
    deviations: tuple[tuple[str, int], ...]
    words: str


def judge_followed(
    rows: pl.DataFrame, matrix: FeatureMatrix, section: PlanSection, *, horizon_days: float
) -> tuple[FollowedVerdict, ...]:
    """One verdict per goal of the section.

    `rows`: cohort rows with follow_up_days, event and measures, and beside them `recommended` (null where nothing was)
    and `chosen`, the option given (null if none of the plan's); `matrix` has their features in the same order. Rows
    without a recommendation have nothing to follow and are left out. Raises InputError without these columns.
    """
    absent = [name for name in ("recommended", "chosen") if name not in rows.columns]
    if absent:
        raise InputError(f"whether plans were followed needs column {absent[0]!r}, which the rows do not have; join it")
    advised = rows["recommended"].is_not_null().to_numpy()
    rows, matrix = rows.filter(advised), matrix.filter(advised)
    arms = pl.when((pl.col("chosen") == pl.col("recommended")).fill_null(False)).then(pl.lit(FOLLOWED))
    rows = rows.with_columns(treatment=arms.otherwise(pl.lit(NOT_FOLLOWED)))
    counts = tuple(rows.filter(pl.col("treatment") == arm)["subject_id"].n_unique() for arm in ARMS)
    deviations = _deviations(rows)
    if min(counts) < section.minimum_per_arm:
        reason = (
            f"the plan was followed in {counts[1]} patients and not in {counts[0]}; "
            f"at least {section.minimum_per_arm} of each are needed"
        )
        if not rows.height:
            reason = "the plan recommended no option to any of these patients, so there was nothing to follow"
        return tuple(
            _cannot_tell(goal.name, counts, reason, deviations=deviations, balance=None) for goal in section.goals
        )
    # Nobody draws lots whether a plan is followed, also where the arms were drawn.
    own = section.model_copy(update={"assignment": "observed", "reference": None})
    patients = patients_of(rows, _with_advice(rows, matrix), own, horizon_days=horizon_days, options=ARMS)
    learned = learn(patients, np.arange(rows.height), own, options=ARMS)
    effects = [
        estimate_effect(scores, goal, ARMS, reference=NOT_FOLLOWED)
        for scores, goal in zip(learned.scores, learned.patients.goals, strict=True)
    ]
    return tuple(_verdict(effect, learned.balance, counts, deviations) for effect in effects)


def _with_advice(rows: pl.DataFrame, matrix: FeatureMatrix) -> FeatureMatrix:
    """The features with one column for each option that was recommended to some."""
    advice = rows["recommended"].to_numpy()
    names = sorted(set(advice.tolist()))
    values = matrix.values.toarray() if hasattr(matrix.values, "toarray") else np.asarray(matrix.values)
    columns = np.column_stack([values, *((advice == name).astype(float) for name in names)])
    return replace(matrix, names=(*matrix.names, *(f"advice {name}" for name in names)), values=columns)


def _deviations(rows: pl.DataFrame) -> tuple[tuple[str, int], ...]:
    other = rows.filter(pl.col("treatment") == NOT_FOLLOWED)["chosen"].fill_null("none of the options")
    counted = other.value_counts(name="patients").sort("patients", "chosen", descending=[True, False])
    return tuple((str(option), int(count)) for option, count in counted.iter_rows())


def _verdict(
    effect: GoalEffect, balance: Balance, counts: tuple[int, ...], deviations: tuple[tuple[str, int], ...]
) -> FollowedVerdict:
    contrast = effect.contrasts[0]
    refused = [option for option in balance.options if not option.usable]
    if refused:
        found = _cannot_tell(effect.goal, counts, refused[0].reason, deviations=deviations, balance=balance)
        return replace(found, plain=contrast.plain)
    return FollowedVerdict(
        goal=effect.goal,
        followed=counts[1],
        not_followed=counts[0],
        difference=contrast.adjusted,
        plain=contrast.plain,
        balance=balance,
        deviations=deviations,
        words=_in_words(effect, contrast, balance, counts),
    )


def _cannot_tell(
    goal: str, counts: tuple[int, ...], reason: str, *, deviations: Sequence[tuple[str, int]], balance: Balance | None
) -> FollowedVerdict:
    missing = Estimate(None, reason=reason)
    words = f"Whether following the plan changed {goal} cannot be told: {reason}."
    return FollowedVerdict(goal, counts[1], counts[0], missing, missing, balance, tuple(deviations), words)


def _in_words(effect: GoalEffect, contrast: Contrast, balance: Balance, counts: tuple[int, ...]) -> str:
    goal = "risk of the outcome" if effect.kind == "event" else f"mean {effect.goal}"
    value, low, high = contrast.adjusted.value or 0.0, contrast.adjusted.low or 0.0, contrast.adjusted.high or 0.0
    better = (value < 0) == (effect.better == "lower")
    verdict = "not distinguishable" if low <= 0 <= high else "better" if better else "worse"
    return (
        f"The plan was followed in {counts[1]} patients and not in {counts[0]}. Following it went with a difference in "
        f"{goal} of {with_interval(contrast.adjusted, effect.kind)} between comparable patients ({verdict}; as they "
        f"are, {with_interval(contrast.plain, effect.kind)}), if the covariates hold all reasons for deviating; "
        f"{balance.notable_after} of {len(balance.covariates)} differ by more than 0.1 SD after weighting."
    )
