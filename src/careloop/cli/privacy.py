"""The commands of privacy: a record and images without identities, and the check of what is shared; thin functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from careloop import InputError
from careloop.cli.command import FOLDER, cli, json_option, record_option
from careloop.cli.output import counter, show

key_option = click.option(
    "--key",
    "key_file",
    required=True,
    type=FOLDER,
    help="Secret key file, made where there is none. Keep it apart: who has it and the record can link patients back.",
)


@cli.command()
@record_option(required=True)
@click.option("--out", required=True, type=FOLDER, help="New folder for the record without identities.")
@key_option
@click.option("--settings", "settings_file", type=FOLDER, help="YAML file of settings that differ from the defaults.")
@click.option(
    "--text",
    type=click.Choice(["categories", "scrubbed", "none"]),
    help="Texts kept: only those that many patients share (default), others scrubbed too, or none.",
)
@click.option(
    "--model", type=FOLDER, help="With --text scrubbed: a spaCy or Transformers model on disk that finds names."
)
@json_option
def deidentify(
    record_path: Path, out: Path, key_file: Path, settings_file: Path | None, as_json: bool, **given: Any
) -> None:
    """Write a record without identities: new ids, shifted times, no rare codes, no free text, no age above 89.

    The same key gives a patient the same id and shift in every export. A run that was stopped goes on where it was.
    What may still be found out stands in deidentification.txt beside the data: read it before they leave the house.
    """
    from careloop.clean.privacy import deidentify_record
    from careloop.clean.privacy.told import record_in_words
    from careloop.record import Record

    settings = _settings(settings_file, **given)
    with counter() as progress:
        summary = deidentify_record(
            Record.open(record_path), out, key_file=key_file, settings=settings, progress=progress
        )
    show(summary.to_json(), record_in_words(summary, out, key_file), as_json=as_json)


@cli.command("deidentify-dicom")
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="New folder for the files without identities.")
@key_option
@record_option(required=False)
@click.option("--origin", default="", help="With --record: the origin that the files were ingested with.")
@click.option(
    "--pixel-text",
    type=click.Choice(["refuse", "blank", "keep"]),
    default="refuse",
    show_default=True,
    help="Images that may have text burned in: refuse them, blank what may be text, or keep (somebody looked).",
)
@click.option(
    "--suspect-modality", "suspects", multiple=True, help="A modality whose machines burn in text; may be repeated."
)
@click.option("--keep-characteristics", is_flag=True, help="Keep age, sex, size, weight and the like.")
@json_option
def deidentify_dicom(
    folder: Path, out: Path, key_file: Path, record_path: Path | None, as_json: bool, **given: Any
) -> None:
    """Write the DICOM files below FOLDER without identities (DICOM PS3.15 Annex E, basic profile).

    With --record, patients get the ids and shifted dates that `careloop deidentify` gives them under the same key;
    without it, dates are removed.
    """
    from careloop.clean.privacy import DeidentificationSettings
    from careloop.clean.privacy.dicom import DicomOptions
    from careloop.clean.privacy.dicom import deidentify_dicom as deidentify_files
    from careloop.clean.privacy.dicom.linked import patient_links
    from careloop.clean.privacy.pseudonyms import read_key
    from careloop.clean.privacy.told import dicom_in_words
    from careloop.record import Record

    key = read_key(key_file)
    linked: dict[str, Any] = {}
    if record_path is not None:
        links = patient_links(
            Record.open(record_path), DeidentificationSettings().pseudonyms(key), origin=given["origin"]
        )
        linked = {"pseudonym": links.pseudonym, "shift_days": links.shift_days}
    options = DicomOptions(
        patient_characteristics="keep" if given["keep_characteristics"] else "remove",
        pixel_text=given["pixel_text"],
        suspect_modalities=given["suspects"],
        **linked,
    )
    with counter() as progress:
        done = deidentify_files(folder, out, key=key, options=options, progress=progress)
    show(done.to_json(), dicom_in_words(done, out), as_json=as_json)


@cli.command()
@click.argument("shared", type=FOLDER)
@click.option(
    "--quasi",
    "quasi_identifiers",
    multiple=True,
    help="What somebody may know: a code, PREFIX*, birth_decade and the like, or a table's column; may be repeated.",
)
@click.option("--sensitive", multiple=True, help="What nobody should learn: a code, PREFIX*, or a table's column.")
@click.option("-k", default=11, show_default=True, help="People that should share each combination.")
@json_option
def anonymity(
    shared: Path, quasi_identifiers: tuple[str, ...], sensitive: tuple[str, ...], k: int, as_json: bool
) -> None:
    """Check the k-anonymity of SHARED: a record's folder, or a parquet or CSV table with a row a person.

    Exit code 1 where people stand in classes of fewer than K, with what singles them out and what would help.
    """
    from careloop.clean.privacy.anonymity import DEFAULT, check_anonymity
    from careloop.clean.privacy.told import anonymity_in_words

    report = check_anonymity(_shared(shared), quasi_identifiers=quasi_identifiers or DEFAULT, k=k, sensitive=sensitive)
    show(report.to_json(), anonymity_in_words(report), as_json=as_json)
    if not report.passed:
        sys.exit(1)


def _settings(file: Path | None, *, text: str | None, model: Path | None) -> Any:
    import yaml
    from pydantic import ValidationError

    from careloop.clean.privacy import DeidentificationSettings

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file else {}
        if not isinstance(content, dict):
            raise InputError(f"{file}: must hold names and values, such as smallest_group: 20")
        if text is not None:
            content["text"] = text
        if model is not None:
            content["scrub"] = {**content.get("scrub", {}), "model": model}
        return DeidentificationSettings.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{file}: no readable YAML; correct the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(f"{file or 'settings'}: {place}: {first['msg'].lower()}; correct it") from None


def _shared(path: Path) -> Any:
    import polars as pl

    from careloop.record import Record

    if path.is_dir():
        return Record.open(path)
    readers = {".parquet": pl.read_parquet, ".csv": lambda file: pl.read_csv(file, infer_schema=False)}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: must be a record's folder, or a .parquet or .csv table with a row a person")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(f"{path}: no readable {path.suffix[1:]} file; export it again") from None
