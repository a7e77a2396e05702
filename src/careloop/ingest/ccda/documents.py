"""XML to the sections and entries of a document, as they come, with bounded memory; no DTD, no entities."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLPullParser
from xml.parsers import expat

from careloop.ingest.ccda.elements import V3

MAX_DOCUMENT_BYTES = 128 << 20  # a document with a scan in it may be some ten MB
MAX_ELEMENTS = 500_000  # in memory at a time, those of an entry or a narrative: some 200 MB
MAX_DEPTH = 200
_PROLOG_BYTES = 1 << 20
_READ = "read"  # tag of an entry that has been handed over
_ROOT, _ENTRY, _SECTION, _BODY = (f"{V3}{name}" for name in ("ClinicalDocument", "entry", "section", "component"))
_BLANKS = bytes.maketrans(b"\r\n", b"  ")
_FOLLOWED = {_ENTRY, _SECTION}
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']([A-Za-z0-9_.-]+)[\"']")
_ENCODINGS = re.compile(
    r"iso-?8859-?\d+|latin-?\d|(windows-|cp)\d+|gbk?|gb2312|gb18030|big5(-?hkscs)?|shift[_-]jis|euc-(jp|kr)|koi8-[ru]",
    re.IGNORECASE,
)


class RefusedError(Exception):
    """The document is not read any further; the message says why, in fixed words."""


class Piece(NamedTuple):
    """What has just been read whole.

    `kind` is "header" (`element`: the ClinicalDocument so far), "entry" or "section" (`element`: itself, `section`: the
    section it is in or is), or "end" (`element`: the ClinicalDocument).
    """

    kind: str
    element: Element
    section: Element | None = None


def pieces(chunks: Iterator[bytes]) -> Iterator[Piece]:
    """Yield the pieces of a document in their order; entries and sections are emptied after each.

    Raises:
        RefusedError: no well-formed XML, or none that is read; pieces before that have been yielded.
    """
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
    prolog, cutter = _Prolog(), _Cutter()
    try:
        for text in _as_utf8(chunks):
            parser.feed(prolog.feed(text))
            yield from cutter.cut(_events(parser))
        parser.close()
    except ParseError:
        reason = "XML is broken after the end of the document" if cutter.is_complete else "XML ends early or is broken"
        raise RefusedError(reason) from None
    if not cutter.is_complete:
        raise RefusedError("XML ends early or is broken")


def _events(parser: XMLPullParser[Element]) -> Iterator[tuple[str, Element]]:
    return parser.read_events()  # type: ignore[return-value]  # only starts and ends are asked for


class _BegunError(Exception):
    """The root element has begun: nothing of interest to `_Prolog` follows."""


class _Prolog:
    """Lets text through once the root element has begun, without a DOCTYPE before it (XML 1.0 section 2.8).

    Entities can only be declared there, so that none is ever expanded or fetched.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._has_begun = False
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._begin

    def feed(self, text: bytes) -> bytes:
        """Return what may be parsed by now."""
        if self._has_begun:
            return text
        self._held.append(text)
        self._size += len(text)
        try:
            self._parser.Parse(text, False)
        except _BegunError:
            self._has_begun = True
            return b"".join(self._held)
        except expat.ExpatError:
            raise RefusedError("not XML") from None
        if self._size > _PROLOG_BYTES:
            raise RefusedError("not a CDA document: no element in its first MB")
        return b""

    def _begin(self, *_: object) -> None:
        raise _BegunError

    def _refuse(self, *_: object) -> None:
        raise RefusedError("a DOCTYPE, which is refused because it may declare entities")


class _Open(NamedTuple):
    """A section or an entry that has begun; `before` is how many elements were in memory then."""

    element: Element
    depth: int
    before: int


