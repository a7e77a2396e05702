"""What a run's predictions and plan turned out to be worth by what the record holds now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.cohort import label_outcomes
from careloop.evaluate import to_json
from careloop.record import Record
from careloop.study.folder import RunFolder
from careloop.study.stages import KEYS, cohort_rows, feature_matrix, packages, read_plan
from careloop.train import open_package

if TYPE_CHECKING:
    from careloop.outcome import Verdict
    from careloop.outcome.acted_upon.silent import SilentTrial
    from careloop.outcome.acted_upon.untreated import UntreatedVerdict
    from careloop.outcome.stream.follow import Following
    from careloop.outcome.stream.watch import Inputs
    from careloop.outcome.treatment.effects import EffectVerdict
    from careloop.outcome.treatment.followed import FollowedVerdict
    from careloop.study.study import Study


@dataclass(frozen=True)
class Later:
    """Predictions in all and as they arrived, whether plans were followed and what that did, and each effect again.

    `silent` has the models with predictions that nobody was shown, `untreated` the primary model's risk had nobody
    acted (None where no action was named); `followed` and `effects` are empty where the study has no plan.
    """

    predictions: Verdict
    following: Following
    silent: tuple[SilentTrial, ...]
    untreated: UntreatedVerdict | None
    followed: tuple[FollowedVerdict, ...]
    effects: tuple[EffectVerdict, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All of it in sentences."""
        plan = (*(verdict.words for verdict in self.followed), *(f"{verdict.words}." for verdict in self.effects))
        acted = (*(trial.words for trial in self.silent), *([self.untreated.words] if self.untreated else []))
        return (*self.predictions.words, *acted, *self.following.words, *plan)

    def to_json(self) -> dict[str, Any]:
        """The layout of outcome.json (`Verdict.to_json`), with the other parts beside under their names."""
        parts = {name: to_json(getattr(self, name)) for name in ("silent", "untreated", "followed", "effects")}
        return {**self.predictions.to_json(), "following": self.following.to_json(), **parts, "words": list(self.words)}


def judge_later(study: Study, run: RunFolder, record: Record, *, acted: Sequence[str] = ()) -> Later:
    """Judge the predictions that the run's models left in the record, and the run's plan, by the record as it is.

    `acted` are codes (a prefix ends in *) of what is done about a high risk.

    The plan is judged on held-out patients: did they do better where the decision in the record (`careloop decide`, or
    else the treatment it shows) was the option recommended, and did the options do what the plan says.

    Raises InputError where the record has no such predictions.
    """
    from careloop.outcome.acted_upon.silent import judge_silent
    from careloop.outcome.events import labelled_predictions, verify_labelled
    from careloop.outcome.stream.follow import follow, last_fact
    from careloop.outcome.treatment.effects import judge_effects
    from careloop.outcome.treatment.followed import judge_followed
    from careloop.plan.decisions import recorded_decisions

    versions = [package.version for package in packages(study, run)]
    horizon_days = study.cohort.outcome.horizon_days
    labelled = labelled_predictions(record, study.cohort, model_versions=versions)
    predictions = verify_labelled(labelled, horizon_days=horizon_days)
    inputs = _inputs(study, run, record, labelled)
    following = follow(labelled, horizon_days=horizon_days, as_of=last_fact(record), inputs=inputs)
    silent = judge_silent(labelled, horizon_days=horizon_days)
    untreated = _untreated(study, run, record, labelled, acted=acted) if acted else None
    plan = read_plan(run)
    if plan is None:
        return Later(predictions, following, silent, untreated, (), ())
    matrix, rows = feature_matrix(run, "held_out"), _relabelled(study, run, record)
    recommended = plan.table.filter("recommended").select(*KEYS, pl.col("option").alias("recommended"))
    decisions = recorded_decisions(record, plan=study.name).select(*KEYS, "chosen")
    decided = rows.join(recommended, on=KEYS, how="left", maintain_order="left").join(
        decisions, on=KEYS, how="left", maintain_order="left"
    )
    followed = judge_followed(decided, matrix, plan.section, horizon_days=plan.horizon_days)
    effects = judge_effects(rows, matrix, plan)
    return Later(predictions, following, silent, untreated, followed, effects)


def _inputs(study: Study, run: RunFolder, record: Record, labelled: pl.DataFrame) -> Inputs | None:
    """The primary model's features in training, and as they were known at each recorded prediction.

    None where there are no features, or too few training patients to compare with.
    """
    from careloop.features import extract
    from careloop.outcome.stream.inputs import FEWEST_REFERENCE
    from careloop.outcome.stream.watch import Inputs

    recipe = open_package(run.path / "models" / study.primary).recipe
    training = feature_matrix(run, "train").select(recipe.names)
    if not recipe.names or training.keys["subject_id"].n_unique() < FEWEST_REFERENCE:
        return None
    return Inputs(training, extract(record, labelled.select(KEYS).unique().sort(KEYS), recipe))


def _untreated(
    study: Study, run: RunFolder, record: Record, labelled: pl.DataFrame, *, acted: Sequence[str]
) -> UntreatedVerdict:
    """The primary model's risk had nobody acted; reasons to act are its features, as known when it predicted."""
    from careloop.evaluate import Outcomes
    from careloop.features import extract
    from careloop.outcome.acted_upon.untreated import acted_days, judge_untreated
    from careloop.plan.effect.nuisance import fit_design

    package = open_package(run.path / "models" / study.primary)
    rows = labelled.filter((pl.col("model_version") == package.version) & ~pl.col("abstained").fill_null(False)).sort(
        KEYS
    )
    matrix = extract(record, rows.select(KEYS), package.recipe)
    actions = record.events(codes=list(acted)).select("subject_id", "time").collect()
    if actions.is_empty():
        raise InputError(f"none of {', '.join(acted)} is in the record, so nobody acted; check --acted")
    subject_id, follow_up_days, event = (rows[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    return judge_untreated(
        rows["predicted_boolean_probability"].to_numpy(),
        Outcomes(subject_id, follow_up_days, event, study.cohort.outcome.horizon_days),
        acted_days=acted_days(rows, actions),
        covariates=(
            fit_design(matrix.values, matrix.names).transform(matrix.values)
            if matrix.names
            else np.empty((rows.height, 0))  # a model of histories alone
        ),
    )


def _relabelled(study: Study, run: RunFolder, record: Record) -> pl.DataFrame:
    """The run's held-out rows with outcomes and measures as the record has them by now."""
    rows = cohort_rows(run, "held_out")
    labels = label_outcomes(record, rows.select(KEYS), study.cohort)
    kept = [name for name in rows.columns if name in KEYS or name not in labels.columns]
    return rows.select(kept).join(labels, on=KEYS, how="left", maintain_order="left")
