"""JSON text to resources, whatever bytes it is; what cannot be read says why, without patient data."""

from __future__ import annotations

import re
from typing import NamedTuple, get_args

import msgspec

from careloop.ingest.concepts import Concept
from careloop.ingest.fhir.kinds import why_not_read
from careloop.ingest.fhir.shapes import READ, Entry, Observation, Other, Resource

_RESOURCE = msgspec.json.Decoder(READ)
_CONCEPT = msgspec.json.Decoder(Concept)
_OTHER = msgspec.json.Decoder(Other)
_ENTRY = msgspec.json.Decoder(Entry)
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `(\w+)`(?: - at `\$([\w.\[\]…]*)`)?")
_INDEX = re.compile(r"\[[^\]]*\]")
_BOM = b"\xef\xbb\xbf"
KINDS = frozenset(shape.__name__ for shape in get_args(READ))
decode = _RESOURCE.decode  # for many at once: raises where `decoded` explains


class Skipped(NamedTuple):
    """A resource that is understood and gives no events."""

    reason: str


class Broken(NamedTuple):
    """Text that is no FHIR resource."""

    reason: str


Decoded = Resource | Observation | Skipped | Broken


def decoded(raw: bytes | msgspec.Raw) -> Decoded:
    """Decode one resource, or say why not; text that is not UTF-8 is tried as Windows-1252."""
    text = bytes(raw)
    try:
        return _RESOURCE.decode(text)
    except UnicodeDecodeError:
        return _explained(_recoded(text))
    except (msgspec.MsgspecError, RecursionError):
        return _explained(text.removeprefix(_BOM))


def entry_of(raw: bytes | msgspec.Raw) -> Entry | Broken:
    """Decode an entry of a bundle, whose resource stays undecoded."""
    text = bytes(raw)
    try:
        return _ENTRY.decode(text)
    except UnicodeDecodeError:
        text = _recoded(text)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        return _ENTRY.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Broken(reason_of(error, "entry"))


def concept_of(raw: bytes) -> Concept:
    """Decode a CodeableConcept that was left undecoded.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    try:
        return _CONCEPT.decode(raw)
    except UnicodeDecodeError:
        return _CONCEPT.decode(_recoded(raw))


def _recoded(text: bytes) -> bytes:
    try:
        return text.decode().encode()
    except UnicodeDecodeError:
        return text.decode("cp1252", errors="replace").encode()


def _explained(text: bytes) -> Decoded:
    """Decode text that failed before, or say why."""
    try:
        return _RESOURCE.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = error
    try:
        kind = _OTHER.decode(text).resource_type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Broken(reason_of(error, "resource"))
    if not kind:
        return Broken("not a FHIR resource: no resourceType")
    if kind in KINDS:
        return Broken(reason_of(problem, kind))
    why = why_not_read(kind)
    return Skipped(why) if why else Broken("not a FHIR resource: unknown resourceType")


def reason_of(error: Exception, kind: str) -> str:
    """Say in fixed words why text could not be decoded; msgspec's own message may quote it."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "neither UTF-8 nor Windows-1252"
    if not isinstance(error, msgspec.ValidationError):
        return "JSON ends early" if "truncated" in str(error) else "not JSON"
    found = _WRONG_TYPE.match(str(error))
    if found is not None:
        place = _INDEX.sub("", found[3] or "")  # equal reasons are counted together, whichever element of a list it was
        return f"{kind}{place}: must be {found[1].replace(' | null', '')}, got {found[2]}"
    return f"{kind}: a number is out of range" if "out of range" in str(error) else f"{kind}: a value does not fit"
