"""OBX segments as events: numbers, bounds, coded and free text, documents; corrected, early and deleted ones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from careloop.ingest.concepts import SkipError
from careloop.ingest.hl7v2.fields import DELETED, RejectError, component, components, entity, given, plain, words
from careloop.ingest.hl7v2.kinds import value_skipped
from careloop.ingest.hl7v2.passage import Fact, Passage
from careloop.ingest.hl7v2.table import TEXT
from careloop.ingest.hl7v2.times import Span, as_iso

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_BOUND = re.compile(r"(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+))", re.ASCII)
BOUNDS = ("<", "<=", ">", ">=")
_TIME = re.compile(r"(\d\d)(\d\d)(?:(\d\d)(?:\.\d+)?)?(?:[+-]\d{4})?", re.ASCII)
# OBX-11 (table 0085). A preliminary result was known when it came, and the final one takes its place.
_STANDS = {"F", "C", "A", "B", "P", "R", "S", "U", "V", ""}
_TAKEN_BACK = {"D", "W", "X"}
_NOT_YET = {"I": "OBX: result pending", "N": "OBX: not asked for", "O": "OBX: describes the order, no result"}
_TEXTS = {"ST", "TX", "FT", ""}
_CODED = {"CE", "CWE", "CNE", "CF", "IS", "ID"}
_PLAIN_TEXT = {"TEXT", "TX", "FT", "PLAIN", "TXT"}
_MARKED_UP = {"HTML", "RTF", "XML", "SGML", "X-HL7-CDA-LEVEL-ONE", "HL7-CDA-LEVEL-ONE"}


def report(fields: list[str], passage: Passage) -> None:
    """Take the OBR segment of a result message: what names its observations, when they were made and reported.

    The filler's number names them, else the placer's, else patient, test and time; with the test (OBR-4), because
    several tests of one specimen may share a number.
    """
    orc, test = passage.order, components(fields[4])
    by_filler = (entity(each, passage.message.application) for each in (fields[3], orc[3]))
    by_placer = (f"placer/{number}" for each in (fields[2], orc[2]) if (number := entity(each)))
    own = next((number for number in by_filler if number), None) or next(by_placer, None)
    named = test[0] or (test[1] if len(test) > 1 else "")
    passage.begin_order(f"{passage.reading.sources}result/{own or f'{passage.subject}/{given(fields[7])}'}/{named}")
    try:
        passage.reported = passage.span(fields[22])
        passage.observed = passage.span(fields[7]) or passage.reported
    except RejectError as error:
        passage.broken = str(error)


def observation(fields: list[str], passage: Passage) -> None:
    """Take an OBX segment.

    A correction, or the final after a preliminary result, has the same order number, observation and sub-id (OBX-4),
    and so takes the place of what came before.

    Raises:
        RejectError: no code, an unknown status, or a time that is none.
        SkipError: no value, or none of a kind that is read.
    """
    code = passage.reading.meaning(fields[3]).code
    if code is None:
        raise RejectError("OBX-3 (what was observed) is missing")
    kind, status = fields[2].strip().upper(), fields[11].partition("^")[0].strip().upper()
    source = _source(fields, passage, code)
    before, passage.text_row = passage.text_row, None
    if status not in _STANDS:
        _refuse(status, source if kind in _TEXTS else passage.numbered(source), passage)
        return
    facts = _values(kind, fields, passage)
    is_text = kind in _TEXTS and not any(fact.number is not None for fact in facts)
    if is_text and before is not None and before[0] == source and fields[5].strip() != DELETED:
        _go_on(before, facts[0].text or "" if facts else "", passage)  # without a value, a blank line
    elif facts:
        place = len(passage.work.rows)
        time, known = _times(fields, passage)
        numbered = passage.numbered(source)
        for fact in facts:
            passage.add(numbered, Fact(code + fact.code, time, known, *fact[3:]))
        passage.text_row = (source, place) if is_text else None
    else:
        _absent(status, fields[5], source, passage)


def _source(fields: list[str], passage: Passage, code: str) -> str:
    if passage.stem:
        return f"{passage.stem}/{code}/{fields[4]}"
    # Outside of orders, as a weight in an admission, only its time tells one observation from the next.
    return f"{passage.reading.sources}observation/{passage.about}/{code}/{fields[4]}/{given(fields[14])}"


def _refuse(status: str, source: str, passage: Passage) -> None:
    if status in _NOT_YET:
        raise SkipError(_NOT_YET[status])
    if status not in _TAKEN_BACK:
        raise RejectError("OBX-11 (status) is not in HL7 table 0085")
    passage.withdraw(source)


def _absent(status: str, value: str, source: str, passage: Passage) -> None:
    """Take back what a null or a correction without value takes back; otherwise nothing is said."""
    if status != "C" and value.strip() != DELETED:
        raise SkipError("OBX: no value")
    passage.withdraw(passage.numbered(source))


def _go_on(before: tuple[str, int], text: str, passage: Passage) -> None:
    """Note a line that belongs to the text of the observation before."""
    passage.more_lines.setdefault(before[1], []).append(text)
    passage.text_row = before


def join_texts(passage: Passage) -> None:
    """Join the lines of texts that several segments of the message told of."""
    rows = passage.work.rows
    for place, lines in passage.more_lines.items():
        event = rows[place]
        rows[place] = (*event[:TEXT], "\n".join((str(event[TEXT]), *lines)), *event[TEXT + 1 :])


def _times(fields: list[str], passage: Passage) -> tuple[Span, Span | None]:
    """Return when it was observed (OBX-14, OBR-7), and known (OBR-22, analysed in OBX-19, the message itself)."""
    own = given(fields[14].strip())
    if passage.broken and not own:
        raise RejectError(passage.broken)
    time = (passage.span(own) if own else passage.observed) or passage.certain()
    return time, passage.reported or passage.span(fields[19], passage.message.sent)


def _values(kind: str, fields: list[str], passage: Passage) -> list[Fact]:
    """Return facts whose code is what is to be added to the observation's own, and whose times are still to be set."""
    value = given(fields[5].strip())
    if value:
        facts = _read(kind, value, passage.reading.unit(fields[6]), passage)
    else:
        # A flag alone says something; beside a value it repeats what the value says.
        flag = words(fields[8])
        facts = [Fact("", text=flag)] if flag else []
    return _with_notes(facts, passage.notes) if passage.notes and fields[5].strip() != DELETED else facts


