"""Entries of a section to facts: which template each statement follows, and which statements are within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from xml.etree.ElementTree import Element, tostring

from careloop.ingest.ccda import clinical, medications
from careloop.ingest.ccda.codes import id_of
from careloop.ingest.ccda.elements import V3, BrokenError, at, status_of
from careloop.ingest.ccda.facts import Around, Fact, Row
from careloop.ingest.ccda.observations import observation
from careloop.ingest.concepts import SkipError, WithdrawnError

MAX_DEPTH = 50  # statements within statements; the templates need 7
MAX_RAW = 100_000  # characters of a rejected statement that are kept
_C_CDA = "2.16.840.1.113883.10.20.22.4."
# Template (the same in R1.1, R2.1 and 3.0, which differ in the extension) to kind of statement.
_TEMPLATES = {
    f"{_C_CDA}4": "Problem", f"{_C_CDA}7": "Allergy", f"{_C_CDA}90": "Allergy", f"{_C_CDA}45": "Family history",
    f"{_C_CDA}16": "Medication", f"{_C_CDA}52": "Immunization", f"{_C_CDA}18": "Dispense", f"{_C_CDA}202": "Note",
    f"{_C_CDA}12": "Procedure", f"{_C_CDA}13": "Procedure", f"{_C_CDA}14": "Procedure", f"{_C_CDA}49": "Encounter",
    f"{_C_CDA}2": "Observation", f"{_C_CDA}27": "Observation", f"{_C_CDA}38": "Observation",
    f"{_C_CDA}78": "Observation", f"{_C_CDA}85": "Observation", f"{_C_CDA}86": "Observation",
    f"{_C_CDA}42": "Planned medication", f"{_C_CDA}120": "Planned immunization",
}  # fmt: skip
# What only describes the statement that it stands in or beside: status, severity, reaction, age, indication and so on.
_DESCRIPTIONS = {f"{_C_CDA}{number}" for number in (5, 6, 8, 9, 19, 20, 23, 24, 25, 28, 31, 47, 53, 64, 122, 143, 145)}
_DESCRIBING = {"33999-4", "SEV", "82606-5", "246514001"}  # the same by code: status, severity, criticality, units
# Where a statement follows none of these templates, its section and its element say what it is.
_PROBLEM_SECTIONS = {"11450-4", "11348-0", "11535-2", "46241-6", "42347-5", "29308-4", "10219-4", "10218-6"}
_ALLERGY_SECTION, _IMMUNIZATION_SECTION = "48765-2", "11369-6"
_PLAIN = {"substanceAdministration": "Medication", "procedure": "Procedure", "encounter": "Encounter"}
_WRAPPERS = {"act", "organizer"}
_STATEMENTS = (*_PLAIN, *_WRAPPERS, "observation", "supply", "observationMedia", "regionOfInterest")
_TAGS = {f"{V3}{name}": name for name in _STATEMENTS}
_EVENTS_OF: dict[str, Callable[[Element, Around], list[Row]]] = {
    "Allergy": clinical.allergy,
    "Encounter": clinical.encounter,
    "Family history": clinical.family,
    "Immunization": medications.immunization,
    "Medication": medications.medication,
    "Note": clinical.note,
    "Observation": observation,
    "Problem": clinical.problem,
    "Procedure": clinical.procedure,
}
_WITHDRAWN = ("nullified", "cancelled")


def facts_in(entry: Element, around: Around) -> list[Fact]:
    """Return what an entry says: at least one fact, if only that it is not read."""
    facts = list(_within(entry, around, None, 0))
    return facts or [Fact("entry", around.place, skipped="entry: nothing in it that is read")]


def encounter_of(root: Element, around: Around) -> list[Fact]:
    """Return the encounter that a document's header names (componentOf); an entry about the same one counts more."""
    element = at(root, "componentOf", "encompassingEncounter")
    if element is None:
        return []
    fact = _fact(element, "Encounter", around, None)
    fact.gives_way = True
    return [fact]


