"""The commands of patient data: ingest, check, clean, de-identify, export; each a thin function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from careloop.cli.command import EXAMPLES, FOLDER, cli, json_option, record_option
from careloop.cli.output import counter, show

# As careloop.ingest.FORMATS has them, which loads too much for `--help`; a test holds the two together.
FORMATS = ("fhir", "omop", "meds", "dicom", "vcf", "waveform")


@cli.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice([*FORMATS, "events", *EXAMPLES.choices]))
@click.argument("paths", nargs=-1, type=FOLDER)
@record_option(required=True)
@click.option("--origin", help="Namespace of the patients' identifiers, where several systems number their own.")
@click.option("--patient-identifier", help="fhir: system of the hospital's own patient number (identifier.system).")
@click.option("--time-zone", help="omop, dicom, waveform: IANA name for times without a zone; default UTC.")
@click.option("--samples", type=FOLDER, help="vcf, waveform: CSV with columns sample, subject and, optionally, time.")
@json_option
def ingest(format_: str, paths: tuple[Path, ...], record_path: Path, as_json: bool, **settings: Any) -> None:
    r"""Add data to a record, which is made if there is none. The same data again change nothing.

    All PATHS (files or folders) are one delivery: read source by source, then committed at once. A run that was stopped
    goes on where it was. A newer version of a source row replaces the older. Rows that cannot be read go to a reject
    file and stop nothing.

    \b
    fhir      FHIR R4 and R5: bundles, resources, Bulk Data (.json, .ndjson; plain, .gz or .zip)
    omop      OMOP CDM 5.3 and 5.4: a folder of parquet or CSV files, or a duckdb file
    meds      MEDS 0.4 datasets
    dicom     DICOM files, headers only
    vcf       VCF 4.1 to 4.5, headers only
    waveform  WFDB, EDF, EDF+ and BDF recordings, headers only
    events    files with the record's own columns (CSV, JSON, parquet)
    actg175, nafld  published examples, which need no PATHS
    """
    from careloop.ingest import example_record, ingest_paths

    if bool(paths) == (format_ in EXAMPLES.choices):
        raise click.UsageError("an example takes no PATHS" if paths else "give the PATHS to read")
    if not paths:
        record = example_record(format_, record_path)
        shown = {"record": str(record.path), "record_version": record.version}
        show(shown, f"{record.path} is at version {record.version}.", as_json=as_json)
        return
    given = {name: value for name, value in settings.items() if value is not None}
    with counter() as progress:
        summary = ingest_paths(format_, paths, record_path, settings=given, progress=progress)
    show({"record": str(record_path), **summary.to_json()}, summary.text, as_json=as_json)


@cli.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(["meds"]))
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
def export(format_: str, record_path: Path, out: Path) -> None:
    """Write a record in another format: meds (a MEDS 0.4 folder)."""
    from careloop.record import Record, export_meds

    export_meds(Record.open(record_path), out)
    click.echo(f"Wrote {out} ({format_}).")
