"""The command line: one thin function a command; results are one table or one JSON object, errors one line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop import InputError, __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from careloop.features import FeatureMatrix
    from careloop.study import Study
    from careloop.train import Package

FOLDER = click.Path(path_type=Path)
EXAMPLES = click.Choice(["actg175", "nafld"])
FORMATS = click.Choice(["meds", "events", "actg175", "nafld"])
Command = Callable[..., Any]


def record_option(*, required: bool) -> Callable[[Command], Command]:
    """The option `--record DIR`."""
    return click.option("--record", "record_path", required=required, type=FOLDER, help="Folder of the record.")


json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object on standard output.")


def patient_options(command: Command) -> Command:
    """The options that say whose features a model is applied to."""
    for option in (
        click.option(
            "--at", type=click.DateTime(), help="Prediction time, UTC; default: when the last fact was known."
        ),
        click.option("--subject", "subjects", type=int, multiple=True, help="With --record: only this subject."),
        record_option(required=False),
        click.option("--patients", type=FOLDER, help="CSV or JSON file: one row a patient, or one row an event."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="careloop")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Patient data to predictions, treatment plans, and a check of both against what happened later.

    Start with `careloop demo`. With data of your own: `careloop new study.yaml`, `careloop ingest meds DATA --record
    RECORD`, `careloop run study.yaml --record RECORD --out RUN`. Research software, not for clinical use.
    """


