"""The command ask: how often some codes occur in simulated futures of patients."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from careloop.cli.command import FOLDER, cli, json_option, record_option
from careloop.cli.output import counter, show

SHOWN_FUTURES = 3


@cli.command()
@click.argument("pretrained", type=FOLDER)
@record_option(required=True)
@click.option("--subject", "subjects", type=int, multiple=True, required=True, help="Whose futures; may be repeated.")
@click.option(
    "--code", "codes", multiple=True, required=True, help="Code, or a prefix ending in *; any of several counts."
)
@click.option("--horizon-days", type=click.FloatRange(min=0, min_open=True), required=True, help="How far to look.")
@click.option("--futures", type=click.IntRange(min=1), default=100, show_default=True, help="Futures of each subject.")
@click.option("--at", type=click.DateTime(), help="Prediction time, UTC; default: when the last fact was known.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulation.")
@click.option("--show-futures", is_flag=True, help=f"Also print {SHOWN_FUTURES} futures of the first subject in words.")
@json_option
def ask(
    pretrained: Path,
    record_path: Path,
    subjects: tuple[int, ...],
    at: datetime | None,
    show_futures: bool,
    as_json: bool,
    **question: Any,
) -> None:
    """Ask how often one of some codes occurs in simulated futures, without a model of its own.

    PRETRAINED is the folder of a network that was pre-trained on next events (`careloop pretrain`).
    """
    from dataclasses import replace

    from careloop.predict.futures import NOTE, Question, futures_in_words
    from careloop.predict.futures import ask as answer
    from careloop.record import Record
    from careloop.report.summary import table
    from careloop.train.pretraining import open_pretrained

    opened, record, moment = open_pretrained(pretrained), Record.open(record_path), at and at.replace(tzinfo=UTC)
    asked = Question(**question)
    with counter() as progress:
        found = answer(
            opened, record, asked, subjects=subjects, prediction_time=moment,
            progress=lambda done, total: progress("futures", done, total),
        )  # fmt: skip
    shown = []
    if show_futures:
        few = replace(asked, futures=SHOWN_FUTURES)
        shown = futures_in_words(opened, record, few, subject=subjects[0], prediction_time=moment)
    content = {
        "codes": list(asked.codes), "horizon_days": asked.horizon_days, "futures": asked.futures, "seed": asked.seed,
        "answers": found.to_dicts(), "shown_futures": shown, "meaning": NOTE, "not_for_clinical_use": True,
    }  # fmt: skip
    rows = [_row(row) for row in found.iter_rows(named=True)]
    title = f"{' or '.join(asked.codes)} within {asked.horizon_days:g} days, in {asked.futures} futures each"
    parts = [table(["subject", "predicted on", "share", "95 % of simulation", "half by day"], rows, title=title)]
    parts += [f"Future {number} of subject {subjects[0]}\n{text}" for number, text in enumerate(shown, start=1)]
    show(content, "\n\n".join([*parts, NOTE]), as_json=as_json)


def _row(answer: dict[str, Any]) -> tuple[Any, ...]:
    """One subject's line."""
    key = answer["subject_id"], f"{answer['prediction_time']:%Y-%m-%d}"
    if answer["probability"] is None:
        return (*key, "nothing known", "", "")
    median = answer["median_days"]
    return (
        *key,
        f"{answer['probability']:.1%}",
        f"{answer['low']:.1%} to {answer['high']:.1%}",
        "" if median is None else f"{median:.0f}",
    )
