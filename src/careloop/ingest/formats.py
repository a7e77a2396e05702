"""The formats that can be ingested, each with its reader and the settings it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from careloop import InputError
from careloop.ingest.delivery import Source


@dataclass(frozen=True)
class Format:
    """A format: which function gives its sources (imported when used), and the settings it takes beside the path.

    `takes` is what the function gets: one path at a time, or all paths of a delivery together.
    """

    reader: str
    settings: tuple[str, ...] = ()
    takes: Literal["path", "paths"] = "path"

    @property
    def read(self) -> Callable[..., list[Source]]:
        """The function that gives the sources at a path."""
        module, _, function = self.reader.partition(":")
        return getattr(import_module(module), function)


FORMATS = {
    "fhir": Format("careloop.ingest.fhir:fhir_sources", ("origin", "patient_identifier")),
    "omop": Format("careloop.ingest.omop:omop_sources", ("origin", "time_zone")),
    "meds": Format("careloop.ingest.meds:meds_sources"),
    "hl7v2": Format("careloop.ingest.hl7v2:hl7v2_sources", ("origin", "time_zone", "authority")),
    "ccda": Format("careloop.ingest.ccda:ccda_sources", ("origin", "time_zone", "patient_identifier")),
    "csv": Format("careloop.ingest.tabular:tabular_sources", ("mapping",), takes="paths"),
    "cdisc": Format("careloop.ingest.cdisc:cdisc_sources", ("origin", "time_zone", "study")),
    "dicom": Format("careloop.ingest.dicom:dicom_sources", ("origin", "time_zone")),
    "vcf": Format("careloop.ingest.vcf:vcf_sources", ("origin", "samples")),
    "waveform": Format("careloop.ingest.waveforms:waveform_sources", ("origin", "time_zone", "samples")),
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
    if format_.takes == "paths":
        return format_.read(list(paths), **given)
    return [source for path in paths for source in format_.read(path, **given)]
