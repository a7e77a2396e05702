"""Codes, names, quantities and ids of CDA data types (HL7 v3 data types R1), spelled as the FHIR reader spells them."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple
from xml.etree.ElementTree import Element

from careloop.ingest import concepts
from careloop.ingest.ccda.elements import V3, BrokenError, Narrative, at
from careloop.ingest.concepts import Coding, first, preferred

MAX_NUMBER = 3.4028235e38  # of a 32-bit float
ACT_CODE = "2.16.840.1.113883.5.4"
_OID = re.compile(r"[0-2](\.\d+)+", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class Quantity(NamedTuple):
    """A number with a UCUM unit, or the unit as written where it has no code."""

    number: float
    unit: str | None


@lru_cache(maxsize=10_000)
def _system(name: str) -> str | None:
    """Return a code system as FHIR spells it: of an OID, a `urn:oid:`."""
    return f"urn:oid:{name}" if _OID.fullmatch(name) else name or None


def codings_of(concept: Element | None) -> list[Coding]:
    """Return the codes of a CD or CE: its own, then its translations."""
    if concept is None:
        return []
    found = []
    for element in (concept, *concept.iterfind(f"{V3}translation")):
        code = (element.get("code") or "").strip()
        if code:
            system = (element.get("codeSystem") or element.get("codeSystemName") or "").strip()
            found.append(Coding(_system(system), code, element.get("displayName")))
    return found


def codes_in(concept: Element | None) -> list[str]:
    """Return the bare codes of a CD or CE: its own, then its translations."""
    return [coding.code for coding in codings_of(concept) if coding.code]


class Codes(concepts.Codes):
    """Meanings of the codes met since they were last handed over."""

    def of_element(self, concept: Element | None, narrative: Narrative) -> str | None:
        """Return `VOCABULARY//CODE`: the first code of a standard terminology, else the first, else the text."""
        if concept is None:
            return None
        coding = preferred(codings_of(concept))
        return self.local(_text(concept, narrative)) if coding is None else self.coded(coding)

    def local(self, text: str | None) -> str | None:
        """Return the code of something that only has a name, whatever the lines that it is written in."""
        return super().local(" ".join((text or "").split()))


def words_of(concept: Element | None, narrative: Narrative) -> str | None:
    """Return what a person reads: the display of the code that counts, else the text, else the code."""
    if concept is None:
        return None
    coding = preferred(codings_of(concept)) or Coding()
    return first(coding.display, _text(concept, narrative), coding.code)


def _text(concept: Element, narrative: Narrative) -> str | None:
    """Return the original text, else any name that stands with a code or a translation."""
    said = narrative.of(at(concept, "originalText"))
    names = (element.get("displayName") for element in (concept, *concept.iterfind(f"{V3}translation")))
    return said or next((name for name in names if name), None)


def plain_code(concept: Element | None) -> str | None:
    """Return the bare code of one of HL7's own value sets (relationship, marital status), else of a translation."""
    return next(iter(codes_in(concept)), None)


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