@cli.command()
@click.option("--out", type=FOLDER, default=Path("careloop-demo"), show_default=True, help="Folder to write to.")
@click.option("--example", type=EXAMPLES, default="actg175", show_default=True, help="The published data set.")
@json_option
def demo(out: Path, example: str, as_json: bool) -> None:
    """Run the whole loop on published data: record, models, evaluation, plan, verdict, report."""
    from careloop.ingest import example_record
    from careloop.study import Study, example_study

    with _progress() as notify:
        notify("record", "running")
        record = example_record(example, out / "record")
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
@click.argument("format_", metavar="FORMAT", type=FORMATS)
@click.argument("paths", nargs=-1, type=FOLDER)
@record_option(required=True)
@json_option
def ingest(format_: str, paths: tuple[Path, ...], record_path: Path, as_json: bool) -> None:
    """Add data to a record, which is made if there is none. The same data again change nothing.

    FORMAT is meds (a MEDS folder), events (CSV, JSON or parquet files with the record's columns), or actg175 or nafld
    (published examples, which need no PATHS).
    """
    from careloop.ingest import example_record, ingest_paths

    if bool(paths) == (format_ in EXAMPLES.choices):
        raise click.UsageError("an example takes no PATHS" if paths else "give the PATHS to read")
    record = ingest_paths(format_, paths, record_path) if paths else example_record(format_, record_path)
    shown = {"record": str(record.path), "version": record.version}
    _show(shown, f"{record.path} is at version {record.version}.", as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Run folder; an earlier one goes on where it stopped.")
@json_option
def run(study: Path, record_path: Path, out: Path, as_json: bool) -> None:
    """Run STUDY on a record: cohort, features, models, evaluation, predictions, plan, verdict, report."""
    from careloop.study import Study

    _run(Study.read(study), record_path, out, as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, help="Also write the rows to this parquet file.")
@json_option
def cohort(study: Path, record_path: Path, out: Path | None, as_json: bool) -> None:
    """Show who enters STUDY, step by step. STUDY may also be an ACES task file."""
    from careloop.cohort import Cohort, aces_cohort, is_aces, read_aces, select_cohort
    from careloop.record import Record
    from careloop.report.summary import table
    from careloop.study import Study

    record = Record.open(record_path)
    if is_aces(study):
        found = Cohort(aces_cohort(record, read_aces(study)), flow=())
    else:
        found = select_cohort(record, Study.read(study).cohort)
    if out is not None:
        found.rows.write_parquet(out)
    steps = [(step.name, step.kept, step.dropped, step.reason) for step in found.flow]
    text = f"{table(['step', 'subjects', 'left out', 'because'], steps)}{found.rows.height} rows"
    _show({"rows": found.rows.height, "flow": [vars(step) for step in found.flow]}, text, as_json=as_json)


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Parquet file to write the features to.")
@json_option
def features(study: Path, record_path: Path, out: Path, as_json: bool) -> None:
    """Compute the features of STUDY's cohort and describe them."""
    from careloop.cohort import select_cohort
    from careloop.features import fit_features
    from careloop.record import Record
    from careloop.report.summary import table
    from careloop.study import Study

    opened, record = Study.read(study), Record.open(record_path)
    rows = select_cohort(record, opened.cohort).rows
    recipe, matrix = fit_features(record, rows, opened.features, exclude_codes=opened.arm_codes)
    matrix.to_frame().write_parquet(out)
    columns = [(c.name, c.unit, c.median, f"{c.missing_share:.0%}") for c in recipe.columns]
    text = table(["feature", "unit", "training median", "missing"], columns)
    shown = {"rows": rows.height, "features": list(recipe.names), "notes": list(recipe.notes), "path": str(out)}
    _show(shown, text, as_json=as_json)


@cli.command()
@click.argument("package", type=FOLDER)
@patient_options
@click.option("--out", type=FOLDER, help="Also write the predictions to this parquet file.")
@click.option("--write-back", is_flag=True, help="With --record: append the predictions to the record as events.")
@json_option
def predict(package: Path, out: Path | None, write_back: bool, as_json: bool, **patients: Any) -> None:
    """Predict with a trained model, PACKAGE (RUN/models/NAME), for patients of a file or of a record."""
    from careloop.predict import predict as apply_package
    from careloop.predict import record_predictions
    from careloop.report.summary import table
    from careloop.train import open_package

    if write_back and patients["record_path"] is None:
        raise click.UsageError("--write-back goes with --record")
    opened = open_package(package)
    matrix, version, note = _patients(opened, **patients)
    predictions = apply_package(opened, matrix, record_version=version)
    if out is not None:
        predictions.write_parquet(out)
    if write_back:
        record_predictions(patients["record_path"], predictions, horizon_days=opened.horizon_days)
    rows = [
        (p["subject_id"], f"{p['predicted_boolean_probability']:.1%}", f"{p['low']:.1%} to {p['high']:.1%}",
         p["abstained_reason"] or "")
        for p in predictions.iter_rows(named=True)
    ]  # fmt: skip
    title = f"{opened.facts.outcome} within {opened.horizon_days:g} days; {opened.name} {opened.version}"
    text = table(["subject", "risk", "interval", "not to be used because"], rows, title=title)
    shown = {
        "model": opened.name,
        "version": opened.version,
        "note": note,
        "predictions": predictions.to_dicts(),
        "not_for_clinical_use": True,
    }
    _show(shown, f"{text}\n{note}\nResearch software, not for clinical use.", as_json=as_json)


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
    matrix, _, note = _patients(opened, **patients)
    explained = [explain_row(opened, matrix, row) for row in range(matrix.keys.height)]
    text = "\n\n".join(
        f"Subject {subject}\n{e.text}" for subject, e in zip(matrix.keys["subject_id"], explained, strict=True)
    )
    shown = {"note": note, "explanations": [asdict(e) for e in explained], "not_for_clinical_use": True}
    _show(shown, f"{text}\n{note}", as_json=as_json)


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--subject", "subjects", type=int, multiple=True, help="Also show this subject's ranked options.")
@json_option
def plan(run: Path, subjects: tuple[int, ...], as_json: bool) -> None:
    """Show what RUN's treatments do, what is advised and why, and for whom."""
    import polars as pl

    from careloop.report.summary import table
    from careloop.study import RunFolder, read_plan

    found = read_plan(RunFolder.reopen(run))
    if found is None:
        raise InputError(f"{run} has no plan; add cohort.treatment and plan to the study, and run it again")
    rows = found.table.filter(pl.col("subject_id").is_in(list(subjects))).sort("subject_id", "prediction_time", "rank")
    unknown = sorted(set(subjects) - set(rows["subject_id"]))
    if unknown:
        raise InputError(f"{run} has no plan for subject {unknown[0]}; plan.parquet has those that entered the study")
    text = "\n".join(f"- {sentence}" for sentence in found.words)
    if subjects:
        limits = pl.format("{} to {}", pl.col("low").round_sig_figs(3), pl.col("high").round_sig_figs(3))
        advice = pl.when("recommended").then(pl.lit("recommended")).otherwise(pl.lit(""))
        shown_rows = rows.select("subject_id", "option", "rank", pl.col("expected").round_sig_figs(3), limits, advice)
        columns = ["subject", "option", "rank", f"expected {found.goals[0].goal}", "95 % interval", "advice"]
        text += "\n" + table(columns, shown_rows.rows())
    shown = {**found.to_json(), "options_by_subject": rows.to_dicts(), "not_for_clinical_use": True}
    _show(shown, f"{text}\nResearch software, not for clinical use.", as_json=as_json)


@cli.command()
@click.argument("run", type=FOLDER)
@record_option(required=True)
@json_option
def outcome(run: Path, record_path: Path, as_json: bool) -> None:
    """Judge the predictions that RUN's models left in the record by what the record holds by now."""
    from careloop.outcome import verify_record
    from careloop.record import Record
    from careloop.study import RunFolder, Study, packages

    folder = RunFolder.reopen(run)
    study = Study.read(run / "study.yaml")
    versions = [package.version for package in packages(study, folder)]
    verdict = verify_record(Record.open(record_path), study.cohort, model_versions=versions)
    _show(verdict.to_json(), "\n".join(f"- {sentence}" for sentence in verdict.words), as_json=as_json)


@cli.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(["meds"]))
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
def export(format_: str, record_path: Path, out: Path) -> None:
    """Write a record in another format: meds (a MEDS 0.4 folder)."""
    from careloop.record import Record, export_meds

    export_meds(Record.open(record_path), out)
    click.echo(f"Wrote {out} ({format_}).")


