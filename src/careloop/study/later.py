"""What a run's predictions and plan turned out to be worth by what the record holds now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from careloop.cohort import label_outcomes
from careloop.evaluate import to_json
from careloop.record import Record
from careloop.study.folder import RunFolder
from careloop.study.stages import KEYS, cohort_rows, feature_matrix, packages, read_plan

if TYPE_CHECKING:
    from careloop.outcome import Verdict
    from careloop.outcome.effects import EffectVerdict
    from careloop.outcome.followed import FollowedVerdict
    from careloop.outcome.stream.follow import Following
    from careloop.study.study import Study


@dataclass(frozen=True)
class Later:
    """Predictions in all and as they arrived, whether plans were followed and what that did, and each effect again.

    `followed` and `effects` are empty where the study has no plan.
    """

    predictions: Verdict
    following: Following
    followed: tuple[FollowedVerdict, ...]
    effects: tuple[EffectVerdict, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All of it in sentences."""
        plan = (*(verdict.words for verdict in self.followed), *(f"{verdict.words}." for verdict in self.effects))
        return (*self.predictions.words, *self.following.words, *plan)

    def to_json(self) -> dict[str, Any]:
        """The layout of outcome.json (`Verdict.to_json`), with "following", "followed" and "effects" beside."""
        plan = {"followed": to_json(self.followed), "effects": to_json(self.effects)}
        return {**self.predictions.to_json(), "following": self.following.to_json(), **plan, "words": list(self.words)}


def judge_later(study: Study, run: RunFolder, record: Record) -> Later:
    """Judge the predictions that the run's models left in the record, and the run's plan, by the record as it is.

    The plan is judged on held-out patients: did they do better where the decision in the record (`careloop decide`, or
    else the treatment it shows) was the option recommended, and did the options do what the plan says.

    Raises InputError where the record has no such predictions.
    """
    from careloop.outcome import verify_record
    from careloop.outcome.effects import judge_effects
    from careloop.outcome.followed import judge_followed
    from careloop.outcome.stream.follow import follow_record
    from careloop.plan.decisions import recorded_decisions

    versions = [package.version for package in packages(study, run)]
    predictions = verify_record(record, study.cohort, model_versions=versions)
    following = follow_record(record, study.cohort, model_versions=versions)
    plan = read_plan(run)
    if plan is None:
        return Later(predictions, following, (), ())
    matrix, rows = feature_matrix(run, "held_out"), _relabelled(study, run, record)
    recommended = plan.table.filter("recommended").select(*KEYS, pl.col("option").alias("recommended"))
    decisions = recorded_decisions(record, plan=study.name).select(*KEYS, "chosen")
    decided = rows.join(recommended, on=KEYS, how="left", maintain_order="left").join(
        decisions, on=KEYS, how="left", maintain_order="left"
    )
    followed = judge_followed(decided, matrix, plan.section, horizon_days=plan.horizon_days)
    return Later(predictions, following, followed, judge_effects(rows, matrix, plan))


def _relabelled(study: Study, run: RunFolder, record: Record) -> pl.DataFrame:
    """The run's held-out rows with outcomes and measures as the record has them by now."""
    rows = cohort_rows(run, "held_out")
    labels = label_outcomes(record, rows.select(KEYS), study.cohort)
    kept = [name for name in rows.columns if name in KEYS or name not in labels.columns]
    return rows.select(kept).join(labels, on=KEYS, how="left", maintain_order="left")