def _with_notes(facts: list[Fact], notes: str) -> list[Fact]:
    """Add notes to the text; a comparator stays alone in it, because it makes the number a bound."""
    if not facts or facts[0].text in BOUNDS:
        return [*facts, Fact("", text=notes)]
    text = f"{facts[0].text}\n{notes}" if facts[0].text else notes
    return [facts[0]._replace(text=text), *facts[1:]]


def _read(kind: str, value: str, unit: str | None, passage: Passage) -> list[Fact]:
    if kind in {"NM", "SI"}:
        if _NUMBER.fullmatch(value):  # nearly all
            return [Fact("", number=float(value), unit=unit)]
        return [_number(plain(part).strip(), unit) for part in value.split("~") if part.strip()]
    if kind in _TEXTS:
        text = "\n".join(plain(part).rstrip() for part in value.split("~"))
        # Many systems send numbers as text; a unit shows that it is one.
        return [_number(text, unit) if unit else Fact("", text=text)]
    if kind in _CODED:
        return _said(words(value))
    if kind == "SN":
        return _structured([*components(value), "", "", "", ""], unit)
    if kind == "NR":
        return _range([*components(value), ""], unit)
    if kind == "CQ":
        number, _, own = value.partition("^")
        return [_number(number.strip(), own.replace("&", "^").partition("^")[0] or unit)]
    if kind in {"DT", "TS", "DTM"}:
        return _said(as_iso(component(value, 1)))
    if kind == "TM":
        return _said(_TIME.sub(lambda m: ":".join(part for part in m.groups() if part), component(value, 1)))
    if kind in {"ED", "RP"}:
        return _document(kind, [*components(value), "", "", "", "", ""])
    raise SkipError(value_skipped(kind))


def _said(text: str | None) -> list[Fact]:
    return [Fact("", text=text)] if text else []


def number_in(text: str) -> float | None:
    """Return a number as HL7 writes it, None where the text is none."""
    return float(text) if _NUMBER.fullmatch(text := text.strip()) else None


def _number(text: str, unit: str | None) -> Fact:
    """Return a number, or a bound ("<0.5": the number, with the comparator as text), or the text as it is."""
    if _NUMBER.fullmatch(text):
        return Fact("", number=float(text), unit=unit)
    bound = _BOUND.fullmatch(text)
    if bound is not None:
        return Fact("", number=float(bound[2]), unit=unit, text=bound[1])
    return Fact("", text=text)


def _structured(parts: list[str], unit: str | None) -> list[Fact]:
    """Return a bound (>^100), range (^0^-^1), ratio (^1^:^128) or grade (^2^+) (HL7 v2.5.1 section 2.A.70)."""
    comparator, first, separator, second = parts[:4]
    low, high = number_in(first), number_in(second)
    if low is None or (comparator and comparator not in {*BOUNDS, "="}):
        return _said(" ".join(part for part in parts if part))
    if separator == "-" and high is not None:
        return _range([first, second], unit)
    if separator in {":", "/"} and high:
        return [Fact("", number=low / high, unit=unit, text=f"{low:g}{separator}{high:g}")]
    if separator:
        return _said(f"{comparator}{first}{separator}{second}")
    return [Fact("", number=low, unit=unit, text=comparator if comparator in BOUNDS else None)]


def _range(parts: list[str], unit: str | None) -> list[Fact]:
    limits = (("//LOW", number_in(parts[0])), ("//HIGH", number_in(parts[1])))
    return [Fact(ending, number=limit, unit=unit) for ending, limit in limits if limit is not None]


def _document(kind: str, parts: list[str]) -> list[Fact]:
    """Return text as such, a pointer as it is, and any other document by the hash of its content."""
    if kind == "RP":
        return [Fact("", asset=parts[0])] if parts[0] else []
    _, type_, subtype, encoding, data = parts[:5]
    content = _content(data, encoding)
    if not content:
        return []
    if not _PLAIN_TEXT.isdisjoint({type_.upper(), subtype.upper()}) and subtype.upper() not in _MARKED_UP:
        return [Fact("", text=content.decode(errors="replace").replace("\0", ""))]
    return [Fact("", text="/".join(part for part in (type_, subtype) if part) or None, asset=_address(content))]


def _content(data: str, encoding: str) -> bytes:
    if encoding.upper() in {"BASE64", "HEX"}:
        try:
            return base64.b64decode(data) if encoding.upper() == "BASE64" else bytes.fromhex(data)
        except (binascii.Error, ValueError):
            raise RejectError("OBX-5 is not encoded as it says") from None
    return data.encode()


def _address(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
