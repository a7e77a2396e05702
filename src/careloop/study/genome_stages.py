"""The stages that say what a genome adds: clinical columns alone, genome columns alone and both, on the same rows.

They run whenever a genome's columns are among those that models use, whatever the study asks. Each part's columns go
through the study's own selection by themselves, so that the clinical model is as good as it can be without a genome.
fusion.json has this layout, with EVALUATION as in `careloop.evaluate.assess` and its models called `both`, `clinical`
and `genome`, and RECLASSIFICATION as in `careloop.evaluate.reclassification`, from `clinical` to `both`:

    {"columns": {PART: [names]}, "rows": {"held_out", "with_genome"}, "threshold": {"value", "rule"},
     "lead": NAME or null, "models": {NAME: {"evaluation": EVALUATION, "reclassification": RECLASSIFICATION,
     "words": sentences}}, "notes": sentences}

The packages of the two parts are in fusion/NAME/clinical and fusion/NAME/genome; `both` is models/NAME.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.evaluate import Outcomes, Predictions, Threshold, evaluate_all, horizon_weights, reclassify, to_json
from careloop.features import FeatureMatrix, Recipe, fit_recipe
from careloop.features.definition import SelectionSection
from careloop.record import Record
from careloop.study.folder import RunFolder
from careloop.study.genome_words import genome_words
from careloop.study.sequence_stages import record_identity
from careloop.study.stages import (
    cohort_rows,
    feature_matrix,
    kept_with_models,
    outcome_settings,
    outcomes_of,
    selected,
    training_data,
    write_json,
)
from careloop.train import ModelSection, open_package, train_model
from careloop.train.definition import REFERENCES
from careloop.train.inputs import reads_sequences
from careloop.train.subgroups import subgroups

if TYPE_CHECKING:
    from careloop.study.study import Study

GENOME_CODES = ("GENOME//", "PGX//")
CLINICAL, GENOME, BOTH = "clinical", "genome", "both"
FUSION, RESULT = "fusion", "fusion.json"
OWN_PEOPLE = (
    "Scores whose weights were estimated in these very patients, or chosen by their outcomes, look better here than "
    "they are; nothing in the record can tell."
)


def compare_genome(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Train the two parts of each compared model, and write fusion.json; nothing where models use no genome column."""
    whole = Recipe.from_json((run.path / "recipe.json").read_text(encoding="utf-8"))
    if not any(is_of_genome(column.code) for column in whole.columns):
        (run.path / RESULT).unlink(missing_ok=True)  # of the study with other features
        shutil.rmtree(run.path / FUSION, ignore_errors=True)
        return
    divide_columns(study, facts, run, on=on)
    models = compared_models(study) if all(part.columns for part in _parts(run).values()) else []
    for model in models:
        for part in (CLINICAL, GENOME):
            train_part(study, model, facts, run, part=part)
    judge_parts(study, models, run)


def is_of_genome(code: str) -> bool:
    """Whether an event's code says something of a genome."""
    return code.startswith(GENOME_CODES)


def compared_models(study: Study) -> list[ModelSection]:
    """The study's primary model, or the first that reads columns, then logistic regression and LightGBM."""
    readers = [model for model in study.all_models if not reads_sequences(model)]
    lead = next((model for model in readers if model.name == study.primary), readers[0])
    return [lead, *(model for model in readers if model.kind in REFERENCES and model is not lead)]


def divide_columns(study: Study, facts: Record, run: RunFolder, *, on: str) -> None:
    """Write fusion/clinical.json and fusion/genome.json, the recipes of the two parts."""

    def work(out: Path) -> None:
        (out / FUSION).mkdir()
        recipe = Recipe.from_json((run.path / "recipe.json").read_text(encoding="utf-8"))
        chooses = study.features.selection != SelectionSection()
        if chooses:  # recipe.json has only the columns that were kept of both together
            recipe = fit_recipe(facts, cohort_rows(run), study.features, exclude_codes=study.arm_codes, on=on)
        for part, own in divided(recipe).items():
            if chooses and own:
                own = selected(study, cohort_rows(run), feature_matrix(run).select(own))
            (out / _recipe_file(part)).write_text(recipe.keep(own).to_json(), encoding="utf-8")

    settings = [study.features.model_dump(mode="json"), study.arm_codes, outcome_settings(study)]
    run.stage(
        "genome and clinical columns",
        work,
        writes=[_recipe_file(CLINICAL), _recipe_file(GENOME)],
        settings=[*settings, record_identity(facts)],
        reads=["cohort.parquet", "features.parquet", "recipe.json"],
    )


