"""PID, PV1 and MRG segments: what is known of the patient, visits by their numbers, and merged patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from careloop.ingest.concepts import SkipError
from careloop.ingest.hl7v2.fields import (
    DELETED,
    RejectError,
    component,
    components,
    given,
    repetitions,
    words,
)
from careloop.ingest.hl7v2.passage import MAX_CACHED, Fact, Passage, Reading, Work, row_of
from careloop.ingest.hl7v2.times import Span
from careloop.record import BIRTH, DEATH

FACTS = ("birth", "death", "sex", "race", "ethnicity", "language", "marital")  # each a source row of its own
_NUMBER_TYPES = ("MR", "PI", "PT")  # table 0203: medical record number, patient internal and external identifier
_SEX = {"F": "F", "M": "M", "O": "other", "A": "other", "U": "unknown", "N": "unknown"}  # table 0001
# Tables 0005 and 0189, for systems that send the code alone.
_GROUPS = {
    "1002-5": "american indian or alaska native", "2028-9": "asian", "2054-5": "black or african american",
    "2076-8": "native hawaiian or other pacific islander", "2106-3": "white", "2131-1": "other race",
    "2135-2": "hispanic or latino", "2186-5": "not hispanic or latino",
    "H": "hispanic or latino", "N": "not hispanic or latino",
}  # fmt: skip
# Table 0004 to HL7 v3 ActCode, which the other formats use; others keep their own code.
_CLASSES = {"E": "EMER", "I": "IMP", "O": "AMB", "R": "AMB", "": "UNK", "U": "UNK", "N": "UNK"}
_PLANNED = {"A05", "A14", "A15", "A16", "A25", "A26", "A27", "A38"}
_BEGINNINGS, _DISCHARGE, _TRANSFER = {"A01", "A04"}, "A03", "A02"
_MERGES = {"A18", "A30", "A34", "A35", "A36", "A39", "A40", "A47"}
_DELETED_PERSON, _DELETED_VISIT = "A29", "A23"
_NO_START, _NO_END, _NO_TRANSFER = {"A11", _DELETED_VISIT}, {"A11", "A13", _DELETED_VISIT}, "A12"


@dataclass(frozen=True, eq=False)
class Person:
    """What one PID segment says: `facts` by source, none of them where the field is null, which deletes."""

    subject: str
    account: str = ""
    facts: tuple[tuple[str, tuple[Fact, ...]], ...] = ()
    broken: str = ""


def person_of(segment: str, passage: Passage) -> Person:
    """Return what a PID segment says; a file has the same one many times."""
    people, key = passage.reading.people, (passage.message.zone, segment)
    if key not in people:
        if len(people) >= MAX_CACHED:
            people.clear()
        people[key] = _person(segment, passage)
    return people[key]


def patient(segment: str, passage: Passage) -> None:
    """Take a PID segment; what it says is added once a batch, as of the newest message with it.

    Raises:
        RejectError: no patient number, or a time that is none.
        SkipError: nothing but the number.
    """
    person = person_of(segment, passage)
    passage.begin_patient(person.subject, person.account)
    if not person.subject:
        raise RejectError("PID-3 (patient number) is missing")
    if passage.message.trigger == _DELETED_PERSON and passage.message.kind == "ADT":
        for name in FACTS:
            passage.withdraw(_source(passage.reading, person.subject, name))
        return
    if person.broken:
        raise RejectError(person.broken)
    if not person.facts:
        raise SkipError("PID: says nothing that is read")
    version = (passage.sent is None, passage.sent or 0, passage.at)
    passage.work.people[person] = max(passage.work.people.get(person, version), version)


def add_people(work: Work) -> None:
    """Add what is known of the patients of a batch."""
    for person, (is_undated, time, at) in work.people.items():
        sent = None if is_undated else time
        for source, facts in person.facts:
            if not facts:
                work.withdraw(source, sent)
            for fact in facts:
                work.add(row_of(fact, source, person.subject, sent, at), source, sent)


def _person(segment: str, passage: Passage) -> Person:
    fields = segment.split("|") + [""] * 31
    reading = passage.reading
    subject = _subject(fields[3], reading) or _subject(fields[2], reading)
    if not subject:
        return Person("")
    account = component(fields[18], 1)
    try:
        said = dict(_facts(fields, passage))
    except RejectError as error:
        return Person(subject, account, broken=str(error))
    return Person(subject, account, tuple((_source(reading, subject, name), facts) for name, facts in said.items()))


def _source(reading: Reading, subject: str, name: str) -> str:
    return f"{reading.sources}patient/{subject}/{name}"


def _facts(fields: list[str], passage: Passage) -> Iterator[tuple[str, tuple[Fact, ...]]]:
    for name, code, written in (("birth", BIRTH, fields[7]), ("death", DEATH, fields[29])):
        if written.strip() == DELETED:
            yield name, ()
        elif given(written.strip()):
            yield name, (Fact(code, passage.span(written)),)
    coded = {
        "sex": [f"GENDER//{_SEX.get(sex.upper(), 'other')}" for sex in (component(fields[8], 1),) if sex],
        "race": [f"RACE//{name}" for name in _groups(fields[10])],
        "ethnicity": [f"ETHNICITY//{name}" for name in _groups(fields[22])],
        "language": [f"LANGUAGE//{code}" for code in (component(fields[15], 1),) if code],
        "marital": [f"MARITAL//{code}" for code in (component(fields[16], 1),) if code],
    }
    places = {"sex": 8, "race": 10, "ethnicity": 22, "language": 15, "marital": 16}
    for name, codes in coded.items():
        if codes or fields[places[name]].strip() == DELETED:
            yield name, tuple(map(Fact, codes))


def _groups(field: str) -> list[str]:
    names = (_GROUPS.get(component(part, 1)) or (words(part) or "").lower() for part in repetitions(field))
    return list(dict.fromkeys(name for name in names if name))


def _subject(field: str, reading: Reading) -> str:
    """Return the subject of a list of patient numbers (CX): the hospital's own number, which has no namespace."""
    numbers = [[*components(part), "", "", "", "", ""] for part in repetitions(field)]
    numbers = [number for number in numbers if number[0]]
    if not numbers:
        return ""
    own = [number for number in numbers if reading.authority in number[3].split("&")]
    typed = [number for kind in _NUMBER_TYPES for number in own or numbers if number[4] == kind]
    chosen = (typed or own or numbers)[0]
    giver = "" if own or not reading.authority else chosen[3].partition("&")[0]
    name = f"{giver}:{chosen[0]}" if giver else chosen[0]
    return f"{reading.origin}:{name}" if reading.origin else name


