"""The commands of patient data: ingest, check, clean, de-identify, export; each a thin function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from careloop import InputError
from careloop.cli.command import EXAMPLES, FOLDER, cli, json_option, on_option, record_option
from careloop.cli.output import counter, show

# As careloop.ingest.FORMATS has them, which loads too much for `--help`; a test holds the two together.
FORMATS = ("fhir", "omop", "meds", "hl7v2", "ccda", "csv", "cdisc", "dicom", "vcf", "waveform")


@cli.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice([*FORMATS, "events", *EXAMPLES.choices]))
@click.argument("paths", nargs=-1, type=FOLDER)
@record_option(required=False)
@click.option("--mapping", type=FOLDER, help="csv: the file that says what columns mean (see --suggest).")
@click.option(
    "--suggest", is_flag=True, help="csv: write a first mapping (default mapping.yaml) from the columns seen."
)
@click.option("--origin", help="Namespace of the patients' identifiers, where several systems number their own.")
@click.option(
    "--patient-identifier",
    help="fhir, ccda: system (URL, OID) of the hospital's own patient number, by which other formats know patients.",
)
@click.option("--authority", help="hl7v2: assigning authority of the hospital's own patient number (PID-3.4).")
@click.option(
    "--time-zone", help="omop, hl7v2, ccda, cdisc, dicom, waveform: of times without one, such as Asia/Tokyo."
)
@click.option("--samples", type=FOLDER, help="vcf, waveform: CSV with columns sample, subject and, optionally, time.")
@click.option("--study", help="cdisc: the study, where the files do not say so.")
@on_option
@json_option
def ingest(
    format_: str,
    paths: tuple[Path, ...],
    record_path: Path | None,
    suggest: bool,
    on: str,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Add data to a record, which is made if there is none. The same data again change nothing.

    All PATHS (files or folders) are one delivery: read source by source, then committed at once. A run that was stopped
    goes on where it was. A newer version of a source row replaces the older. Rows that cannot be read go to a reject
    file and stop nothing.

    \b
    fhir      FHIR R4 and R5: bundles, resources, Bulk Data (.json, .ndjson; plain, .gz or .zip)
    omop      OMOP CDM 5.3 and 5.4: a folder of parquet or CSV files, or a duckdb file
    meds      MEDS 0.4 datasets
    hl7v2     HL7 v2 messages: ADT, ORU, OML, ORM, VXU and others
    ccda      C-CDA documents (.xml; plain, .gz or .zip)
    csv       any CSV, parquet or Excel files, by a mapping file
    cdisc     SDTM and ADaM: SAS transport, Dataset-JSON, CSV, parquet
    dicom     DICOM files, headers only
    vcf       VCF 4.1 to 4.5, headers only
    waveform  WFDB, EDF, EDF+ and BDF recordings, headers only
    events    files with the record's own columns (CSV, JSON, parquet)
    actg175, nafld, nsaids  published examples, which need no PATHS
    """
    from careloop.ingest import example_record, ingest_paths

    if bool(paths) == (format_ in EXAMPLES.choices):
        raise click.UsageError("an example takes no PATHS" if paths else "give the PATHS to read")
    if suggest:
        _suggest(format_, paths, settings["mapping"] or Path("mapping.yaml"), as_json=as_json)
        return
    if record_path is None:
        raise click.UsageError("Missing option '--record'.")
    if not paths:
        record = example_record(format_, record_path)
        shown = {"record": str(record.path), "record_version": record.version}
        show(shown, f"{record.path} is at version {record.version}.", as_json=as_json)
        return
    given = {name: value for name, value in settings.items() if value is not None}
    if format_ == "csv" and "mapping" not in given:
        raise click.UsageError("csv needs --mapping FILE; write a first one with --suggest")
    with counter() as progress:
        summary = ingest_paths(format_, paths, record_path, settings=given, on=on, progress=progress)
    show({"record": str(record_path), **summary.to_json()}, summary.text, as_json=as_json)


def _suggest(format_: str, paths: tuple[Path, ...], mapping: Path, *, as_json: bool) -> None:
    """Write a first mapping file, and say what in it needs a look."""
    from careloop.ingest.tabular import suggest_mapping

    if format_ != "csv":
        raise click.UsageError("--suggest goes with csv")
    if mapping.exists():
        raise InputError(f"{mapping} exists already; name another file with --mapping, or remove it")
    text = suggest_mapping(paths)
    mapping.write_text(text, encoding="utf-8")
    questions = [line.strip() for line in text.splitlines() if "# check:" in line or "TODO" in line]
    told = f"Wrote {mapping}. Look at these lines, then: careloop ingest csv PATHS --mapping {mapping} --record RECORD"
    show({"mapping": str(mapping), "check": questions}, "\n".join([told, *questions]), as_json=as_json)


@cli.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(["meds"]))
@record_option(required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
def export(format_: str, record_path: Path, out: Path) -> None:
    """Write a record in another format: meds (a MEDS 0.4 folder)."""
    from careloop.record import Record, export_meds

    export_meds(Record.open(record_path), out)
    click.echo(f"Wrote {out} ({format_}).")
