"""CDA elements by name, what is wrong with them, and the text in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from xml.etree.ElementTree import Element

from careloop.ingest.concepts import SkipError, WithdrawnError

V3 = "{urn:hl7-org:v3}"
SDTC = "{urn:hl7-org:sdtc}"  # HL7's own extensions of CDA
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_LINES = {f"{V3}{name}" for name in ("br", "tr", "paragraph", "item", "list", "table", "caption", "thead", "tbody")}
_CELLS = {f"{V3}td", f"{V3}th"}
_BREAK = "\x1e"  # XML allows no such character in text


class BrokenError(Exception):
    """The statement breaks a rule; the message says which, without patient data."""


def at(element: Element | None, *names: str) -> Element | None:
    """Return the first element down a path of v3 names, None where there is none."""
    for name in names:
        if element is None:
            return None
        element = element.find(f"{V3}{name}")
    return element


def kind_of_value(element: Element) -> str:
    """Return the data type that an element says it has (`xsi:type`), without namespace."""
    return (element.get(XSI_TYPE) or "").rpartition(":")[2]


def is_true(element: Element, name: str) -> bool:
    """True where an attribute such as `negationInd` says so."""
    return (element.get(name) or "").strip().lower() in {"true", "1"}


def status_of(statement: Element) -> str | None:
    """Return the code of `statusCode`."""
    status = at(statement, "statusCode")
    return None if status is None else status.get("code")


def refuse_status(statement: Element, kind: str, *, withdrawn: Collection[str], skipped: Collection[str] = ()) -> None:
    """Tell apart by status what was taken back and what has not happened.

    Raises:
        WithdrawnError: the status is one of `withdrawn`.
        SkipError: it is one of `skipped`.
    """
    status = status_of(statement)
    if status in withdrawn:
        raise WithdrawnError
    if status in skipped:
        raise SkipError(f"{kind}: {status}")


class Narrative:
    """The text of a section, in which entries point at elements with an ID."""

    def __init__(self, text: Element | None = None) -> None:
        self._text = text
        self._named: dict[str, Element] | None = None

    def of(self, element: Element | None) -> str | None:
        """Return what an ED says (an `originalText`, `text` or value): its own text, else what it points at."""
        if element is None:
            return None
        if element.get("representation") == "B64":
            return _decoded(element)
        said = words_in(element)
        reference = at(element, "reference")
        return said or (None if reference is None else words_in(self._at(reference.get("value") or "")))

    def whole(self) -> str | None:
        """Return all of it."""
        return words_in(self._text)

    def _at(self, reference: str) -> Element | None:
        if self._text is None:
            return None
        if self._named is None:
            named = ((part.get("ID"), part) for part in self._text.iter())
            self._named = {id_: part for id_, part in named if id_}
        return self._named.get(reference.removeprefix("#"))


def _decoded(element: Element) -> str | None:
    """Return base64 text; None for PDF and other content that is no plain text."""
    if (element.get("mediaType") or "text/plain").partition(";")[0].strip().lower() != "text/plain":
        return None
    try:
        return base64.b64decode("".join(element.itertext())).decode(errors="replace").replace("\0", "").strip() or None
    except (binascii.Error, ValueError):
        return None


def words_in(element: Element | None) -> str | None:
    """Return the text below an element, a line a paragraph or table row; None where there is none."""
    parts: list[str] = []
    waiting: list[Element | str] = [] if element is None else [element]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        ending = _BREAK if item.tag in _LINES else " " if item.tag in _CELLS else ""
        parts += [ending, item.text or ""]
        waiting.append(ending)
        for child in reversed(item):
            waiting += [child.tail or "", child]
    lines = (" ".join(line.split()) for line in "".join(parts).split(_BREAK))
    return "\n".join(line for line in lines if line) or None
