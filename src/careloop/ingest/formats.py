"""The formats that can be ingested, each with its reader and the settings it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from careloop import InputError
from careloop.ingest.delivery import Source


@dataclass(frozen=True)
class Format:
    """A format: what it is, which function gives its sources (imported when used), and its settings beside the path."""

    what: str
    reader: str
    settings: tuple[str, ...] = ()

    @property
    def read(self) -> Callable[..., list[Source]]:
        """The function that gives the sources at a path."""
        module, _, function = self.reader.partition(":")
        return getattr(import_module(module), function)


FORMATS = {
    "fhir": Format(
        "FHIR R4 and R5: bundles, resources, Bulk Data (.json, .ndjson, plain, .gz or .zip)",
        "careloop.ingest.fhir:fhir_sources",
        ("origin", "patient_identifier"),
    ),
    "omop": Format(
        "OMOP CDM 5.3 and 5.4: a folder of parquet or CSV files, or a duckdb file",
        "careloop.ingest.omop:omop_sources",
        ("origin", "time_zone"),
    ),
    "meds": Format("MEDS 0.4 datasets", "careloop.ingest.meds:meds_sources"),
    "dicom": Format(
        "DICOM files, headers only (a folder, files or .zip)",
        "careloop.ingest.dicom:dicom_sources",
        ("origin", "time_zone"),
    ),
    "vcf": Format("VCF 4.1 to 4.5, headers only", "careloop.ingest.vcf:vcf_sources", ("origin", "samples")),
    "waveform": Format(
        "WFDB, EDF, EDF+ and BDF recordings, headers only",
        "careloop.ingest.waveforms:waveform_sources",
        ("origin", "time_zone", "samples"),
    ),
}
_FILE_SETTINGS = ("samples", "mapping")


def check_format(name: str, settings: Mapping[str, str | Path]) -> Format:
    """Return the format of this name.

    Raises:
        InputError: there is none, or it has no such setting.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {name}")
    format_ = FORMATS[name]
    for setting in settings:
        if setting not in format_.settings:
            allowed = ", ".join(format_.settings) or "none"
            raise InputError(f"{name} has no setting {setting}; leave it out (its settings: {allowed})")
    return format_


def sources_of(name: str, paths: Sequence[Path], settings: Mapping[str, str | Path]) -> list[Source]:
    """Return the sources of one delivery at all paths, in the order in which they are read.

    Raises:
        InputError: an unknown format or setting, or what its reader refuses.
    """
    format_ = check_format(name, settings)
    given = {key: Path(value) if key in _FILE_SETTINGS else value for key, value in settings.items()}
    return [source for path in paths for source in format_.read(path, **given)]
