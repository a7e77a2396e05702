"""The stages of a study run, in order: each reads files of the run folder, does one room's work, and writes others."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml

from careloop.cohort import select_cohort
from careloop.evaluate import Outcomes, horizon_labels, horizon_weights
from careloop.features import FeatureMatrix, Recipe, fit_features, select_columns
from careloop.models.sequence.training.loop import Checkpoint
from careloop.record import CARELOOP, Record
from careloop.study.folder import RunFolder
from careloop.study.sequence_stages import (
    heard,
    read_pretrained,
    read_timelines,
    record_identity,
    sequence_files,
    training_workspace,
)
from careloop.train import ModelSection, Package, TrainingData, check_leakage, open_package, train_model
from careloop.train.fit import LoopOptions
from careloop.train.subgroups import subgroups

if TYPE_CHECKING:
    from careloop.outcome import Verdict
    from careloop.plan import Plan
    from careloop.study.study import Study

# Days at which survival curves are evaluated: enough for a smooth curve and the integrated Brier score's trapezia.
CURVE_POINTS = 50
KEYS = ["subject_id", "prediction_time"]


def note_study(study: Study, facts: Record, run: RunFolder) -> None:
    """Write study.yaml, complete with its defaults, and record.json, which pins what was read."""

    def work(out: Path) -> None:
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=110)
        (out / "study.yaml").write_text(text, encoding="utf-8")
        write_json(out / "record.json", {"path": str(facts.path), **record_identity(facts)})

    settings = study.model_dump(mode="json", exclude_none=True)
    run.stage("study", work, writes=["study.yaml", "record.json"], settings=[settings, record_identity(facts)])


def select(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write cohort.parquet and the steps that led to it, flow.json."""

    def work(out: Path) -> None:
        cohort = select_cohort(facts, study.cohort, on=on)
        cohort.rows.write_parquet(out / "cohort.parquet")
        write_json(out / "flow.json", [vars(step) for step in cohort.flow])

    settings = [study.cohort.model_dump(mode="json"), record_identity(facts)]
    run.stage("cohort", work, writes=["cohort.parquet", "flow.json"], settings=settings)


