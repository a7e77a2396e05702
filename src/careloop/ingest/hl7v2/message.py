"""One raw HL7 v2 message: its characters, its own delimiters brought to the usual ones, its segments and header."""

from __future__ import annotations

import re
from dataclasses import dataclass

from careloop.ingest.hl7v2.fields import RejectError, component, components, given
from careloop.ingest.hl7v2.kinds import SEGMENTS
from careloop.ingest.hl7v2.times import zone_of

_USUAL = "|^~\\&"  # field, component, repetition, escape, subcomponent (HL7 v2.5.1 section 2.5.4)
_ESCAPED = dict(zip(_USUAL, ("\\F\\", "\\S\\", "\\R\\", "\\E\\", "\\T\\"), strict=True))
MOST_BEFORE_EVN = 10  # software (SFT) and security (UAC) segments stand between MSH and EVN
_PRIVATE = 0xE000  # first of the characters that Unicode leaves to private use
SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}(?:\||$)")
_COMMON = frozenset(f"{name}|" for name in SEGMENTS - {"ADD"})
# Segments whose text lines may be broken by line feeds, and the field that holds the text.
_TEXT_FIELD = {"OBX": 5, "NTE": 3}
# HL7 table 0211; 8859/1 is in practice Windows-1252, which has more characters in the same places.
_CHARSETS = {
    "8859/1": "cp1252", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "UNICODE": "utf-8", "GB 18030-2000": "gb18030",
    "BIG-5": "big5", "KS X 1001": "euc_kr", "ISO IR14": "iso2022_jp_2", "ISO IR87": "iso2022_jp_2",
    "ISO IR159": "iso2022_jp_2",
}  # fmt: skip
_LATIN = re.compile(r"(?:ISO[ _-]?)?8859[/_-](\d\d?)", re.ASCII)
_REPETITIONS = re.compile(r"[~\\]")
_MULTI_BYTE = {"gb18030", "big5", "euc_kr", "iso2022_jp_2"}


@dataclass(slots=True)
class Message:
    r"""A message with the usual delimiters `|^~\&`; `segments` are all but MSH.

    `kind` and `trigger` are its type and event (ADT, A01), `sent` MSH-7, `recorded` EVN-2, `occurred` EVN-6, `zone` the
    zone of MSH-7, which holds for all its times without one, `application` MSH-3.
    """

    number: int
    segments: list[str]
    kind: str
    trigger: str
    sent: str
    zone: str
    application: str
    recorded: str = ""
    occurred: str = ""


def parse(raw: bytes, number: int) -> Message:
    """Take a raw message (segments parted by carriage returns) apart.

    Raises:
        RejectError: it does not begin with a usable MSH segment.
    """
    text = decoded(raw)
    if not text.startswith("MSH"):
        raise RejectError("text outside of any message")
    header, *lines = [line for line in _standard(text).split("\r") if line]
    fields = header.split("|")
    fields += [""] * (12 - len(fields))
    if not all(line[:4] in _COMMON for line in lines):
        lines = _whole(lines)
    kind = [*components(fields[8]), ""]
    sent = given(fields[6].strip())
    message = Message(number, lines, kind[0].upper(), kind[1].upper(), sent, zone_of(sent), component(fields[2], 1))
    event = next((line for line in lines[:MOST_BEFORE_EVN] if line.startswith("EVN")), None)
    if event is not None:
        _take_event(message, event)
    if not message.kind:
        raise RejectError("MSH-9 (message type) is missing")
    return message


def _take_event(message: Message, segment: str) -> None:
    fields = segment.split("|") + [""] * 7
    message.trigger = message.trigger or component(fields[1], 1).upper()
    message.recorded, message.occurred = given(fields[2].strip()), given(fields[6].strip())
    message.sent = message.sent or message.recorded


def decoded(raw: bytes) -> str:
    """Return a message's text: what is UTF-8 as such, else as MSH-18 says, else Windows-1252, segment by segment.

    Text in a single-byte character set is hardly ever valid UTF-8 by chance, so UTF-8 is believed before MSH-18.
    """
    if raw.isascii() and b"\x1b" not in raw:  # ISO 2022 switches character sets by escape
        text = raw.decode("ascii")
    else:
        charset = _charset(raw)
        text = _in_one(raw, charset) or "\r".join(_segment_text(line, charset) for line in raw.split(b"\r"))
    return text.replace("\0", "") if "\0" in text else text


def _in_one(raw: bytes, charset: str) -> str | None:
    try:
        return raw.decode(charset if charset in _MULTI_BYTE else "utf-8")
    except UnicodeDecodeError:
        return None


def _segment_text(line: bytes, charset: str) -> str:
    for name in ("utf-8", charset):
        try:
            return line.decode(name)
        except UnicodeDecodeError:
            continue
    return line.decode("cp1252", errors="replace")


def _charset(raw: bytes) -> str:
    """Return the codec that MSH-18 means, by the first character set that it names."""
    fields = raw.partition(b"\r")[0].split(raw[3:4] or b"|")
    name = fields[17].decode("ascii", errors="replace") if len(fields) > 17 else ""
    name = next((part.strip().upper() for part in _REPETITIONS.split(name) if part.strip()), "")
    latin = _LATIN.fullmatch(name)
    if latin is not None and 2 <= int(latin[1]) <= 16 and int(latin[1]) != 12:
        return f"iso8859_{latin[1].lstrip('0')}"
    return _CHARSETS.get(name, "cp1252")


def _standard(text: str) -> str:
    """Return the message with the usual delimiters in place of its own, which MSH-1 and MSH-2 name."""
    if text.startswith("MSH|^~\\&|") or text.startswith("MSH|^~\\&#|"):
        return text
    field = text[3:4]
    written, bar, rest = text[4:].partition(field) if field else ("", "", "")
    if not bar or "\r" in written:
        raise RejectError("MSH names no usable delimiters")
    # Delimiters that are not named, and systems that leave out the escape character alone.
    named = "^~\\&" if written in {"", "^~&"} else written[:4] + "^~\\&"[len(written) :]
    own = field + named
    if len(set(own)) < len(own) or any(letter.isalnum() or letter.isspace() for letter in own):
        raise RejectError("MSH names no usable delimiters")
    table: dict[str, str | int | None] = {**_ESCAPED, **dict(zip(own, _USUAL, strict=True))}
    # An escape sequence stands for the delimiter that this message has, which is plain text among the usual ones.
    escape, names = re.escape(named[2]), "FSRET"
    for place, letter in enumerate(own):
        table[chr(_PRIVATE + place)] = _ESCAPED.get(letter, letter)
    rest = re.sub(f"{escape}([{names}]){escape}", lambda found: chr(_PRIVATE + names.index(found[1])), rest)
    return f"MSH|^~\\&|{rest.translate(str.maketrans(table))}"


def _whole(lines: list[str]) -> list[str]:
    """Return segments, with lines that go on with the text of the one before them joined to it.

    Such are ADD segments (HL7 v2.5.1 section 2.10.2), and lines of a text that was not escaped.
    """
    found: list[list[str]] = []
    field = 0  # the last field of the segment so far
    for line in lines:
        if line.startswith("ADD|") and found:
            found[-1].append(line[4:])
            field += line.count("|") - 1
        elif not SEGMENT.match(line) and found and field == _TEXT_FIELD.get(found[-1][0][:3]):
            found[-1].append(f"\n{line}")
            field += line.count("|")
        else:
            found.append([line])
            field = line.count("|")
    return ["".join(parts) for parts in found]
