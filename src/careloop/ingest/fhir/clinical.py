"""Conditions, procedures, vaccinations, allergies, reports, images, documents, specimens and sequences as events."""

from __future__ import annotations

from collections.abc import Iterator

from careloop.ingest.concepts import Concept, SkipError, WithdrawnError, first, plain_code, words_of
from careloop.ingest.fhir.datatypes import Attachment, Period
from careloop.ingest.fhir.elements import (
    Row,
    closed_end,
    coded,
    has_code,
    plain_text,
    refuse_status,
    start_of,
    when,
    with_dose,
)
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.fhir.shapes import (
    AllergyIntolerance,
    Condition,
    DiagnosticReport,
    DocumentReference,
    ImagingStudy,
    Immunization,
    MolecularSequence,
    Procedure,
    Series,
    Specimen,
)

_ERROR = ("entered-in-error",)
_DOUBTFUL = ("unconfirmed", "provisional", "differential")
_PAST = ("inactive", "resolved")


def condition(resource: Condition, reading: Reading) -> list[Row]:
    """Onset and, where it is dated, resolution; a diagnosis that is only suspected says so in the text."""
    _refuse_verification(resource.verification_status)
    code = coded(reading.codes.of(resource.code), resource)
    onset = when(resource, resource.onset_date_time, start_of(resource.onset_period), resource.recorded_date)
    doubt = next((status for status in _DOUBTFUL if has_code(resource.verification_status, status)), None)
    rows = [Row(code, onset, resource.recorded_date, text=doubt)]
    over = closed_end(Period(end=resource.abatement_date_time)) or closed_end(resource.abatement_period)
    return rows + ([Row(f"RESOLVED//{code}", over, resource.recorded_date, ends=True)] if over else [])


def _refuse_verification(status: Concept | None) -> None:
    if has_code(status, "refuted", "entered-in-error"):
        raise WithdrawnError


def procedure(resource: Procedure, reading: Reading) -> list[Row]:
    """What was done; a period is known when it is over."""
    refuse_status(
        resource,
        withdrawn=_ERROR,
        skipped=("preparation", "not-done", "in-progress", "on-hold", "stopped", "unknown"),
    )
    code = coded(reading.codes.of(resource.code), resource)
    period = resource.performed_period or resource.occurrence_period
    done = first(resource.performed_date_time, resource.occurrence_date_time, start_of(period))
    return [Row(code, when(resource, done, resource.recorded), resource.recorded or closed_end(period))]


def immunization(resource: Immunization, reading: Reading) -> list[Row]:
    """A vaccination that was given."""
    refuse_status(resource, withdrawn=_ERROR, skipped=("not-done",))
    code = coded(reading.codes.of(resource.vaccine_code), resource)
    time = when(resource, resource.occurrence_date_time, resource.recorded)
    return [with_dose(Row(code, time, resource.recorded), resource.dose_quantity)]


def allergy_intolerance(resource: AllergyIntolerance, reading: Reading) -> list[Row]:
    """An allergy, under a code of its own: the bare code of a drug would read as if it had been given.

    One that the patient is no longer at risk of says so in its text (`inactive`, `resolved`).
    """
    _refuse_verification(resource.verification_status)
    concepts = [resource.code, *(reaction.substance for reaction in resource.reaction or ())]
    code = coded(next((code for code in map(reading.codes.of, concepts) if code), None), resource)
    if code in reading.codes:
        reading.codes.setdefault(f"ALLERGY//{code}", f"allergy: {reading.codes[code]}")
    time = when(resource, resource.onset_date_time, start_of(resource.onset_period), resource.recorded_date)
    past = next((status for status in _PAST if has_code(resource.clinical_status, status)), None)
    return [Row(f"ALLERGY//{code}", time, resource.recorded_date, text=past)]


def diagnostic_report(resource: DiagnosticReport, reading: Reading) -> list[Row]:
    """A report with its conclusion, or its text where that stands in it as plain text."""
    refuse_status(resource, withdrawn=("cancelled", *_ERROR), skipped=("registered",))
    code = coded(reading.codes.of(resource.code), resource)
    forms = resource.presented_form or []
    conclusions = "; ".join(words for words in map(words_of, resource.conclusion_code or ()) if words)
    text = first(resource.conclusion, plain_text(forms), conclusions)
    time = when(resource, resource.effective_date_time, start_of(resource.effective_period), resource.issued)
    known = resource.issued or closed_end(resource.effective_period)
    return [Row(f"REPORT//{code}", time, known, text=text, asset=_url(forms))]


def _url(attachments: list[Attachment]) -> str | None:
    return first(*(attachment.url for attachment in attachments))


def imaging_study(resource: ImagingStudy, reading: Reading) -> list[Row]:
    """One event a series, as the DICOM reader names them; of the study where it lists no series."""
    refuse_status(resource, withdrawn=("cancelled", *_ERROR), skipped=("registered",))
    study = next((uid for identifier in resource.identifier or () if (uid := _uid(identifier.value))), None)
    place = f"dicom:study/{study}" if study else None
    rows = list(_series(resource, place))
    if not rows:
        time = when(resource, resource.started) if resource.modality else None
        kinds = dict.fromkeys(code for code in map(plain_code, resource.modality or ()) if code)
        rows = [Row(f"IMAGING//{kind}", time, asset=place) for kind in kinds]
    if not rows:
        raise SkipError("ImagingStudy: no modality")
    return rows


def _series(resource: ImagingStudy, place: str | None) -> Iterator[Row]:
    for series in resource.series or ():
        kind = plain_code(series.modality)
        if kind:
            time = when(resource, series.started, resource.started)
            yield Row(f"IMAGING//{kind}", time, text=words_of(series.body_site), asset=_series_asset(series, place))


def _series_asset(series: Series, place: str | None) -> str | None:
    return f"{place}/series/{series.uid}" if place and series.uid else place


def _uid(value: str | None) -> str | None:
    uid = (value or "").removeprefix("urn:oid:")
    return uid if uid and set(uid) <= set("0123456789.") else None


def document_reference(resource: DocumentReference, reading: Reading) -> list[Row]:
    """A document, with its text where that stands in it, and where it lies."""
    refuse_status(resource, withdrawn=_ERROR)
    if resource.doc_status in _ERROR:
        raise WithdrawnError
    code = reading.codes.of(resource.type) or "LOCAL//document"
    files = [content.attachment for content in resource.content or () if content.attachment is not None]
    time = when(resource, resource.date, *(file.creation for file in files))
    return [Row(f"DOCUMENT//{code}", time, text=plain_text(files), asset=_url(files))]


def specimen(resource: Specimen, reading: Reading) -> list[Row]:
    """Material when it was taken, else when it was received."""
    refuse_status(resource, withdrawn=_ERROR)
    code = coded(reading.codes.of(resource.type), resource)
    taken = resource.collection
    collected = first(taken.collected_date_time, start_of(taken.collected_period)) if taken else None
    known = closed_end(taken.collected_period) if taken else None
    return [Row(f"SPECIMEN//{code}", when(resource, collected, resource.received_time), known)]


def molecular_sequence(resource: MolecularSequence, reading: Reading) -> list[Row]:
    """A sequence and where it lies; the resource has no date of its own, so it counts from its last update."""
    kind = resource.type if isinstance(resource.type, str) else plain_code(resource.type)
    kept = [first(place.url) for place in resource.repository or ()]
    where = first(*kept, _url(resource.formatted or []))
    return [Row(f"SEQUENCE//{kind or 'unknown'}", when(resource), asset=where)]
