"""The commands of the loop: demo, study, run, predict, explain, outcome; each a thin function."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from careloop import InputError
from careloop.cli.command import (
    EXAMPLES,
    FOLDER,
    asked_patients,
    cli,
    json_option,
    on_option,
    patient_options,
    record_option,
)
from careloop.cli.output import show, stages

if TYPE_CHECKING:
    from careloop.record import Record
    from careloop.study import Study


# Label sets in words; a patient for whom the model abstains has none.
NOT_RULED_OUT = {(): "", (False,): "no outcome", (True,): "outcome", (False, True): "either"}


@cli.command()
@click.option("--out", type=FOLDER, default=Path("careloop-demo"), show_default=True, help="Folder to write to.")
@click.option("--example", type=EXAMPLES, default="actg175", show_default=True, help="The data set.")
@json_option
def demo(out: Path, example: str, as_json: bool) -> None:
    """Run the whole loop on published data: record, models, evaluation, plan, verdict, report.

    The patients of `genome` are simulated: what a genome adds to the clinic is compared on them.
    """
    from careloop.study import Study, example_study

    with stages() as notify:
        notify("record", "running")
        record = _example_record(example, out / "record")
        notify("record", "done")
    _run(Study.read(example_study(example)), record.path, out / "run", as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@click.option("--example", type=EXAMPLES, default="actg175", show_default=True, help="The study to start from.")
def new(study: Path, example: str) -> None:
    """Write a commented study file, STUDY, to start from."""
    from careloop.study import example_study

    if study.exists():
        raise InputError(f"{study} exists already; choose another name")
    study.write_text(example_study(example).read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"Wrote {study}. Edit it, then: careloop run {study} --record RECORD --out RUN")


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Run folder; an earlier one goes on where it stopped.")
@on_option
@json_option
def run(study: Path, record_path: Path, out: Path, on: str, as_json: bool) -> None:
    """Run STUDY on a record: cohort, features, models, evaluation, predictions, plan, verdict, report."""
    from careloop.study import Study

    _run(Study.read(study), record_path, out, on=on, as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, help="Also write the rows to this parquet file.")
@on_option
@json_option
def cohort(study: Path, record_path: Path, out: Path | None, on: str, as_json: bool) -> None:
    """Show who enters STUDY, step by step. STUDY may also be an ACES task file."""
    from careloop.cohort import Cohort, aces_cohort, is_aces, read_aces, select_cohort
    from careloop.record import Record
    from careloop.report.summary import table
    from careloop.study import Study

    record = Record.open(record_path)
    if is_aces(study):
        found = Cohort(aces_cohort(record, read_aces(study), on=on), flow=())
    else:
        found = select_cohort(record, Study.read(study).cohort, on=on)
    if out is not None:
        found.rows.write_parquet(out)
    steps = [(step.name, step.kept, step.dropped, step.reason) for step in found.flow]
    text = f"{table(['step', 'subjects', 'left out', 'because'], steps)}{found.rows.height} rows"
    show({"rows": found.rows.height, "flow": [vars(step) for step in found.flow]}, text, as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Parquet file to write the features to.")
@on_option
@json_option
def features(study: Path, record_path: Path, out: Path, on: str, as_json: bool) -> None:
    """Compute the features of STUDY's cohort and describe them."""
    from careloop.cohort import select_cohort
    from careloop.features import fit_features
    from careloop.record import Record
    from careloop.report.summary import table
    from careloop.study import Study

    opened, record = Study.read(study), Record.open(record_path)
    rows = select_cohort(record, opened.cohort, on=on).rows
    recipe, matrix = fit_features(record, rows, opened.features, exclude_codes=opened.arm_codes, on=on)
    matrix.to_frame().write_parquet(out)
    columns = [(c.name, c.unit, c.median, f"{c.missing_share:.0%}") for c in recipe.columns]
    text = table(["feature", "unit", "training median", "missing"], columns)
    shown = {"rows": rows.height, "features": list(recipe.names), "notes": list(recipe.notes), "path": str(out)}
    show(shown, text, as_json=as_json)