class _Cutter:
    """Follows the parser through a document: depth, open sections and entries, and what is whole."""

    def __init__(self) -> None:
        self.is_complete = False
        self._root: Element | None = None
        self._open: list[_Open] = []
        self._depth = self._elements = 0
        self._has_header = False

    def cut(self, events: Iterator[tuple[str, Element]]) -> Iterator[Piece]:
        """Yield what has become whole."""
        for event, element in events:
            if event == "start":
                self._depth += 1
                self._elements += 1
                if self._depth > MAX_DEPTH:
                    raise RefusedError("nested too deeply")
                if self._depth <= 2 or element.tag in _FOLLOWED:
                    yield from self._started(element)
                elif self._elements > MAX_ELEMENTS:
                    raise RefusedError("an entry, a narrative or the whole has too many elements")
            else:
                if self._open and element is self._open[-1].element:
                    yield from self._ended(element)
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    yield from [] if self._has_header else [Piece("header", element)]
                    yield Piece("end", element)
        self._forget()

    def _started(self, element: Element) -> Iterator[Piece]:
        if self._root is None:
            if element.tag != _ROOT:
                raise RefusedError("not a CDA document: the root must be ClinicalDocument in urn:hl7-org:v3")
            self._root = element
        elif self._depth == 2 and element.tag == _BODY and not self._has_header:
            self._has_header = True
            yield Piece("header", self._root)
        elif element.tag == _SECTION or (element.tag == _ENTRY and self._is_in_section()):
            self._open.append(_Open(element, self._depth, self._elements))

    def _is_in_section(self) -> bool:
        return bool(self._open) and self._open[-1].element.tag == _SECTION and self._open[-1].depth == self._depth - 1

    def _ended(self, element: Element) -> Iterator[Piece]:
        """Hand over a section or an entry, and let go of it."""
        opened = self._open.pop()
        if element.tag == _SECTION:
            yield Piece("section", element, element)
            element.clear()
            self._elements = opened.before
        else:
            section = self._open[-1].element
            yield Piece("entry", element, section)
            element.clear()
            element.tag = _READ
            self._elements = opened.before + 1

    def _forget(self) -> None:
        """Take the entries that have been read out of sections that go on: all at once, or it would take for ever."""
        for opened in self._open:
            if opened.element.tag == _SECTION:
                left = [child for child in opened.element if child.tag != _READ]
                self._elements -= len(opened.element) - len(left)
                opened.element[:] = left


def _as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the text as UTF-8 without XML declaration, in growing pieces, whatever its encoding was.

    Bytes that are no UTF-8 are read as Windows-1252, which is what such documents usually are.
    """
    first = b""
    while len(first) < 1 << 10 and (chunk := next(chunks, b"")):
        first += chunk
    decoder = _decoder(first)
    text = decoder.decode(first).removeprefix("\ufeff")
    declaration = _DECLARATION.match(text)
    yield _spaced(text[declaration.end() if declaration else 0 :])
    size = len(first)
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_DOCUMENT_BYTES:
            raise RefusedError(f"document is larger than {MAX_DOCUMENT_BYTES >> 20} MB")
        yield _spaced(decoder.decode(chunk))
    yield _spaced(decoder.decode(b"", final=True))


def _spaced(text: str) -> bytes:
    """Return UTF-8 with blanks for line ends, which mean the same in CDA: the parser makes a string of each line."""
    return text.encode("utf-8", "replace").translate(_BLANKS)


def _decoder(first: bytes) -> codecs.IncrementalDecoder:
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("replace")
    if first[:4] in {b"<\0?\0", b"<\0C\0"}:
        return codecs.getincrementaldecoder("utf-16-le")("replace")
    if first[:4] in {b"\0<\0?", b"\0<\0C"}:
        return codecs.getincrementaldecoder("utf-16-be")("replace")
    declared = _ENCODING.search(first[: first.find(b">") + 1][:200])
    name = declared[1].decode() if declared else ""
    if _ENCODINGS.fullmatch(name):
        # What calls itself Latin-1 has Windows' quotation marks as often as not.
        name = "cp1252" if name.lower().replace("-", "") in {"iso88591", "latin1"} else name
        try:
            return codecs.getincrementaldecoder(name)("replace")
        except LookupError:
            pass
    return codecs.getincrementaldecoder("utf-8")("careloop.windows-1252")


def _windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("careloop.windows-1252", _windows)
