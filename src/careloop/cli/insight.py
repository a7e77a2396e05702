"""The commands that look into one patient's prediction: what-if and similar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, asked_patients, cli, json_option, patient_options
from careloop.cli.output import show

if TYPE_CHECKING:
    from careloop.predict.altered import FeatureRow
    from careloop.predict.similar import Similar

# Labs set to their training medians that the text shows; the JSON has all.
MOST_SHOWN = 5


@cli.command("what-if")
@click.argument("package", type=FOLDER)
@patient_options
@click.option(
    "--set",
    "asked",
    multiple=True,
    metavar="CODE=VALUE",
    help="Set a lab, such as LOINC//718-7=14, or =none for never measured; several are set together.",
)
@click.option("--among", multiple=True, metavar="CODE", help="Without --set: look at this lab only; may be repeated.")
@json_option
def what_if(package: Path, asked: tuple[str, ...], among: tuple[str, ...], as_json: bool, **patients: Any) -> None:
    """Ask PACKAGE what its risk would be with other lab values.

    Without --set, every measured lab is set to its training median, one at a time, and the smallest change of one lab
    that brings the risk below the model's threshold is searched for.
    """
    from careloop.predict.altered import FeatureRow
    from careloop.predict.counterfactual import NOT_AN_EFFECT
    from careloop.train import open_package

    opened = open_package(package)
    matrix, _, note = asked_patients(opened, **patients)
    values = dict(_setting(text) for text in asked)
    found = [_answers(FeatureRow.of(opened, matrix, row), values, among) for row in range(matrix.keys.height)]
    subjects = matrix.keys["subject_id"].to_list()
    parts = [f"Subject {subject}\n{text}" for subject, (_, text) in zip(subjects, found, strict=True)]
    content = {
        "model": opened.name,
        "version": opened.version,
        "note": note,
        "patients": [{"subject_id": s, **answer} for s, (answer, _) in zip(subjects, found, strict=True)],
        "meaning": NOT_AN_EFFECT,
        "not_for_clinical_use": True,
    }
    lines = [*parts, *([note] if note else []), NOT_AN_EFFECT, "Research software, not for clinical use."]
    show(content, "\n".join(lines), as_json=as_json)


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--model", help="Name of a model of RUN; default: the study's primary model.")
@patient_options
@click.option("--count", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@json_option
def similar(run: Path, model: str | None, k: int, as_json: bool, **patients: Any) -> None:
    """Find the patients of RUN that its model sees as most similar, and what became of them.

    They are tuning patients: what became of those that the model was fitted to, it has partly memorised.
    """
    from dataclasses import asdict

    import numpy as np

    from careloop.study import RunFolder, Study
    from careloop.study.patients import past_patients
    from careloop.train import open_package

    folder = RunFolder.reopen(run)
    opened = open_package(run / "models" / (model or Study.read(run / "study.yaml").primary))
    matrix, _, note = asked_patients(opened, **patients)
    past, subjects = past_patients(opened, folder), matrix.keys["subject_id"].to_list()
    found = []
    for row, subject in enumerate(subjects):
        own = [subject] if patients["record_path"] is not None else []  # a file numbers its patients by itself
        alone = matrix.filter(np.arange(len(subjects)) == row)
        found.append(past.similar(alone, k=k, without=own))
    content = {
        "model": opened.name,
        "version": opened.version,
        "note": note,
        "patients": [{"subject_id": s, **asdict(f), "text": f.text} for s, f in zip(subjects, found, strict=True)],
        "not_for_clinical_use": True,
    }
    parts = [f"Subject {subject}\n{_neighbours(f)}{f.text}" for subject, f in zip(subjects, found, strict=True)]
    lines = [*parts, *([note] if note else []), "Research software, not for clinical use."]
    show(content, "\n\n".join(lines), as_json=as_json)


def _setting(text: str) -> tuple[str, float | None]:
    """`LOINC//718-7=14` as code and value; None for `=none`."""
    code, equals, value = text.rpartition("=")
    if equals and code and value.strip().lower() == "none":
        return code, None
    try:
        if not (equals and code):
            raise ValueError
        return code, float(value)
    except ValueError:
        raise click.UsageError(
            f"--set takes CODE=VALUE with a number or none, such as LOINC//718-7=14; got {text!r}"
        ) from None


def _answers(
    patient: FeatureRow, values: dict[str, float | None], among: tuple[str, ...]
) -> tuple[dict[str, Any], str]:
    """What the model answers about one patient: plain values, and sentences."""
    from dataclasses import asdict

    from careloop.predict.counterfactual import smallest_change, what_if, what_if_typical

    outside = patient.outside([{}])[0]
    found = (what_if(patient, values),) if values else what_if_typical(patient, among=among)
    sentences = [f.text for f in found[:MOST_SHOWN]] or ["No lab of this patient can be changed."]
    content: dict[str, Any] = {
        "outside": outside,
        "what_if": [{**asdict(f), "difference": f.difference, "text": f.text} for f in found],
    }
    if not values:
        smallest = smallest_change(patient, among=among)
        content["smallest_change"] = {**asdict(smallest), "text": smallest.text}
        sentences += [smallest.text] if found else []
    sentences = ([f"No answer should be used: {outside}."] if outside else []) + sentences
    return content, "\n".join(f"- {text}" for text in sentences)


def _neighbours(found: Similar) -> str:
    """The past patients as a table."""
    from careloop.report.summary import table

    ended = {0: "followed to day {:.0f} without", 1: "the outcome on day {:.0f}", 2: "a competing event on day {:.0f}"}
    rows = [
        (n.subject_id, f"{n.prediction_time:%Y-%m-%d}", f"{n.distance:.3f}", ended[n.event].format(n.follow_up_days),
         ", ".join(n.shared))
        for n in found.neighbours
    ]  # fmt: skip
    return table(["past subject", "predicted on", "distance", "what happened", "alike in"], rows)