@cli.command()
@click.argument("package", type=FOLDER)
@patient_options
@click.option("--out", type=FOLDER, help="Also write the predictions to this parquet file.")
@click.option("--write-back", is_flag=True, help="With --record: append the predictions to the record as events.")
@click.option("--silent", is_flag=True, help="With --write-back: for a silent trial, in which nobody is shown them.")
@json_option
def predict(package: Path, out: Path | None, write_back: bool, silent: bool, as_json: bool, **patients: Any) -> None:
    """Predict with a trained model, PACKAGE (RUN/models/NAME), for patients of a file or of a record."""
    from careloop.predict import predict as apply_package
    from careloop.predict import record_predictions
    from careloop.report.summary import table
    from careloop.train import open_package

    if write_back and patients["record_path"] is None:
        raise click.UsageError("--write-back goes with --record")
    if silent and not write_back:
        raise click.UsageError("--silent goes with --write-back")
    opened = open_package(package)
    matrix, version, note = asked_patients(opened, **patients)
    predictions = apply_package(opened, matrix, record_version=version)
    if out is not None:
        predictions.write_parquet(out)
    if write_back:
        mode: Literal["shown", "silent"] = "silent" if silent else "shown"
        record_predictions(patients["record_path"], predictions, horizon_days=opened.horizon_days, mode=mode)
    rows = [
        (p["subject_id"], f"{p['predicted_boolean_probability']:.1%}", f"{p['low']:.1%} to {p['high']:.1%}",
         NOT_RULED_OUT[tuple(p["conformal_set"] or ())], p["abstained_reason"] or "")
        for p in predictions.iter_rows(named=True)
    ]  # fmt: skip
    title = f"{opened.facts.outcome} within {opened.horizon_days:g} days; {opened.name} {opened.version}"
    text = table(["subject", "risk", "interval", "not ruled out", "not to be used because"], rows, title=title)
    shown = {
        "model": opened.name,
        "version": opened.version,
        "note": note,
        "predictions": predictions.to_dicts(),
        "not_for_clinical_use": True,
    }
    show(shown, f"{text}\n{note}\nResearch software, not for clinical use.", as_json=as_json)


@cli.command()
@click.argument("package", type=FOLDER)
@patient_options
@json_option
def explain(package: Path, as_json: bool, **patients: Any) -> None:
    """Explain the predictions of a trained model, PACKAGE, for patients of a file or of a record."""
    from dataclasses import asdict

    from careloop.predict import explain as explain_row
    from careloop.train import open_package

    opened = open_package(package)
    matrix, _, note = asked_patients(opened, **patients)
    explained = [explain_row(opened, matrix, row) for row in range(matrix.keys.height)]
    text = "\n\n".join(
        f"Subject {subject}\n{e.text}" for subject, e in zip(matrix.keys["subject_id"], explained, strict=True)
    )
    shown = {"note": note, "explanations": [asdict(e) for e in explained], "not_for_clinical_use": True}
    show(shown, f"{text}\n{note}", as_json=as_json)


@cli.command()
@click.argument("run", type=FOLDER)
@record_option(required=True)
@click.option("--acted", multiple=True, metavar="CODE", help="Code of what is done on a high risk; may be repeated.")
@click.option("--page", type=FOLDER, help="Also write an HTML page with charts.")
@json_option
def outcome(run: Path, record_path: Path, acted: tuple[str, ...], page: Path | None, as_json: bool) -> None:
    """Judge RUN's predictions and plan by what the record holds by now, month by month and as a whole.

    An alarm that works prevents what it foretold, and then looks wrong: with --acted, the risk had nobody acted is
    judged beside the figures as they are. Predictions of a silent trial (careloop predict --silent) stand apart.
    """
    from careloop.features import Recipe
    from careloop.record import Record
    from careloop.report.treatments import all_in_labels
    from careloop.study import RunFolder, Study
    from careloop.study.later import judge_later

    study = Study.read(run / "study.yaml")
    later = judge_later(study, RunFolder.reopen(run), Record.open(record_path), acted=acted)
    content = later.to_json()
    worded = all_in_labels(content, Recipe.from_json((run / "recipe.json").read_text(encoding="utf-8")))
    if page is not None:
        from careloop.report.outcome_page import write_outcome_page

        write_outcome_page(worded, page, study=study.name, primary=study.primary)
    show(content, "\n".join(f"- {sentence}" for sentence in worded["words"]), as_json=as_json)


def _example_record(example: str, path: Path) -> Record:
    if example == "genome":
        from careloop.genome.findings.scores.simulated_patients import simulated_patients

        return simulated_patients(path)
    from careloop.ingest import example_record

    return example_record(example.removesuffix("_sequences"), path)


def _run(study: Study, record_path: Path, out: Path, *, as_json: bool, on: str = "here") -> None:
    from careloop.record import Record
    from careloop.report.summary import main_figures, summary

    record = Record.open(record_path)
    started = time.monotonic()
    with stages() as notify:
        study.run(record, out, on=on, notify=notify)
    click.echo(f"finished in {time.monotonic() - started:.1f} s", err=True)
    figures = main_figures(out)
    show(figures, summary(figures), as_json=as_json)