def divided(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The names of the recipe's clinical and of its genome columns."""
    genome = tuple(column.name for column in recipe.columns if is_of_genome(column.code))
    return {CLINICAL: tuple(name for name in recipe.names if name not in genome), GENOME: genome}


def train_part(study: Study, model: ModelSection, facts: Record, run: RunFolder, *, part: str) -> None:
    """Write fusion/NAME/PART, the package of a model that is given only the part's columns of the same rows."""
    target = _package_folder(model.name, part)

    def work(out: Path) -> None:
        recipe, everything = _parts(run)[part], feature_matrix(run)
        data = replace(
            training_data(study, facts, cohort_rows(run), everything.select(recipe.names), recipe),
            groups=subgroups(study.evaluation.subgroups, everything),
        )
        (out / target).parent.mkdir(parents=True)
        train_model(model, data, journal=run.path / "tuning" / f"{model.name}.{part}.log").save(out / target)

    settings = [model.model_dump(mode="json"), kept_with_models(study), outcome_settings(study), record_identity(facts)]
    reads = ["cohort.parquet", "features.parquet", _recipe_file(part)]
    run.stage(f"model {model.name}, {part} columns", work, writes=[target], settings=settings, reads=reads)


def judge_parts(study: Study, models: list[ModelSection], run: RunFolder) -> None:
    """Write fusion.json: the three forms of each model on the held-out rows, paired, and who is reclassified."""

    def work(out: Path) -> None:
        parts, matrix = _parts(run), feature_matrix(run, "held_out")
        threshold = common_threshold(study, run)
        content = {
            "columns": {part: list(recipe.names) for part, recipe in parts.items()},
            "rows": {"held_out": matrix.keys.height, "with_genome": int(has_any(matrix, parts[GENOME]).sum())},
            "threshold": to_json(threshold),
            "lead": models[0].name if models else None,
            "models": {model.name: judged(study, model, run, threshold=threshold) for model in models},
        }
        write_json(out / RESULT, content | {"notes": notes(content)})

    folders = [f"models/{model.name}" for model in models]
    folders += [_package_folder(model.name, part) for model in models for part in (CLINICAL, GENOME)]
    reads = ["cohort.parquet", "features.parquet", _recipe_file(CLINICAL), _recipe_file(GENOME), *folders]
    settings = [study.evaluation.model_dump(mode="json"), outcome_settings(study), [model.name for model in models]]
    run.stage("genome beside clinic", work, writes=[RESULT], settings=settings, reads=reads)


def judged(study: Study, model: ModelSection, run: RunFolder, *, threshold: Threshold) -> dict[str, Any]:
    """One model's entry in fusion.json."""
    matrix, section = feature_matrix(run, "held_out"), study.evaluation
    outcomes = outcomes_of(cohort_rows(run, "held_out"), study.cohort.outcome.horizon_days)
    folders = {BOTH: f"models/{model.name}"} | {part: _package_folder(model.name, part) for part in (CLINICAL, GENOME)}
    risk = {part: open_package(run.path / folder).risk(matrix) for part, folder in folders.items()}
    evaluation = evaluate_all(
        {part: Predictions(values, threshold) for part, values in risk.items()},
        outcomes,
        resamples=section.resamples,
        seed=section.seed,
    ).to_json()
    moved = reclassify(
        risk[CLINICAL],
        risk[BOTH],
        outcomes,
        limits=section.risk_categories or [threshold.value],
        resamples=section.resamples,
        seed=section.seed,
    )
    entry = {"evaluation": evaluation, "reclassification": to_json(moved)}
    return entry | {"words": list(genome_words(model.name, entry))}


def common_threshold(study: Study, run: RunFolder) -> Threshold:
    """The risk at which all forms are compared: the study's, else the training rows' event rate in hundredths.

    At the event rate the NRI with one limit is the gain in net benefit but for a factor (Pencina et al. 2017).
    """
    stated = study.evaluation.threshold
    if stated != "youden":
        return Threshold(stated, "from the study file")
    training = outcomes_of(cohort_rows(run, "train"), study.cohort.outcome.horizon_days)
    rate = min(max(round(event_rate(training), 2), 0.01), 0.99)
    return Threshold(rate, "the event rate of the training rows")


def event_rate(outcomes: Outcomes) -> float:
    """P(outcome by the horizon), censoring accounted for."""
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    return float(np.average(outcomes.label & outcomes.known, weights=weight))


def has_any(matrix: FeatureMatrix, recipe: Recipe) -> np.ndarray:
    """Which rows (n,) have a value in any of the recipe's columns."""
    values: Any = matrix.select(recipe.names).values
    zero_counts = np.array([np.isnan(column.absent) for column in recipe.columns])
    if isinstance(values, np.ndarray):
        return np.asarray((~np.isnan(values) & ((values != 0) | zero_counts)).any(axis=1))
    row = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    known = ~np.isnan(values.data) & ((values.data != 0) | zero_counts[values.indices])
    return np.asarray(np.bincount(row, weights=known, minlength=values.shape[0]) > 0)


def notes(content: Mapping[str, Any]) -> list[str]:
    """What must be known to read the comparison."""
    found, rows = [], content["rows"]
    if not content["models"]:
        found.append("All columns that models use are of the genome: there is nothing clinical to compare it with.")
    if rows["with_genome"] < rows["held_out"]:
        found.append(
            f"{rows['held_out'] - rows['with_genome']:,} of {rows['held_out']:,} held-out rows have no genome; they "
            "count in all figures, and whose genome was read may itself say something of the risk."
        )
    return [*found, OWN_PEOPLE]


def _parts(run: RunFolder) -> dict[str, Recipe]:
    """The recipes of the clinical and of the genome columns."""
    return {
        part: Recipe.from_json((run.path / _recipe_file(part)).read_text(encoding="utf-8"))
        for part in (CLINICAL, GENOME)
    }


def _recipe_file(part: str) -> str:
    return f"{FUSION}/{part}.json"


def _package_folder(name: str, part: str) -> str:
    return f"{FUSION}/{name}/{part}"
