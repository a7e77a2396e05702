"""One document to facts: its patient, its entries, and the narrative of sections without entries."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import Codes
from careloop.ingest.ccda.documents import Piece, RefusedError
from careloop.ingest.ccda.elements import BrokenError, Narrative, at
from careloop.ingest.ccda.facts import Around, Fact, Row
from careloop.ingest.ccda.header import Header, Numbers, patient_rows, read_header
from careloop.ingest.ccda.statements import encounter_of, facts_in
from careloop.ingest.concepts import SkipError

MAX_FACTS = 500_000  # of a document, which is held whole: some 500 MB


@dataclass
class Reading:
    """A document that is being read: what its pieces have given so far; `header` is None until it has been read."""

    name: str
    numbers: Numbers
    zone: tzinfo
    codes: Codes
    header: Header | None = None
    facts: list[Fact] = field(default_factory=list)
    _around: Around | None = None  # of the document
    _section: tuple[Element, Around] | None = None  # whose entries come
    _with_entries: set[int] = field(default_factory=set)  # identities of open sections that have had entries
    _entries: int = 0

    def take(self, piece: Piece) -> None:
        """Read the next piece.

        Raises:
            RefusedError: the header says that the document cannot be read, or it has too many statements.
        """
        if piece.kind == "header":
            self._read_header(piece.element)
        elif piece.kind == "end":
            self._read_other_body(piece.element)
        elif piece.section is not None:
            around = self._around_section(piece.section)
            if piece.kind == "entry":
                self._entries += 1
                self._with_entries.add(id(piece.section))
                self.facts += facts_in(piece.element, replace(around, place=f"{self.name}, entry {self._entries}"))
            else:
                self._read_narrative(piece.section, around)
        if len(self.facts) > MAX_FACTS:
            raise RefusedError("document has too many statements")

    def _read_header(self, root: Element) -> None:
        try:
            self.header = read_header(root, self.numbers, self.zone)
        except BrokenError as reason:
            raise RefusedError(f"document: {reason}") from None
        self._around = Around(self.codes, self.zone, self.header.made, place=f"{self.name}, header")
        patient = Fact("Patient", f"{self.name}, patient")
        try:
            patient.rows = patient_rows(root, self.zone)
        except SkipError as reason:
            patient.skipped = str(reason)
        except BrokenError as reason:
            patient.rejected = f"Patient: {reason}"
        self.facts += [patient, *encounter_of(root, self._around)]

    def _around_section(self, section: Element) -> Around:
        """Return what stands around the entries of a section, whose text has been read by now."""
        if self._section is None or self._section[0] is not section:
            if self._around is None:
                raise RefusedError("document: a section before the header")
            code = at(section, "code")
            around = replace(
                self._around,
                section=None if code is None else code.get("code"),
                narrative=Narrative(at(section, "text")),
            )
            with suppress(BrokenError):  # the document's time holds instead, which is later
                around = replace(around, authored=around.authored_in(section))
            self._section = section, around
        return self._section[1]

    def _read_narrative(self, section: Element, around: Around) -> None:
        """Keep the text of a section that has no entries; elsewhere it says again what they say."""
        had_entries = id(section) in self._with_entries
        self._with_entries.discard(id(section))
        self._section = None
        if had_entries:
            return
        fact = Fact("Section", f"{self.name}, section after entry {self._entries}")
        text = None if section.get("nullFlavor") else around.narrative.whole()
        if text is None:
            fact.skipped = "section: neither entries nor text"
        else:
            code = self.codes.of_element(at(section, "code"), around.narrative)
            code = code or self.codes.local(around.narrative.of(at(section, "title"))) or "LOCAL//section"
            fact.rows = self._document_row(code, around, text=text)
            fact.skipped = None if fact.rows else "section: no time"
        self.facts.append(fact)

    def _read_other_body(self, root: Element) -> None:
        """Keep an unstructured body: its text, or where it lies."""
        body = at(root, "component", "nonXMLBody", "text")
        if body is None or self._around is None or self.header is None:
            return
        fact = Fact("Document", f"{self.name}, body")
        code = self.codes.of_element(self.header.kind, Narrative()) or "LOCAL//document"
        reference = at(body, "reference")
        where = None if reference is None else reference.get("value")
        fact.rows = self._document_row(code, self._around, text=Narrative().of(body), asset=where or None)
        fact.skipped = None if fact.rows else "document: no time"
        self.facts.append(fact)

    def _document_row(self, code: str, around: Around, *, text: str | None, asset: str | None = None) -> list[Row]:
        time = around.made or around.authored
        return [] if time is None else [Row(f"DOCUMENT//{code}", time, around.authored, text=text, asset=asset)]
