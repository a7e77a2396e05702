"""The command that pre-trains a study's Transformer before its models are trained."""

from __future__ import annotations

import time
from pathlib import Path

import click

from careloop.cli.command import FOLDER, cli, json_option, on_option, record_option
from careloop.cli.output import show, stages


@cli.command()
@click.argument("study", type=FOLDER)
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Run folder; pre-training that was stopped goes on there.")
@on_option
@json_option
def pretrain(study: Path, record_path: Path, out: Path, on: str, as_json: bool) -> None:
    """Pre-train STUDY's Transformer on the whole histories of everybody outside its tuning and held-out rows.

    STUDY needs a section `pretraining`; its models with `start: pretrained` begin from the result, which `careloop run`
    with the same --out finds finished. The same command goes on where training was stopped.
    """
    from careloop.record import Record
    from careloop.study import Study
    from careloop.study.sequence_stages import read_pretrained

    opened, record, started = Study.read(study), Record.open(record_path), time.monotonic()
    with stages() as notify:
        run = opened.pretrain(record, out, on=on, notify=notify)
    click.echo(f"finished in {time.monotonic() - started:.1f} s", err=True)
    found = read_pretrained(run)
    best = min(range(len(found.history)), key=found.history.__getitem__)
    parameters = sum(value.size for value in found.weights.values())
    text = (
        f"{parameters:,} parameters learnt from the histories of {len(found.subjects):,} people, "
        f"{len(found.recipe.tokens):,} tokens; validation loss {found.history[best]:.4f} after epoch {best + 1} of "
        f"{len(found.history)}\n{run.path / 'pretrained'}"
    )
    shown = {
        "path": str(run.path / "pretrained"),
        "parameters": parameters,
        "subjects": len(found.subjects),
        "tokens": len(found.recipe.tokens),
        "validation_loss": list(found.history),
        "record_version": found.record_version,
    }
    show(shown, text, as_json=as_json)
