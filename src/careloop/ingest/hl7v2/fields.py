"""Fields of HL7 v2 segments: what is given, components, repetitions, escape sequences, codes and identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from careloop.ingest.concepts import Codes, Coding, Concept, first, words_of

DELETED = '""'  # HL7's null: what is stored shall be removed; an empty field says nothing (HL7 v2.5.1 section 2.5.3)
_ESCAPE = re.compile(r"\\([^\\\r]*)\\")
_CHARACTERS = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", "P": "#", ".br": "\n", ".ce": "\n"}
_SPACES = re.compile(r"\.sp\+?(\d{0,3})")
_LOCAL = {"", "L"}  # table 0396: L is a local code, as no coding system at all is


class RejectError(Exception):
    """The row or message is broken; the message says how, in fixed words."""


class Meaning(NamedTuple):
    """What a coded field says: `VOCABULARY//CODE` and what a person reads, None where it says neither."""

    code: str | None
    words: str | None


def given(field: str) -> str:
    """Return the field, empty where it is HL7's null."""
    return "" if field == DELETED else field


def plain(text: str) -> str:
    r"""Return text without escape sequences (HL7 v2.5.1 section 2.7): `\F\ \S\ \T\ \R\ \E\ \Xhh\ \.br\`.

    Highlighting, character set switches and other formatting are dropped; a lone escape character stays.
    """
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(match: re.Match[str]) -> str:
    name = match[1]
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    if name.startswith("X"):
        try:
            octets = bytes.fromhex(name[1:])
        except ValueError:
            return match[0]
        return _text_of(octets).replace("\0", "")
    spaces = _SPACES.fullmatch(name)
    if spaces is not None:
        return "\n" * min(int(spaces[1] or 1), 100)
    return "" if name[:1] in {"H", "N", "C", "M", "Z", "."} else match[0]


def _text_of(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", errors="replace")


def components(field: str) -> list[str]:
    """Return the components of the first repetition, without escape sequences."""
    if "~" in field:
        field = field.partition("~")[0]
    if "\\" not in field and '"' not in field:  # nearly all
        return list(map(str.strip, field.split("^")))
    return [given(plain(part).strip()) for part in field.split("^")]


def component(field: str, number: int) -> str:
    """Return one component (from 1) of the first repetition, empty where it is not given."""
    parts = components(field)
    return parts[number - 1] if len(parts) >= number else ""


def repetitions(field: str) -> Iterator[str]:
    """Yield the repetitions of a field that say something."""
    yield from (part for part in field.split("~") if given(part.strip()))


def meaning_of(field: str, codes: Codes) -> Meaning:
    """Return what a CE, CWE or CNE field says: the coding of a standard terminology first, as from other formats."""
    concept = _concept(field)
    return Meaning(codes.of(concept), words_of(concept))


def words(field: str) -> str | None:
    """Return what a person reads of a coded field, or of each of its repetitions."""
    return "; ".join(said for part in repetitions(field) if (said := words_of(_concept(part)))) or None


def _concept(field: str) -> Concept:
    # CE and CWE: identifier, text, coding system; the same of the alternate, and in CWE of a second alternate
    # (components 10 to 12, v2.7); 9 is the original text.
    parts = components(field)
    parts += [""] * (12 - len(parts))
    codings = [
        Coding(None if parts[at + 2] in _LOCAL else parts[at + 2], parts[at], parts[at + 1] or None)
        for at in (0, 3, 9)
        if parts[at]
    ]
    return Concept(codings, first(parts[8], parts[1], parts[4]))


def entity(field: str, namespace: str = "") -> str:
    """Return an entity identifier (EI) such as `F1^LAB`: its number and who gave it, else `namespace`; "" if none.

    Numbers of fillers and placers are unique only where they come from.
    """
    parts = [*components(field), "", "", ""]
    giver = parts[1] or parts[2] or namespace
    return parts[0] if not parts[0] or not giver else f"{parts[0]}^{giver}"
