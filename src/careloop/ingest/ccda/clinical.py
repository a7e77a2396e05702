"""Problems, allergies, procedures, encounters, family history and notes as events."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import ACT_CODE, codes_in, codings_of, plain_code, words_of
from careloop.ingest.ccda.elements import SDTC, V3, at, is_true, refuse_status, status_of
from careloop.ingest.ccda.facts import Around, Row
from careloop.ingest.concepts import Coding, SkipError, WithdrawnError

_ERROR = ("nullified", "cancelled")
# Which allergies somebody has none of: FHIR has a code for each, C-CDA negates the general one (C-CDA on FHIR guide).
_NONE_KNOWN = {
    "419199007": Coding("urn:oid:2.16.840.1.113883.6.96", "716186003", "No known allergy"),
    "420134006": Coding("urn:oid:2.16.840.1.113883.6.96", "716186003", "No known allergy"),
    "416098002": Coding("urn:oid:2.16.840.1.113883.6.96", "409137002", "No known drug allergy"),
    "419511003": Coding("urn:oid:2.16.840.1.113883.6.96", "409137002", "No known drug allergy"),
    "414285001": Coding("urn:oid:2.16.840.1.113883.6.96", "429625007", "No known food allergy"),
    "418471000": Coding("urn:oid:2.16.840.1.113883.6.96", "429625007", "No known food allergy"),
    "426232007": Coding("urn:oid:2.16.840.1.113883.6.96", "428607008", "No known environmental allergy"),
}


def problem(statement: Element, around: Around) -> list[Row]:
    """Onset and, where it is dated, resolution."""
    refuse_status(statement, "Problem", withdrawn=_ERROR)
    if is_true(statement, "negationInd"):
        raise SkipError("Problem: negated, the patient does not have it")
    code = around.codes.of_element(at(statement, "value"), around.narrative)
    if code is None:
        raise SkipError("Problem: no code")
    authored, interval = around.authored_in(statement), around.interval(statement)
    onset = around.start("Problem", interval.start, authored=authored)
    rows = [Row(code, onset, authored)]
    is_over = around.has_come(interval.high) and interval.low != interval.high
    return rows + ([Row(f"RESOLVED//{code}", interval.high, authored, ends=True)] if is_over else [])


def allergy(statement: Element, around: Around) -> list[Row]:
    """An allergy, under a code of its own: the bare code of a drug would read as if it had been given."""
    refuse_status(statement, "Allergy", withdrawn=_ERROR)
    code = _substance(statement, around)
    if is_true(statement, "negationInd"):
        code = _none_known(statement, around, code)
    if code is None:
        raise SkipError("Allergy: no code")
    if code in around.codes:
        around.codes.setdefault(f"ALLERGY//{code}", f"allergy: {around.codes[code]}")
    authored, interval = around.authored_in(statement), around.interval(statement)
    return [Row(f"ALLERGY//{code}", around.start("Allergy", interval.start, authored=authored), authored)]


def _substance(statement: Element, around: Around) -> str | None:
    for participant in statement.iterfind(f"{V3}participant"):
        entity = at(participant, "participantRole", "playingEntity")
        if participant.get("typeCode") in {"CSM", None} and entity is not None:
            code = around.codes.of_element(at(entity, "code"), around.narrative)
            code = code or around.codes.local(around.narrative.of(at(entity, "name")))
            if code is not None:
                return code
    return None


def _none_known(statement: Element, around: Around, substance: str | None) -> str:
    kinds = codes_in(at(statement, "value"))
    meant = next((_NONE_KNOWN[kind] for kind in kinds if kind in _NONE_KNOWN), None)
    if substance is not None or meant is None:
        raise SkipError("Allergy: negated, the patient does not have it")
    return around.codes.coded(meant)


def procedure(statement: Element, around: Around) -> list[Row]:
    """What was done."""
    refuse_status(
        statement, "Procedure", withdrawn=("nullified",), skipped=("active", "new", "held", "cancelled", "aborted")
    )
    if is_true(statement, "negationInd"):
        raise SkipError("Procedure: not done")
    code = around.codes.of_element(at(statement, "code"), around.narrative)
    if code is None:
        raise SkipError("Procedure: no code")
    authored = around.authored_in(statement)
    return [Row(code, around.start("Procedure", around.interval(statement).start, authored=authored), authored)]


def encounter(statement: Element, around: Around) -> list[Row]:
    """Start and end of a visit, with where the patient went."""
    refuse_status(statement, "Encounter", withdrawn=_ERROR)
    if is_true(statement, "negationInd"):
        raise SkipError("Encounter: did not happen")
    disposition = statement.find(f"{SDTC}dischargeDispositionCode")
    if disposition is None:  # of the encounter that the document's header names
        disposition = at(statement, "dischargeDispositionCode")
    interval = around.interval(statement)
    if interval.start is None:
        raise SkipError("Encounter: no time")
    codes = codings_of(at(statement, "code"))
    kind = next((coding.code for coding in codes if coding.system == f"urn:oid:{ACT_CODE}"), "UNK")
    authored = around.authored_in(statement)
    rows = [Row(f"VISIT_START//{kind}", interval.low, authored)] if interval.low else []
    if around.has_come(interval.high):
        where = words_of(disposition, around.narrative)
        rows.append(Row(f"VISIT_END//{kind}", interval.high, authored, text=where, ends=True))
    if not rows:
        raise SkipError("Encounter: planned")
    return rows


def family(statement: Element, around: Around) -> list[Row]:
    """Conditions of a relative, from when they were recorded."""
    relation = plain_code(at(statement, "subject", "relatedSubject", "code")) or "unknown"
    codes = []
    for part in statement.iterfind(f"{V3}component/{V3}observation"):
        is_said = not is_true(part, "negationInd") and status_of(part) not in _ERROR
        code = around.codes.of_element(at(part, "value"), around.narrative) if is_said else None
        codes += [code] if code else []
    if status_of(statement) in _ERROR:
        raise WithdrawnError
    if not codes:
        raise SkipError("Family history: no condition")
    authored = around.authored_in(statement)
    when = around.start("Family history", authored=authored)
    return [Row(f"FAMILY//{relation}//{code}", when, authored) for code in dict.fromkeys(codes)]


def note(statement: Element, around: Around) -> list[Row]:
    """A note under the code of its kind (a translation: its own code says no more than "note"), with its text."""
    refuse_status(statement, "Note", withdrawn=_ERROR)
    element, text = at(statement, "code"), at(statement, "text")
    kinds = sorted(codings_of(element), key=lambda coding: coding.code == "34109-9")
    code = around.codes.coded(kinds[0]) if kinds else "LOCAL//document"
    reference = at(text, "reference")
    where = None if reference is None else reference.get("value")
    asset = where if where and not where.startswith("#") else None
    authored = around.authored_in(statement)
    when = around.start("Note", around.interval(statement).start, authored=authored)
    return [Row(f"DOCUMENT//{code}", when, authored, text=around.narrative.of(text), asset=asset)]
