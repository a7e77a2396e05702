"""What FHIR elements mean for events: whose they are, codes, units, texts, and which resources say nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from typing import NamedTuple

from careloop.ingest.concepts import Concept, SkipError, WithdrawnError, first
from careloop.ingest.fhir.datatypes import Attachment, ConceptOrReference, Period, Quantity
from careloop.ingest.fhir.shapes import Observation, Resource

UCUM = "http://unitsofmeasure.org"
OPEN_END = "9999"  # the year that stands for "no end" in exports


class Row(NamedTuple):
    """One event of a resource; times as written (time None: a static fact).

    `ends`: the event is an end, which is not known before it has come, whatever was recorded when it began.
    """

    code: str
    time: str | None
    known: str | None = None
    number: float | None = None
    unit: str | None = None
    text: str | None = None
    asset: str | None = None
    ends: bool = False


def has_code(concept: Concept | None, *codes: str) -> bool:
    """True where one of the concept's codings is one of `codes`."""
    return concept is not None and any(coding.code in codes for coding in concept.coding or ())


def unit_of(quantity: Quantity) -> str | None:
    """Return the UCUM code if that is the quantity's system, else the unit as written, else the code."""
    if quantity.system == UCUM and quantity.code:
        return quantity.code
    return quantity.unit or quantity.code or None


def with_dose(row: Row, quantity: Quantity | None) -> Row:
    """Return the row with the quantity's number and unit, if it has a number."""
    if quantity is None or quantity.value is None:
        return row
    return row._replace(number=quantity.value, unit=unit_of(quantity))


def when(resource: Resource | Observation, *written: str | None) -> str:
    """Return the first time that is written; where there is none, when this version of the resource was made.

    Raises:
        SkipError: no time at all, so it cannot be said from when on the fact was known.
    """
    time = first(*written, resource.meta.last_updated if resource.meta else None)
    if time is None:
        raise SkipError(f"{type(resource).__name__}: no time")
    return time


def coded(code: str | None, resource: Resource | Observation) -> str:
    """Return the code, which must be there.

    Raises:
        SkipError: the resource has none.
    """
    if code is None:
        raise SkipError(f"{type(resource).__name__}: no code")
    return code


def refuse_status(
    resource: Resource | Observation, *, withdrawn: Collection[str], skipped: Collection[str] = ()
) -> None:
    """Tell apart by status what was taken back and what has not happened.

    Raises:
        WithdrawnError: the status is one of `withdrawn`.
        SkipError: it is one of `skipped`.
    """
    if resource.status in withdrawn:
        raise WithdrawnError
    if resource.status in skipped:
        raise SkipError(f"{type(resource).__name__}: {resource.status}")


def start_of(period: Period | None) -> str | None:
    """Return when a period begins; its end where only that is known."""
    return None if period is None else period.start or closed_end(period)


def closed_end(period: Period | None) -> str | None:
    """Return when a period ended, None where it is open."""
    if period is None or not period.end or period.end.startswith(OPEN_END):
        return None
    return period.end


def plain_text(attachments: Sequence[Attachment]) -> str | None:
    """Return the plain text that stands in place, None where there is none."""
    for attachment in attachments:
        if attachment.data and (attachment.content_type or "").partition(";")[0].strip() == "text/plain":
            try:
                return base64.b64decode(attachment.data).decode(errors="replace")
            except (binascii.Error, ValueError):
                continue
    return None


def concept_in(either: ConceptOrReference | None) -> Concept | None:
    """Return the concept of a CodeableReference."""
    return None if either is None else either.concept
