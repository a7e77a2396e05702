"""The command `careloop`: options that commands share, exit codes, and errors of one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop import InputError, __version__

if TYPE_CHECKING:
    from careloop.features import FeatureMatrix
    from careloop.train import Package

FOLDER = click.Path(path_type=Path)
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"])
EXAMPLES = click.Choice(["actg175", "nafld", "nafld_sequences", "nsaids", "genome"])
Command = Callable[..., Any]


def record_option(*, required: bool) -> Callable[[Command], Command]:
    """The option `--record DIR`."""
    return click.option("--record", "record_path", required=required, type=FOLDER, help="Folder of the record.")


on_option = click.option(
    "--on",
    default="here",
    show_default=True,
    metavar="here|local|ray",
    help="Where work is done: in this process, in worker processes (local:4 takes four), or on Ray.",
)
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


def asked_patients(
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="careloop")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Patient data to predictions, treatment plans, and a check of both against what happened later.

    Start with `careloop demo`. With data of your own: `careloop ingest fhir EXPORT --record RECORD` (or another
    format), `careloop check --record RECORD`, `careloop new study.yaml`, `careloop run study.yaml --record RECORD --out
    RUN`. Research software, not for clinical use.
    """


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
