"""Patient, Encounter, FamilyMemberHistory and QuestionnaireResponse as events."""

from __future__ import annotations

from collections.abc import Iterator

from careloop.ingest.concepts import SkipError, first, plain_code, words_of
from careloop.ingest.fhir.datatypes import Extension, Identifier
from careloop.ingest.fhir.elements import Row, closed_end, refuse_status, when, with_dose
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.fhir.shapes import (
    Answer,
    Encounter,
    FamilyMemberHistory,
    Item,
    Patient,
    QuestionnaireResponse,
)
from careloop.record import BIRTH, DEATH

_GENDER = {"female": "F", "male": "M", "other": "other", "unknown": "unknown"}
# Endings of the extensions of the US core profiles, which most exports that record it use.
_GROUPS = {"us-core-race": "RACE", "us-core-ethnicity": "ETHNICITY"}


def patient(resource: Patient, reading: Reading) -> list[Row]:
    """Birth, death, and what does not change: sex, race, ethnicity, language, marital status."""
    rows = []
    if resource.birth_date:
        rows.append(Row(BIRTH, _time_of_birth(resource) or resource.birth_date))
    if resource.deceased_date_time:
        rows.append(Row(DEATH, resource.deceased_date_time))
    if resource.gender:
        rows.append(Row(f"GENDER//{_GENDER.get(resource.gender, 'other')}", None))
    for extension in resource.extension or ():
        group = _GROUPS.get((extension.url or "").rpartition("/")[2])
        name = _group_name(extension)
        if group and name:
            rows.append(Row(f"{group}//{name.strip().lower()}", None))
    spoken = sorted(resource.communication or (), key=lambda language: not language.preferred)
    language = plain_code(spoken[0].language) if spoken else None
    marital = plain_code(resource.marital_status)
    rows += [Row(f"{name}//{code}", None) for name, code in (("LANGUAGE", language), ("MARITAL", marital)) if code]
    return rows


def merges_of(resource: Patient, subject: str, reading: Reading) -> Iterator[tuple[str, str]]:
    """Yield (retired, surviving) subjects: replaced patients, and FHIR ids beside the hospital's own numbers."""
    for link in resource.link or ():
        if link.other is None or not link.other.reference or link.type not in {"replaced-by", "replaces"}:
            continue
        other = reading.referred(link.other.reference)
        if other is not None and other != subject:
            yield (subject, other) if link.type == "replaced-by" else (other, subject)
    for identifier in resource.identifier or ():
        is_number = reading.patient_identifier and _is_number(identifier, reading.patient_identifier)
        if is_number and identifier.value != subject:
            yield subject, str(identifier.value)


def _is_number(identifier: Identifier, system: str) -> bool:
    # An old number may by now be somebody else's.
    return identifier.system == system and bool(identifier.value) and identifier.use != "old"


def _time_of_birth(resource: Patient) -> str | None:
    beside = resource.birth_date_extended
    extensions = (beside.extension if beside else None) or ()
    return next((e.value_date_time for e in extensions if (e.url or "").endswith("/patient-birthTime")), None)


def _group_name(extension: Extension) -> str | None:
    parts = {part.url: part for part in extension.extension or ()}
    text = parts["text"].value_string if "text" in parts else None
    coding = parts["ombCategory"].value_coding if "ombCategory" in parts else extension.value_coding
    return first(words_of(coding), text, words_of(extension.value_codeable_concept), extension.value_string)


def encounter(resource: Encounter, reading: Reading) -> list[Row]:
    """Start and end of a visit, with where the patient went."""
    refuse_status(resource, withdrawn=("cancelled", "entered-in-error"), skipped=("planned",))
    period = resource.period or resource.actual_period
    start, end = (None, None) if period is None else (period.start, closed_end(period))
    if start is None and end is None:
        raise SkipError("Encounter: no time")
    classes = resource.visit_class if isinstance(resource.visit_class, list) else [resource.visit_class]
    kind = next((code for code in map(plain_code, classes) if code), "UNK")
    discharge = resource.hospitalization or resource.admission
    where = words_of(discharge.discharge_disposition) if discharge else None
    rows = [Row(f"VISIT_START//{kind}", start)] if start else []
    return rows + ([Row(f"VISIT_END//{kind}", end, text=where)] if end else [])


def family_member_history(resource: FamilyMemberHistory, reading: Reading) -> list[Row]:
    """Conditions of a relative, from when they were recorded."""
    refuse_status(resource, withdrawn=("entered-in-error",), skipped=("health-unknown",))
    relation = plain_code(resource.relationship) or "unknown"
    codes = [code for condition in resource.condition or () if (code := reading.codes.of(condition.code))]
    if not codes:
        raise SkipError("FamilyMemberHistory: no condition")
    return [Row(f"FAMILY//{relation}//{code}", when(resource, resource.date)) for code in codes]


def questionnaire_response(resource: QuestionnaireResponse, reading: Reading) -> list[Row]:
    """One event an answer: `QUESTIONNAIRE//<form>//<question>`."""
    refuse_status(resource, withdrawn=("entered-in-error",), skipped=("in-progress", "stopped"))
    form = (resource.questionnaire or "").partition("|")[0].rstrip("/").rpartition("/")[2] or "LOCAL"
    time = when(resource, resource.authored)
    rows = []
    for item in _questions(resource.item or []):
        code = f"QUESTIONNAIRE//{form}//{item.link_id}"
        if item.text:
            reading.codes.setdefault(code, item.text)
        rows += [row for answer in item.answer or () if (row := _answer(code, time, answer)) is not None]
    if not rows:
        raise SkipError("QuestionnaireResponse: no answer")
    return rows


def _questions(items: list[Item]) -> Iterator[Item]:
    waiting = items[::-1]
    while waiting:
        item = waiting.pop()
        if item.link_id:
            yield item
        asked = [*(item.item or ()), *(below for answer in item.answer or () for below in answer.item or ())]
        waiting += asked[::-1]


def _answer(code: str, time: str, answer: Answer) -> Row | None:
    number = answer.value_decimal if answer.value_decimal is not None else answer.value_integer
    if number is not None:
        return Row(code, time, number=number)
    if answer.value_quantity is not None and answer.value_quantity.value is not None:
        return with_dose(Row(code, time), answer.value_quantity)
    truth = None if answer.value_boolean is None else str(answer.value_boolean).lower()
    dated = first(answer.value_date_time, answer.value_date, answer.value_time)
    text = first(truth, words_of(answer.value_coding), answer.value_string, dated)
    return None if text is None else Row(code, time, text=text)
