"""The stages of a study run, in order: each reads files of the run folder, does one room's work, and writes others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml
from deltalake import DeltaTable

from careloop import InputError
from careloop.cohort import select_cohort
from careloop.evaluate import Outcomes, horizon_labels, horizon_weights
from careloop.features import FeatureMatrix, Recipe, extract, fit_recipe, select_columns
from careloop.record import Record
from careloop.study.folder import RunFolder
from careloop.train import ModelSection, Package, TrainingData, check_leakage, open_package, train_model

if TYPE_CHECKING:
    from careloop.study.study import Study

# Days at which survival curves are evaluated: enough for a smooth curve and the integrated Brier score's trapezia.
CURVE_POINTS = 50
KEYS = ["subject_id", "prediction_time"]


def note_study(study: Study, facts: Record, run: RunFolder) -> None:
    """Write study.yaml, complete with its defaults, and record.json, which pins what was read."""

    def work(out: Path) -> None:
        content = study.model_dump(mode="json", exclude_none=True)
        (out / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
        write_json(out / "record.json", {"path": str(facts.path), **_identity(facts)})

    run.stage(
        "study", work, writes=["study.yaml", "record.json"], settings=[study.model_dump(mode="json"), _identity(facts)]
    )


def select(study: Study, facts: Record, run: RunFolder) -> None:
    """Write cohort.parquet and the steps that led to it, flow.json."""

    def work(out: Path) -> None:
        cohort = select_cohort(facts, study.cohort)
        cohort.rows.write_parquet(out / "cohort.parquet")
        write_json(out / "flow.json", [vars(step) for step in cohort.flow])

    settings = [study.cohort.model_dump(mode="json"), _identity(facts)]
    run.stage("cohort", work, writes=["cohort.parquet", "flow.json"], settings=settings)


def compute_features(study: Study, facts: Record, run: RunFolder) -> None:
    """Write features.parquet (all columns, all rows) and recipe.json (the columns that models use)."""

    def work(out: Path) -> None:
        rows = cohort_rows(run)
        recipe = fit_recipe(facts, rows, study.features, exclude_codes=_treatment_codes(study))
        matrix = extract(facts, rows.select(KEYS), recipe)
        check_leakage(_training_data(study, facts, rows, matrix, recipe))
        matrix.to_frame().write_parquet(out / "features.parquet")
        (out / "recipe.json").write_text(recipe.keep(_selected(study, rows, matrix)).to_json())

    settings = [study.features.model_dump(mode="json"), _treatment_codes(study), _identity(facts)]
    run.stage("features", work, writes=["features.parquet", "recipe.json"], settings=settings, reads=["cohort.parquet"])


def train(study: Study, model: ModelSection, facts: Record, run: RunFolder) -> None:
    """Write models/NAME, the package of one model; finished tuning trials are kept in tuning/."""

    def work(out: Path) -> None:
        recipe = Recipe.from_json((run.path / "recipe.json").read_text())
        matrix = feature_matrix(run).select(recipe.names)
        journal = run.path / "tuning" / f"{model.name}.log"
        journal.parent.mkdir(exist_ok=True)
        package = train_model(model, _training_data(study, facts, cohort_rows(run), matrix, recipe), journal=journal)
        (out / "models").mkdir()
        package.save(out / "models" / model.name)

    run.stage(
        f"model {model.name}",
        work,
        writes=[f"models/{model.name}"],
        settings=[model.model_dump(mode="json"), study.evaluation.threshold, _identity(facts)],
        reads=["cohort.parquet", "features.parquet", "recipe.json"],
    )


def predict_held_out(study: Study, facts: Record, run: RunFolder) -> None:
    """Write predictions.parquet: every model on every held-out row."""
    from careloop.predict import predict

    def work(out: Path) -> None:
        rows = cohort_rows(run, "held_out")
        matrix = feature_matrix(run, "held_out")
        tables = [predict(package, matrix, record_version=facts.version) for package in packages(study, run)]
        labels = rows.select(*KEYS, "boolean_value")
        predictions = pl.concat(
            table.drop("boolean_value").join(labels, on=KEYS, maintain_order="left") for table in tables
        )
        predictions.select(tables[0].columns).write_parquet(out / "predictions.parquet")

    run.stage(
        "predictions",
        work,
        writes=["predictions.parquet"],
        settings=facts.version,
        reads=["cohort.parquet", "features.parquet", *_model_folders(study)],
    )


def evaluate(study: Study, run: RunFolder) -> None:
    """Write evaluation.json: all models on the held-out rows, in the layout of `careloop.evaluate.assess`."""
    from careloop.evaluate.assess import Predictions, evaluate_all

    def work(out: Path) -> None:
        matrix, outcomes = feature_matrix(run, "held_out"), held_out_outcomes(study, run)
        days = np.linspace(0, study.cohort.outcome.horizon_days, CURVE_POINTS + 1)[1:]
        predictions = {}
        for package in packages(study, run):
            survival = package.survival(matrix, days)
            incidence = None if survival is None else 1 - survival
            predictions[package.name] = Predictions(package.risk(matrix), _threshold(package), incidence, days)
        evaluation = evaluate_all(
            predictions,
            outcomes,
            subgroups=_subgroups(study, matrix),
            resamples=study.evaluation.resamples,
            seed=study.evaluation.seed,
        )
        write_json(out / "evaluation.json", evaluation.to_json())

    run.stage(
        "evaluation",
        work,
        writes=["evaluation.json"],
        settings=study.evaluation.model_dump(mode="json"),
        reads=["cohort.parquet", "features.parquet", *_model_folders(study)],
    )


def make_plans(study: Study, run: RunFolder) -> None:
    """Write plan.parquet (every option for every held-out patient, ranked) and effects.json (what it rests on)."""
    raise NotImplementedError


def cohort_rows(run: RunFolder, split: str | None = None) -> pl.DataFrame:
    """The run's cohort, or one split of it."""
    rows = pl.read_parquet(run.path / "cohort.parquet")
    return rows if split is None else rows.filter(pl.col("split") == split)