def compute_features(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write features.parquet (all columns, all rows) and recipe.json (the columns that models use)."""

    def work(out: Path) -> None:
        rows = cohort_rows(run)
        recipe, matrix = fit_features(facts, rows, study.features, exclude_codes=study.arm_codes, on=on)
        check_leakage(training_data(study, facts, rows, matrix, recipe))
        matrix.to_frame().write_parquet(out / "features.parquet")
        (out / "recipe.json").write_text(recipe.keep(selected(study, rows, matrix)).to_json(), encoding="utf-8")

    settings = [
        study.features.model_dump(mode="json"),
        study.arm_codes,
        outcome_settings(study),
        record_identity(facts),
    ]
    writes = ["features.parquet", "recipe.json"]
    run.stage("features", work, writes=writes, settings=settings, reads=["cohort.parquet"])


def train(study: Study, model: ModelSection, facts: Record, run: RunFolder) -> None:
    """Write models/NAME, the package of one model; finished tuning trials are kept in tuning/."""

    def work(out: Path) -> None:
        recipe = Recipe.from_json((run.path / "recipe.json").read_text(encoding="utf-8"))
        everything = feature_matrix(run)
        data = replace(
            training_data(study, facts, cohort_rows(run), everything.select(recipe.names), recipe),
            groups=subgroups(study.evaluation.subgroups, everything),
            timelines=found[0] if (found := read_timelines(run)) else None,
            start=read_pretrained(run).start if model.start == "pretrained" else None,
        )
        journal = run.path / "tuning" / f"{model.name}.log"
        journal.parent.mkdir(exist_ok=True)
        (out / "models").mkdir()
        workspace = training_workspace(run, stage, run.fingerprint(settings, reads))
        loop: LoopOptions = {"checkpoint": Checkpoint(workspace / "checkpoint.pt"), "listener": heard(run, stage)}
        train_model(model, data, journal=journal, loop=loop).save(out / "models" / model.name)
        shutil.rmtree(workspace, ignore_errors=True)

    stage, reads = f"model {model.name}", ["cohort.parquet", "features.parquet", "recipe.json"]
    reads += sequence_files(study, model)
    settings = [
        model.model_dump(mode="json"),
        kept_with_models(study),
        outcome_settings(study),
        record_identity(facts),
    ]
    run.stage(
        stage,
        work,
        writes=[f"models/{model.name}"],
        settings=settings,
        reads=reads,
    )


def predict_held_out(study: Study, facts: Record, run: RunFolder) -> None:
    """Write predictions.parquet: every model on every held-out row."""
    from careloop.predict import PREDICTIONS, predict

    def work(out: Path) -> None:
        labels = cohort_rows(run, "held_out").select(*KEYS, "boolean_value")
        matrix = feature_matrix(run, "held_out")
        tables = [predict(package, matrix, record_version=facts.version) for package in packages(study, run)]
        predicted = pl.concat(tables).drop("boolean_value").join(labels, on=KEYS, how="left", maintain_order="left")
        predicted.select(PREDICTIONS.names()).write_parquet(out / "predictions.parquet")

    reads = ["cohort.parquet", "features.parquet", *_model_folders(study)]
    run.stage("predictions", work, writes=["predictions.parquet"], settings=facts.version, reads=reads)


def evaluate(study: Study, run: RunFolder) -> None:
    """Write evaluation.json: all models on the held-out rows, in the layout of `careloop.evaluate.assess`."""
    from careloop.evaluate.assess import Predictions, Threshold, evaluate_all

    def predictions_of(package: Package, matrix: FeatureMatrix, days: np.ndarray) -> Predictions:
        survival = package.survival(matrix, days)
        threshold = Threshold(package.threshold, package.facts.notes[-1])
        raw, incidence = package.uncalibrated_risk(matrix), None if survival is None else 1 - survival
        return Predictions(
            package.recalibration.apply(raw), threshold, incidence, days, sets=package.label_sets(raw, matrix)
        )

    def work(out: Path) -> None:
        section, horizon_days = study.evaluation, study.cohort.outcome.horizon_days
        matrix, is_held_out = feature_matrix(run, "held_out"), (cohort_rows(run)["split"] == "held_out").to_numpy()
        groups = subgroups(section.subgroups, feature_matrix(run))
        days = np.linspace(0, horizon_days, CURVE_POINTS + 1)[1:]
        evaluation = evaluate_all(
            {package.name: predictions_of(package, matrix, days) for package in packages(study, run)},
            outcomes_of(cohort_rows(run, "held_out"), horizon_days),
            subgroups={grouping.feature: names[is_held_out] for grouping, names in groups.items()},
            resamples=section.resamples,
            seed=section.seed,
        )
        write_json(out / "evaluation.json", evaluation.to_json())

    reads = ["cohort.parquet", "features.parquet", *_model_folders(study)]
    settings = [study.evaluation.model_dump(mode="json"), outcome_settings(study)]
    run.stage("evaluation", work, writes=["evaluation.json"], settings=settings, reads=reads)


def show_examples(study: Study, run: RunFolder) -> None:
    """Write patients.json: prediction, explanation, what if, similar ones, options, what happened, of some patients."""
    from careloop.study.patients import example_patients, past_patients, with_insight

    def work(out: Path) -> None:
        package, matrix = open_package(run.path / "models" / study.primary), feature_matrix(run, "held_out")
        patients = example_patients(
            package,
            matrix,
            primary_predictions(study, run),
            cohort_rows=cohort_rows(run, "held_out"),
            plan=read_plan(run),
            chosen=study.examples,
        )
        patients = with_insight(patients, package, matrix, past=past_patients(package, run))
        write_json(out / "patients.json", patients)

    settings = [study.primary, study.examples]
    reads = ["features.parquet", f"models/{study.primary}", *_judged_files(study)]
    run.stage("patients", work, writes=["patients.json"], settings=settings, reads=reads)


def check_explanations(study: Study, run: RunFolder) -> None:
    """Write explanation.json: whether the events that explain the primary model's risks are those that matter."""
    if open_package(run.path / "models" / study.primary).timelines is None:
        (run.path / "explanation.json").unlink(missing_ok=True)  # of the study with another primary model
        return

    def work(out: Path) -> None:
        from careloop.predict.explanation_check import check_explanation

        package = open_package(run.path / "models" / study.primary)
        found = check_explanation(package, feature_matrix(run, "held_out"))
        write_json(out / "explanation.json", {**asdict(found), "text": found.text})

    reads = ["features.parquet", f"models/{study.primary}", "cohort.parquet"]
    run.stage("explanation", work, writes=["explanation.json"], settings=study.primary, reads=reads)


def verify_held_out(study: Study, run: RunFolder) -> None:
    """Write outcome.json: whether predictions and plan were right for the held-out patients."""

    def work(out: Path) -> None:
        write_json(out / "outcome.json", _verdict(study, run).to_json())

    reads = ["features.parquet", *_judged_files(study)]
    run.stage("outcome", work, writes=["outcome.json"], settings=[study.primary, outcome_settings(study)], reads=reads)


def write_back(study: Study, facts: Record, run: RunFolder) -> None:
    """Append predictions, plans, decisions and verdicts of the held-out patients to the record, once; note it."""
    from careloop.outcome import verdict_events
    from careloop.plan import decision_events, plan_events
    from careloop.predict import prediction_events

    def work(out: Path) -> None:
        horizon_days, held_out = study.cohort.outcome.horizon_days, cohort_rows(run, "held_out")
        predicted, plan = pl.read_parquet(run.path / "predictions.parquet"), read_plan(run)
        batches = {
            "predictions": prediction_events(predicted, horizon_days=horizon_days),
            "verdicts": verdict_events(_verdict(study, run), name=study.name),
        }
        if plan is not None:
            batches["plans"] = plan_events(plan.of(held_out), name=study.name)
            batches["decisions"] = decision_events(held_out, name=study.name)
        key = f"careloop:{study.name}:{run.fingerprint(record_identity(facts), _judged_files(study))}"
        record, events = Record.open(facts.path), pl.concat(batches.values())
        written = record.events(codes=[f"{CARELOOP}*"]).collect()
        new = events.join(written, on=events.columns, how="anti", nulls_equal=True)
        if new.height:  # another form of the study may have written some of them
            record = record.append(new, key=key, origin="careloop")
        counts = {name: batch.height for name, batch in batches.items()}
        write_json(out / "written.json", {"record_version": record.version, "key": key, "events": counts})

    reads = ["features.parquet", *_judged_files(study)]
    settings = [study.name, outcome_settings(study), record_identity(facts)]
    run.stage("written back", work, writes=["written.json"], settings=settings, reads=reads)


def report(study: Study, run: RunFolder) -> None:
    """Write report.html."""
    from careloop.report import write_report

    reads = ["study.yaml", "record.json", "flow.json", "recipe.json", "features.parquet", "evaluation.json"]
    reads += ["patients.json", "outcome.json", *_judged_files(study)]
    reads += [name for name in ("explanation.json", "trial.json", "fusion.json") if (run.path / name).exists()]
    run.stage("report", lambda out: write_report(run.path, out / "report.html"), writes=["report.html"], reads=reads)


def cohort_rows(run: RunFolder, split: str | None = None) -> pl.DataFrame:
    """The run's cohort, or one split of it."""
    rows = pl.read_parquet(run.path / "cohort.parquet")
    return rows if split is None else rows.filter(pl.col("split") == split)


def feature_matrix(run: RunFolder, split: str | None = None) -> FeatureMatrix:
    """The run's features, all columns, of all cohort rows or of one split, with their timelines if there are any."""
    matrix, found = FeatureMatrix.from_frame(pl.read_parquet(run.path / "features.parquet")), read_timelines(run)
    if found is not None:
        matrix = replace(matrix, timelines=found[1])
    return matrix if split is None else matrix.filter(cohort_rows(run)["split"] == split)


def packages(study: Study, run: RunFolder) -> list[Package]:
    """The run's trained models in the study's order."""
    return [open_package(run.path / folder) for folder in _model_folders(study)]


def primary_predictions(study: Study, run: RunFolder) -> pl.DataFrame:
    """The primary model's predictions of the held-out rows."""
    return pl.read_parquet(run.path / "predictions.parquet").filter(pl.col("model") == study.primary)


def read_plan(run: RunFolder) -> Plan | None:
    """The run's plan, if the study has one."""
    if not (run.path / "effects.json").exists():
        return None
    from careloop.plan import Plan

    return Plan.from_json(
        json.loads((run.path / "effects.json").read_text()), pl.read_parquet(run.path / "plan.parquet")
    )


def write_json(path: Path, content: Any) -> None:
    """Write plain values, readable by people; NaN is refused."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")


def outcome_settings(study: Study) -> dict[str, Any]:
    """The outcome section: another horizon may leave every label, and so cohort.parquet, as it is."""
    return study.cohort.outcome.model_dump(mode="json")


def kept_with_models(study: Study) -> dict[str, Any]:
    """What of the evaluation section goes into the models: the rest may change without training them again."""
    return study.evaluation.model_dump(mode="json", include={"threshold", "conformal_level", "subgroups"})


def outcomes_of(rows: pl.DataFrame, horizon_days: float) -> Outcomes:
    """What happened to each of the cohort's rows."""
    subject_id, follow_up_days, event = (rows[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    return Outcomes(subject_id, follow_up_days, event, horizon_days)


def _model_folders(study: Study) -> list[str]:
    return [f"models/{model.name}" for model in study.all_models]


def _judged_files(study: Study) -> list[str]:
    """What a verdict rests on, beside the features."""
    return ["cohort.parquet", "predictions.parquet", *(["plan.parquet", "effects.json"] if study.plan else [])]


def training_data(
    study: Study, facts: Record, rows: pl.DataFrame, matrix: FeatureMatrix, recipe: Recipe
) -> TrainingData:
    """The rows with their features, as models are trained on them."""
    return TrainingData(
        rows,
        matrix,
        recipe,
        study.cohort.outcome.horizon_days,
        facts.version,
        outcome=_in_words(study.cohort.outcome.codes, facts),
        threshold=study.evaluation.threshold,
        conformal_level=study.evaluation.conformal_level,
    )


def _in_words(codes: tuple[str, ...], facts: Record) -> str:
    """The outcome's codes, by their descriptions where the record has them."""
    described = facts.code_metadata().drop_nulls("description")
    words = dict(described.select("code", "description").iter_rows())
    return " or ".join(words.get(code, code) for code in codes)


def selected(study: Study, rows: pl.DataFrame, matrix: FeatureMatrix) -> tuple[str, ...]:
    """Columns kept by the study's selection, decided on the training rows whose label is known."""
    is_training = rows["split"] == "train"
    training = outcomes_of(rows.filter(is_training), study.cohort.outcome.horizon_days)
    weights = horizon_weights(training.follow_up_days, training.event, training.horizon_days)
    labels = horizon_labels(training.follow_up_days, training.event, training.horizon_days)
    known = weights > 0
    kept = matrix.filter(is_training).filter(known)
    return select_columns(kept, labels[known], weights[known], study.features.selection)


def _verdict(study: Study, run: RunFolder) -> Verdict:
    from careloop.outcome import verify

    return verify(
        primary_predictions(study, run),
        cohort_rows(run),
        horizon_days=study.cohort.outcome.horizon_days,
        plan=read_plan(run),
        matrix=feature_matrix(run),
    )
