"""The stages of models over event sequences: pre-training on whole histories, and the timelines of the cohort."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from careloop.features.timelines import TimelineRecipe, Timelines, extract_timelines, fit_timelines
from careloop.features.timelines.notes import identified
from careloop.record import Record
from careloop.study.folder import RunFolder
from careloop.train import ModelSection
from careloop.train.inputs import reads_sequences
from careloop.train.pretraining import Pretrained, open_pretrained, pretrain, save_pretrained

if TYPE_CHECKING:
    from careloop.models.sequence.training.loop import Step
    from careloop.study.study import Study

KEYS = ["subject_id", "prediction_time"]
PRETRAINED, TIMELINES, RECIPE = "pretrained", "timelines", "timeline_recipe.json"
BAR_LENGTH, FINGERPRINT_LENGTH = 10, 16
WORKSPACE = ".training"  # checkpoints and what else a killed training needs to go on


def pretrain_network(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write pretrained/, from the whole histories of everybody who is in no tuning or held-out row."""
    section = study.pretraining
    if section is None:
        shutil.rmtree(run.path / PRETRAINED, ignore_errors=True)  # of the study before its pre-training was taken out
        return

    # The end of follow-up is when nothing more is known, not an event to be learnt.
    excluded = (*study.arm_codes, *study.cohort.outcome.censoring)
    settings = [section.model_dump(mode="json"), study.timelines.model_dump(mode="json"), excluded]
    settings += [record_identity(facts), *text_encoder(study)]
    name = "pretraining"

    def work(out: Path) -> None:
        apart = _rows(run).filter(pl.col("split") != "train")["subject_id"].unique()
        workspace = training_workspace(run, name, run.fingerprint(settings, ["cohort.parquet"]))
        found = pretrain(
            facts,
            section,
            study.timelines,
            keep_out=apart,
            exclude_codes=excluded,
            workspace=workspace,
            on=on,
            listener=heard(run, name),
        )
        save_pretrained(found, out / PRETRAINED)
        shutil.rmtree(workspace)

    run.stage(name, work, writes=[PRETRAINED], settings=settings, reads=["cohort.parquet"])


def build_timelines(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write timelines/ and timeline_recipe.json: what was known of each cohort row by its prediction time, in order."""
    if not any(reads_sequences(model) for model in study.all_models):
        for earlier in (TIMELINES, RECIPE):  # of the study before such models were taken out
            _remove(run.path / earlier)
        return

    def work(out: Path) -> None:
        rows = _rows(run)
        recipe = _recipe(study, facts, run, rows, on=on)
        (out / RECIPE).write_text(recipe.to_json(), encoding="utf-8")
        told = partial(_tell, run) if recipe.encoder is not None else None  # notes take long, all else does not
        extract_timelines(facts, rows.select(KEYS), recipe, on=on, progress=told, folder=out / TIMELINES)

    settings = [study.timelines.model_dump(mode="json"), study.arm_codes, record_identity(facts), *text_encoder(study)]
    reads = ["cohort.parquet", *([f"{PRETRAINED}/{RECIPE}"] if study.pretraining else [])]
    run.stage("timelines", work, writes=[TIMELINES, RECIPE], settings=settings, reads=reads)


def _recipe(study: Study, facts: Record, run: RunFolder, rows: pl.DataFrame, *, on: str) -> TimelineRecipe:
    """The recipe of the study's pre-training, so that all its sequence models read alike; else from training rows."""
    if study.pretraining is not None:
        pretrained = read_pretrained(run)
        pretrained.check_apart(rows.filter(pl.col("split") != "train")["subject_id"])
        return pretrained.recipe
    training = rows.filter(pl.col("split") == "train").select(KEYS)
    return fit_timelines(facts, training, study.timelines, study.arm_codes, on=on)


def _tell(run: RunFolder, what: str, done: int, total: int) -> None:
    run.notify("timelines", f"{what} {done:,} of {total:,}")


def text_encoder(study: Study) -> list[dict[str, Any]]:
    """What tells the study's text encoder from another one in the same folder; nothing without one."""
    folder = study.timelines.text_encoder
    return [] if folder is None else [asdict(identified(folder))]


def sequence_files(study: Study, model: ModelSection) -> list[str]:
    """What a model of event sequences reads beside the features."""
    if not reads_sequences(model):
        return []
    return [TIMELINES, RECIPE, *([PRETRAINED] if model.start == "pretrained" and study.pretraining else [])]


def read_pretrained(run: RunFolder) -> Pretrained:
    """The run's pre-trained network."""
    return open_pretrained(run.path / PRETRAINED)


def read_timelines(run: RunFolder) -> tuple[TimelineRecipe, Timelines] | None:
    """The run's timelines, row by row as cohort.parquet, and their recipe; None in a study without sequence models."""
    if not (run.path / RECIPE).exists():
        return None
    recipe = TimelineRecipe.from_json((run.path / RECIPE).read_text(encoding="utf-8"))
    return recipe, Timelines.open(run.path / TIMELINES)


def training_workspace(run: RunFolder, stage: str, fingerprint: str) -> Path:
    """Where a stage's training keeps its state, and goes on; that of the same stage with other inputs is removed."""
    found = run.path / WORKSPACE / f"{stage}-{fingerprint[:FINGERPRINT_LENGTH]}"
    for other in (run.path / WORKSPACE).glob(f"{stage}-{'?' * FINGERPRINT_LENGTH}"):
        if other != found:
            shutil.rmtree(other)
    return found


def heard(run: RunFolder, stage: str) -> Callable[[Step], None]:
    """A listener of training that tells the run's: how far, loss (of validation), speed, and the longest time left."""

    def listener(step: Step) -> None:
        done = step.step / step.steps
        bar = "━" * round(BAR_LENGTH * done) + "─" * round(BAR_LENGTH * (1 - done))
        held = "" if step.validation_loss is None else f" ({step.validation_loss:.3f})"
        words = f"{bar} epoch {step.epoch + 1}, loss {step.loss:.3f}{held}"
        if step.steps_per_second > 0:
            minutes = (step.steps - step.step) / step.steps_per_second / 60
            words += f", {step.tokens_per_second:,.0f} events/s, {minutes:.0f} min"
        run.notify(stage, words)

    return listener


def record_identity(facts: Record) -> dict[str, Any]:
    """What tells one version of one record from any other, wherever its folder lies."""
    from deltalake import DeltaTable

    return {"id": str(DeltaTable(facts.path / "events").metadata().id), "version": facts.version}


def _rows(run: RunFolder) -> pl.DataFrame:
    return pl.read_parquet(run.path / "cohort.parquet")


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
