"""Codes, names, quantities and ids of CDA data types (HL7 v3 data types R1), spelled as the FHIR reader spells them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.elements import V3, BrokenError, Narrative, at
from careloop.ingest.vocabularies import STANDARD, prefix_of

MAX_LOCAL = 80  # characters of a text that stands in for a code
MAX_NUMBER = 3.4028235e38  # of a 32-bit float
ACT_CODE = "2.16.840.1.113883.5.4"
_OID = re.compile(r"[0-2](\.\d+)+", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class Coding(NamedTuple):
    """A code of one code system; a concept has one of its own, and translations."""

    system: str | None
    code: str
    display: str | None


class Quantity(NamedTuple):
    """A number with a UCUM unit, or the unit as written where it has no code."""

    number: float
    unit: str | None


@lru_cache(maxsize=10_000)
def prefix(system: str | None) -> str:
    """Return the vocabulary of an OID; of a local one as FHIR spells it, a `urn:oid:`."""
    return prefix_of(f"urn:oid:{system}" if system and _OID.fullmatch(system) else system)


def codings_of(concept: Element | None) -> list[Coding]:
    """Return the codes of a CD or CE: its own, then its translations."""
    if concept is None:
        return []
    found = []
    for element in (concept, *concept.iterfind(f"{V3}translation")):
        code = (element.get("code") or "").strip()
        if code:
            system = (element.get("codeSystem") or element.get("codeSystemName") or "").strip()
            found.append(Coding(system or None, code, element.get("displayName")))
    return found


def preferred(codings: Iterable[Coding]) -> Coding | None:
    """Return the first coding of a standard terminology, else the first."""
    coded = list(codings)
    standard = (coding for coding in coded if prefix(coding.system) in STANDARD)
    return next(standard, coded[0] if coded else None)


class Codes(dict[str, str]):
    """Meanings of the codes met since they were last handed over."""

    def of(self, concept: Element | None, narrative: Narrative) -> str | None:
        """Return `VOCABULARY//CODE`: the first code of a standard terminology, else the first, else the text."""
        if concept is None:
            return None
        coding = preferred(codings_of(concept))
        return self.local(_text(concept, narrative)) if coding is None else self.coded(coding)

    def coded(self, coding: Coding) -> str:
        """Return the code of a coding, keeping what it means."""
        code = f"{prefix(coding.system)}//{coding.code}"
        if coding.display and code not in self:
            self[code] = coding.display
        return code

    def local(self, text: str | None) -> str | None:
        """Return the code of something that only has a name."""
        short = " ".join((text or "").split()).lower()[:MAX_LOCAL].strip()
        return f"LOCAL//{short}" if short else None


def words_of(concept: Element | None, narrative: Narrative) -> str | None:
    """Return what a person reads: the display of the code that counts, else the text, else the code."""
    if concept is None:
        return None
    coding = preferred(codings_of(concept)) or Coding(None, "", None)
    said = (coding.display, _text(concept, narrative), coding.code)
    return next((trimmed for words in said if words and (trimmed := words.strip())), None)


def _text(concept: Element, narrative: Narrative) -> str | None:
    """Return the original text, else any name that stands with a code or a translation."""
    said = narrative.of(at(concept, "originalText"))
    names = (element.get("displayName") for element in (concept, *concept.iterfind(f"{V3}translation")))
    return said or next((name for name in names if name), None)


def plain_code(concept: Element | None) -> str | None:
    """Return the bare code of one of HL7's own value sets (relationship, marital status), else of a translation."""
    return next((coding.code for coding in codings_of(concept)), None)


def quantity_of(element: Element | None, narrative: Narrative) -> Quantity | None:
    """Return the quantity of a PQ, INT or REAL; of a translation where it has no value itself.

    Raises:
        BrokenError: the value is no number.
    """
    if element is None:
        return None
    number = _number(element.get("value"))
    if number is not None:
        return Quantity(number, (element.get("unit") or "").strip() or None)
    for translation in element.iterfind(f"{V3}translation"):
        number = _number(translation.get("value"))
        if number is not None:
            unit = translation.get("code") or translation.get("unit") or narrative.of(at(translation, "originalText"))
            return Quantity(number, unit)
    return None


def _number(text: str | None) -> float | None:
    if not text or not text.strip():
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BrokenError("not a number")
    if abs(number) > MAX_NUMBER:
        raise BrokenError("a number is out of range")
    return number


def id_of(statement: Element, *, name: str = "id") -> str | None:
    """Return `root/extension` of the first id that says which one this is in all the world.

    A root that is a UUID does so alone; an OID needs an extension.
    """
    return next((id_ for element in statement.iterfind(f"{V3}{name}") if (id_ := identifier(element))), None)


def identifier(element: Element) -> str | None:
    """Return `root/extension` of an II, None for one that does not identify anything."""
    root, extension = ((element.get(part) or "").strip() for part in ("root", "extension"))
    is_guid = _GUID.fullmatch(root) is not None
    if root and extension:
        return f"{root.lower() if is_guid else root}/{extension}"
    return root.lower() if is_guid else None