def feature_matrix(run: RunFolder, split: str | None = None) -> FeatureMatrix:
    """The run's features, all columns, of all cohort rows or of one split."""
    matrix = FeatureMatrix.from_frame(pl.read_parquet(run.path / "features.parquet"))
    return matrix if split is None else matrix.filter(cohort_rows(run)["split"] == split)


def packages(study: Study, run: RunFolder) -> list[Package]:
    """The run's trained models in the study's order."""
    return [open_package(run.path / folder) for folder in _model_folders(study)]


def held_out_outcomes(study: Study, run: RunFolder) -> Outcomes:
    """What happened to the held-out rows."""
    return _outcomes(cohort_rows(run, "held_out"), study.cohort.outcome.horizon_days)


def write_json(path: Path, content: Any) -> None:
    """Write plain values, readable by people; NaN is refused."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _outcomes(rows: pl.DataFrame, horizon_days: float) -> Outcomes:
    columns = (rows[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    return Outcomes(*columns, horizon_days)


def _identity(facts: Record) -> dict[str, Any]:
    """What tells one version of one record from any other, wherever its folder lies."""
    return {"id": str(DeltaTable(facts.path / "events").metadata().id), "version": facts.version}


def _treatment_codes(study: Study) -> tuple[str, ...]:
    """Codes of the arms: given at the prediction time or after it, they are what is chosen, not what it is based on."""
    return () if study.cohort.treatment is None else study.cohort.treatment.codes


def _model_folders(study: Study) -> list[str]:
    return [f"models/{model.name}" for model in study.all_models]


def _training_data(
    study: Study, facts: Record, rows: pl.DataFrame, matrix: FeatureMatrix, recipe: Recipe
) -> TrainingData:
    outcome = study.cohort.outcome
    words = (
        f"{' or '.join(outcome.codes)} within {outcome.horizon_days:g} days of {' or '.join(study.cohort.index.codes)}"
    )
    return TrainingData(
        rows, matrix, recipe, outcome.horizon_days, facts.version, outcome=words, threshold=study.evaluation.threshold
    )


def _selected(study: Study, rows: pl.DataFrame, matrix: FeatureMatrix) -> tuple[str, ...]:
    """Columns kept by the study's selection, decided on the training rows whose label is known."""
    outcomes = _outcomes(rows, study.cohort.outcome.horizon_days)
    training = (rows["split"] == "train").to_numpy()
    weights = np.zeros(len(rows))
    weights[training] = horizon_weights(
        outcomes.follow_up_days[training], outcomes.event[training], outcomes.horizon_days
    )
    known = weights > 0
    labels = horizon_labels(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    return select_columns(matrix.filter(known), labels[known], weights[known], study.features.selection)


def _threshold(package: Package) -> Any:
    from careloop.evaluate.discrimination import Threshold

    return Threshold(package.threshold, package.facts.notes[-1])


def _subgroups(study: Study, matrix: FeatureMatrix) -> dict[str, np.ndarray]:
    """Each subgroup variable's group of every row, from the columns of the feature or static code that it names."""
    return {s.feature: _groups(s.feature, s.cut_points, matrix) for s in study.evaluation.subgroups}


def _groups(feature: str, cut_points: list[float], matrix: FeatureMatrix) -> np.ndarray:
    from careloop.evaluate.assess import cut_groups

    column = {name: i for i, name in enumerate(matrix.names)}
    categories = [name for name in matrix.names if name.startswith(f"static|{feature}=")]
    if categories:
        chosen = matrix.select(categories).values
        named = np.array([name.split("=", 1)[1] for name in categories] + ["other"], dtype=object)
        return named[np.where(chosen.any(axis=1), chosen.argmax(axis=1), len(categories))]
    name = feature if feature in column else f"static|{feature}"
    if name not in column:
        raise InputError(
            f"evaluation.subgroups: {feature} is no feature of this study; see features.parquet for the names, "
            f"such as {matrix.names[0]}"
        )
    values = np.asarray(matrix.select([name]).values)[:, 0]
    if cut_points:
        return cut_groups(values, cut_points)
    return np.where(values > 0, "yes", "no") if set(np.unique(values)) <= {0.0, 1.0} else cut_groups(values, [])