def merge(fields: list[str], passage: Passage) -> None:
    """Take an MRG segment: its patient number (MRG-1) is retired, that of the PID before it survives.

    Raises:
        RejectError: no number.
        SkipError: accounts or visits are merged, or identifiers moved, of a patient who stays the same.
    """
    retired = _subject(fields[1], passage.reading)
    if passage.message.trigger not in _MERGES or retired == passage.subject:
        raise SkipError("MRG: no patients are merged")
    if not retired:
        raise RejectError("MRG-1 (prior patient number) is missing")
    passage.work.merges.append((retired, passage.subject))


def visit(fields: list[str], passage: Passage) -> None:
    """Take a PV1 segment of an ADT message: start and end of a visit, a transfer, or their cancellation.

    Start and end are source rows of their own: a message that says nothing of the one leaves it as it is, a null
    deletes it. As in other formats a start counts as known when it was, in the class that the visit has by now.

    Raises:
        RejectError: a time that is none.
        SkipError: the visit is only planned, or nothing is said of one.
    """
    message, trigger = passage.message, passage.message.trigger
    kind = component(fields[2], 1).upper()
    passage.visit = component(fields[19], 1) or passage.account
    if message.kind != "ADT":
        raise SkipError("PV1: visits are read from ADT messages only")
    if trigger in _PLANNED or kind == "P":
        raise SkipError("PV1: a visit, transfer or discharge that is planned")
    happened = (message.occurred, message.recorded, message.sent)
    start = passage.span(fields[44], *(happened if trigger in _BEGINNINGS else ()))
    end = passage.span(fields[45], *(happened if trigger == _DISCHARGE else ()))
    stem = _stem(fields, passage, start)
    kind = _CLASSES.get(kind, kind)
    said = [
        _transfer(fields, passage, stem),
        _tell(passage, f"{stem}/start", trigger in _NO_START or fields[44] == DELETED, _start(kind, start)),
        _tell(passage, f"{stem}/end", trigger in _NO_END or fields[45] == DELETED, _end(kind, end, fields[36])),
    ]
    if not any(said):
        raise SkipError("PV1: no time of a visit")


def _stem(fields: list[str], passage: Passage, start: Span | None) -> str:
    if not passage.visit and start is None:
        raise SkipError("PV1: neither visit number nor time of admission")
    number = passage.visit or f"{passage.subject}/{start[0] if start else ''}"
    return f"{passage.reading.sources}visit/{number}"


def _start(kind: str, time: Span | None) -> Fact | None:
    return None if time is None else Fact(f"VISIT_START//{kind}", time)


def _end(kind: str, time: Span | None, disposition: str) -> Fact | None:
    return None if time is None else Fact(f"VISIT_END//{kind}", time, text=words(disposition), ends=True)


def _tell(passage: Passage, source: str, is_withdrawn: bool, fact: Fact | None) -> bool:
    if is_withdrawn:
        passage.withdraw(source)
    elif fact is not None:
        passage.add(source, fact)
    return is_withdrawn or fact is not None


def _transfer(fields: list[str], passage: Passage, stem: str) -> bool:
    """Tell of a transfer (A02), or of its cancellation (A12), in which EVN-6 is the time of what is cancelled."""
    message = passage.message
    if message.trigger not in {_TRANSFER, _NO_TRANSFER}:
        return False
    time = passage.certain(message.occurred)
    source = f"{stem}/transfer/{time[0]}"
    if message.trigger == _NO_TRANSFER:
        if not message.occurred:
            raise SkipError("PV1: does not say which transfer is cancelled (EVN-6)")
        passage.withdraw(source)
        return True
    place = component(fields[3], 1)
    return _tell(passage, source, False, Fact(f"TRANSFER//{place}", time, passage.told()) if place else None)