def main() -> None:
    """Run the command line: exit 0 on success, 1 with a one-line error, 2 on wrong usage."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]  # accepted anywhere
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("careloop: stopped; what is finished is kept, and the same command goes on from there")
    except Exception as error:
        if debug:
            raise
        sys.exit(f"careloop: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InputError | FileNotFoundError | PermissionError):
        return text
    return f"unexpected {type(error).__name__}: {text[:300]}; add --debug for the traceback"


def _run(study: Study, record_path: Path, out: Path, *, as_json: bool) -> None:
    from careloop.record import Record
    from careloop.report.summary import main_figures, summary

    record = Record.open(record_path)
    started = time.monotonic()
    with _progress() as notify:
        study.run(record, out, notify=notify)
    click.echo(f"finished in {time.monotonic() - started:.1f} s", err=True)
    figures = main_figures(out)
    _show(figures, summary(figures), as_json=as_json)


def _patients(
    package: Package, *, patients: Path | None, record_path: Path | None, subjects: tuple[int, ...], at: datetime | None
) -> tuple[FeatureMatrix, int, str]:
    """Features of the patients asked for, the record's version (0 for a file), and a note on what was missing."""
    from careloop.predict import read_patients, record_patients
    from careloop.record import Record

    if (patients is None) == (record_path is None):
        raise click.UsageError("give either --patients FILE or --record DIR")
    moment = None if at is None else at.replace(tzinfo=UTC)
    if patients is not None:
        found = read_patients(patients, package, prediction_time=moment)
        return found.matrix, 0, found.note
    assert record_path is not None
    record = Record.open(record_path)
    return record_patients(record, package, subjects=subjects, prediction_time=moment), record.version, ""


@contextmanager
def _progress() -> Iterator[Callable[[str, str], None]]:
    """Stages on standard error: a spinner with the time so far on a terminal, else a line a finished stage."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def notify(stage: str, state: str) -> None:
            if state == "running":
                tasks[stage] = bars.add_task(stage, total=1)
                return
            if state == "unchanged":
                tasks[stage] = bars.add_task(f"{stage} (unchanged)", total=1)
            bars.update(tasks[stage], completed=1)
            if not console.is_terminal:
                console.print(f"{stage}: {state}", highlight=False)

        yield notify


def _show(content: Any, text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(content, ensure_ascii=False, allow_nan=False, default=str) if as_json else text)
