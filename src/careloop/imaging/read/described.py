"""What a series is called and when it was acquired: free text of its header, without the patient's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from careloop.imaging.read.elements import raw_text, titled
from careloop.ingest.dicom.header import coded, parse_datetime, text

if TYPE_CHECKING:
    from pydicom import Dataset

_ZONE = re.compile(r"[+-]\d{4}$")


@dataclass(frozen=True, slots=True)
class SeriesText:
    """Text that all files of a series share: `patient` as in `Source`, the others fit to be shown."""

    patient: str = ""
    body_part: str = ""
    description: str = ""


def series_text(header: Dataset) -> SeriesText:
    """Return the text of one file's header, for all files of its series."""
    return SeriesText(text(header, "PatientID"), titled(_body_part(header)), titled(_description(header)))


def _body_part(header: Dataset) -> str:
    stated = text(header, "BodyPartExamined")
    if stated:
        return stated
    region = coded(header, "AnatomicRegionSequence")
    return (region[1] or region[0].partition("//")[2]) if region else ""


def _description(header: Dataset) -> str:
    """The series' description without the patient's name and identifier, which some sites write into it."""
    described = titled(text(header, "SeriesDescription"))
    words = [text(header, "PatientID"), *re.split(r"[\^=, ]+", text(header, "PatientName"))]
    for word in words:
        if len(word) > 2:
            described = re.sub(re.escape(word), "", described, flags=re.IGNORECASE)
    return " ".join(described.split())


def acquired_at(header: Dataset) -> datetime | None:
    """When the image was acquired, in UTC, by the first of its times that is stated to the minute."""
    zone = raw_text(header, "TimezoneOffsetFromUTC")
    for what in ("AcquisitionDateTime", "Acquisition", "Series", "Content", "Study"):
        if what == "AcquisitionDateTime":
            value = raw_text(header, what)
        else:
            value = raw_text(header, f"{what}Date") + raw_text(header, f"{what}Time").replace(":", "")
        if not value:
            continue
        moment = parse_datetime(value, UTC) if _ZONE.search(value) else parse_datetime(value + zone, UTC)
        if moment is not None and moment.time == moment.latest:
            return moment.time
    return None