def _within(parent: Element, around: Around, leaf: Element | None, depth: int) -> Iterator[Fact]:
    """Yield the facts of all statements in an entry, or in a statement.

    `leaf` is the statement with events of its own that these stand in: what follows no template there describes it.
    """
    holders = (parent,) if parent.tag == f"{V3}entry" else _parts(parent)
    for holder in holders:
        for statement in holder:
            name = _TAGS.get(statement.tag)
            if name is not None:
                yield from _statement(statement, name, around, leaf, depth)


def _parts(statement: Element) -> Iterator[Element]:
    yield from statement.iterfind(f"{V3}entryRelationship")
    yield from statement.iterfind(f"{V3}component")


def _statement(statement: Element, name: str, around: Around, leaf: Element | None, depth: int) -> Iterator[Fact]:
    templates = [template.get("root") or "" for template in statement.iterfind(f"{V3}templateId")]
    kind = next((_TEMPLATES[template] for template in templates if template in _TEMPLATES), None)
    if kind is None:
        if leaf is not None or _describes(statement, templates):
            return
        kind = _by_section(name, around.section, has_template=any(map(_is_c_cda, templates)))
    if depth > MAX_DEPTH:
        yield Fact(name, around.place, rejected="nested too deeply")
        return
    if kind is not None:
        yield _fact(statement, kind, around, leaf)
    if kind == "Family history":
        return
    inner = around.within(statement)
    if kind is None:
        if (statement.get("moodCode") or "EVN") != "EVN":
            yield Fact(name, around.place, skipped=f"{name}: planned, not done")
            return
        inner = replace(inner, is_withdrawn=inner.is_withdrawn or status_of(statement) in _WITHDRAWN)
    found = list(_within(statement, inner, statement if kind else None, depth + 1))
    yield from found
    if not found and kind is None:
        yield Fact(name, around.place, skipped=f"{name}: not read")


def _describes(statement: Element, templates: list[str]) -> bool:
    code = at(statement, "code")
    return bool(_DESCRIPTIONS.intersection(templates)) or (code is not None and code.get("code") in _DESCRIBING)


def _is_c_cda(template: str) -> bool:
    return template.startswith(_C_CDA)


def _by_section(name: str, section: str | None, *, has_template: bool) -> str | None:
    """Return the kind of a statement of no known template, None for what only holds others or is not read."""
    if name == "observation":
        # One that follows another template of the guide is neither a problem nor an allergy.
        usual = "Problem" if section in _PROBLEM_SECTIONS else "Allergy" if section == _ALLERGY_SECTION else None
        return usual if usual and not has_template else "Observation"
    if name == "substanceAdministration" and section == _IMMUNIZATION_SECTION:
        return "Immunization"
    return _PLAIN.get(name)


def _fact(statement: Element, kind: str, around: Around, leaf: Element | None) -> Fact:
    """Read one statement with events of its own."""
    fact = Fact(kind, around.place, id_of(statement))
    try:
        if around.is_withdrawn:
            raise WithdrawnError
        _refuse_others(statement, kind)
        events = partial(medications.dispense, order=leaf) if kind == "Dispense" else _EVENTS_OF[kind]
        fact.rows = events(statement, around)
    except WithdrawnError:
        fact.is_withdrawn = True
    except SkipError as reason:
        fact.skipped = str(reason)
    except BrokenError as reason:
        fact.rejected, fact.raw = f"{kind}: {reason}", _raw(statement)
    return fact


def _refuse_others(statement: Element, kind: str) -> None:
    """Refuse what has not happened, or not to the patient.

    Raises:
        SkipError: it is planned, about somebody else, or says of itself that it is not known.
    """
    mood = statement.get("moodCode") or "EVN"
    orders = {"INT", "RQO"} if kind == "Medication" else set()
    if kind.startswith("Planned") or mood not in {"EVN", *orders}:
        raise SkipError(f"{kind.removeprefix('Planned ').capitalize()}: planned, not done")
    if at(statement, "subject") is not None and kind != "Family history":
        raise SkipError(f"{kind}: about another than the patient (subject)")
    if statement.get("nullFlavor") and kind != "Observation":
        raise SkipError(f"{kind}: not known (nullFlavor)")


def _raw(statement: Element) -> str:
    try:
        return tostring(statement, "unicode")[:MAX_RAW]
    except RecursionError:
        return ""
