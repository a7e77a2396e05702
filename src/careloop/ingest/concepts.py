"""Codings and concepts, in FHIR's terms, as codes of the record and as words; what gives no events."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from careloop.ingest.vocabularies import MAX_LOCAL, STANDARD, prefix_of

prefix = lru_cache(maxsize=10_000)(prefix_of)


class SkipError(Exception):
    """What was read is understood and gives no events; the message says why, without patient data."""


class WithdrawnError(Exception):
    """What was read takes back whatever earlier versions of it said."""


class Element(Struct, rename="camel", gc=False):
    """A data type, named as in FHIR; nothing in it can refer back to it, so the garbage collector need not look."""


class Coding(Element):
    """A code of one code system."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class Concept(Element):
    """What somebody coded: the codes given for it (the same in several code systems), and its name."""

    coding: list[Coding] | None = None
    text: str | None = None


class AnyCode(Element):
    """A code where the releases differ: Coding, CodeableConcept or CodeableReference."""

    system: str | None = None
    code: str | None = None
    display: str | None = None
    coding: list[Coding] | None = None
    text: str | None = None
    concept: Concept | None = None


class Codes(dict[str, str]):
    """Meanings of the codes met since they were last handed over."""

    def of(self, concept: Concept | AnyCode | None) -> str | None:
        """Return `VOCABULARY//CODE`: the first coding of a standard terminology, else the first, else the text."""
        if concept is None:
            return None
        if isinstance(concept, AnyCode):
            if concept.concept is not None:
                return self.of(concept.concept)
            if concept.code:
                return self.coded(Coding(concept.system, concept.code, concept.display))
        coding = preferred(concept.coding or ())
        if coding is not None:
            return self.coded(coding)
        text = concept.text or next((c.display for c in concept.coding or () if c.display), None)
        return self.local(text)

    def local(self, text: str | None) -> str | None:
        """Return the code of something that only has a name."""
        short = (text or "").strip().lower()[:MAX_LOCAL].strip()
        return f"LOCAL//{short}" if short else None

    def coded(self, coding: Coding) -> str:
        """Return the code of a coding, keeping what it means."""
        code = f"{prefix(coding.system)}//{str(coding.code).strip()}"
        if coding.display and code not in self:
            self[code] = coding.display
        return code


def preferred(codings: Iterable[Coding]) -> Coding | None:
    """Return the first coding of a standard terminology, else the first with a code."""
    coded = [coding for coding in codings if coding.code and coding.code.strip()]
    standard = (coding for coding in coded if prefix(coding.system) in STANDARD)
    return next(standard, coded[0] if coded else None)


def plain_code(concept: Concept | AnyCode | None) -> str | None:
    """Return the bare code of one of HL7's own value sets (visit class, status, relationship), else the text."""
    if concept is None:
        return None
    direct = concept.code if isinstance(concept, AnyCode) else None
    coded = (coding.code for coding in concept.coding or () if coding.code)
    found = direct or next(coded, None) or (concept.text or "").lower()[:MAX_LOCAL]
    return found.strip() or None


def words_of(concept: Concept | Coding | AnyCode | None) -> str | None:
    """Return what a person reads: the display of the code that counts, else the text, else the code."""
    if concept is None:
        return None
    if isinstance(concept, Coding):
        return first(concept.display, concept.code)
    if isinstance(concept, AnyCode) and (concept.concept is not None or concept.display or concept.code):
        return words_of(concept.concept) or first(concept.display, concept.code)
    coding = preferred(concept.coding or ()) or Coding()
    displays = (other.display for other in concept.coding or ())
    return first(coding.display, concept.text, *displays, coding.code)


def first(*values: str | None) -> str | None:
    """Return the first value that says something, trimmed."""
    return next((trimmed for value in values if value and (trimmed := value.strip())), None)
