"""Diagnoses (DG1), procedures (PR1) and allergies (AL1, IAM) as events."""

from __future__ import annotations

from careloop.ingest.hl7v2.fields import RejectError, component, entity, given, words
from careloop.ingest.hl7v2.passage import Fact, Passage

# Table 0052; a final diagnosis needs no word.
_DIAGNOSIS_TYPES = {"A": "admitting", "W": "provisional"}


def diagnosis(fields: list[str], passage: Passage) -> None:
    """Take a DG1 segment.

    An admitting or working diagnosis is known when it was made. A final one is coded after the stay, often with the
    date of admission, so it counts as known when it was attested, else when this message was sent.

    Raises:
        RejectError: no code, or a time that is none.
    """
    code, own = _coded(fields, passage, 3), entity(fields[20])
    source = f"{passage.reading.sources}diagnosis/{own or f'{passage.about}/{code}'}"
    if component(fields[21], 1) == "D":
        passage.withdraw(source)
        return
    kind = component(fields[6], 1).upper()
    time = passage.certain(fields[5], fields[19])
    known = passage.span(fields[19]) or (None if kind in _DIAGNOSIS_TYPES and given(fields[5]) else passage.told())
    passage.add(source, Fact(code, time, known, text=_DIAGNOSIS_TYPES.get(kind)))


def procedure(fields: list[str], passage: Passage) -> None:
    """Take a PR1 segment.

    Raises:
        RejectError: no code, or a time that is none.
    """
    code, own = _coded(fields, passage, 3), entity(fields[19])
    time = passage.certain(fields[5])
    source = f"{passage.reading.sources}procedure/{own or f'{passage.about}/{code}/{given(fields[5])}'}"
    if component(fields[20], 1) == "D":
        passage.withdraw(source)
        return
    passage.add(source, Fact(code, time))


def allergy(fields: list[str], passage: Passage) -> None:
    """Take an AL1 segment, dated by its identification (AL1-6).

    Raises:
        RejectError: no code, or a time that is none.
    """
    code = _allergen(fields, passage)
    passage.add(_allergy_source(passage, code), Fact(code, passage.certain(fields[6]), text=_reaction(fields)))


def adverse_reaction(fields: list[str], passage: Passage) -> None:
    """Take an IAM segment: onset (IAM-11), known when it was reported (IAM-13), deleted or found erroneous.

    Raises:
        RejectError: no code, or a time that is none.
    """
    code, own = _allergen(fields, passage), entity(fields[7])
    source = f"{passage.reading.sources}allergy/{own}" if own else _allergy_source(passage, code)
    if component(fields[6], 1) == "D" or component(fields[17], 1) == "E":
        passage.withdraw(source)
        return
    time = passage.certain(fields[11], fields[13])
    passage.add(source, Fact(code, time, passage.span(fields[13]), text=_reaction(fields)))


def _reaction(fields: list[str]) -> str | None:
    return words(fields[5])


def _allergen(fields: list[str], passage: Passage) -> str:
    return passage.reading.code_as("ALLERGY", _coded(fields, passage, 3))


def _allergy_source(passage: Passage, code: str) -> str:
    return f"{passage.reading.sources}allergy/{passage.subject}/{code}"


def _coded(fields: list[str], passage: Passage, at: int) -> str:
    """Return the code of a field; up to v2.2 the coding system of DG1 and PR1 stood in the field before it."""
    field = fields[at]
    if fields[0] in {"DG1", "PR1"} and given(fields[at - 1]) and given(field) and not component(field, 3):
        field = f"{component(field, 1)}^{component(field, 2) or given(fields[at + 1])}^{fields[at - 1]}"
    code = passage.reading.meaning(field).code
    if code is None:
        raise RejectError(f"{fields[0]}-{at} (a code) is missing")
    return code
