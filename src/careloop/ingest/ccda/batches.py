"""Facts of documents to batches: which source row each is of, in which version, and when it became known."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Literal

import polars as pl

from careloop.ingest.ccda.codes import Codes
from careloop.ingest.ccda.documents import RefusedError, pieces
from careloop.ingest.ccda.facts import Fact, Row
from careloop.ingest.ccda.header import Header, Numbers
from careloop.ingest.ccda.reading import Reading
from careloop.ingest.delivery import ARRIVING, BATCH_ROWS, CODES, WITHDRAWN, Batch, Reject
from careloop.record import BIRTH, DEATH

BATCH_BYTES = 64 << 20  # of documents: their texts may be most of them
_AGAIN = "the same statement again"
KnownBy = Literal["document", "event"]


@dataclass(frozen=True)
class Setting:
    """How documents are understood: numbers of patients, zone of times without offset, and when facts became known."""

    numbers: Numbers
    zone: tzinfo
    known_by: KnownBy

    @property
    def sources(self) -> str:
        """What the names of all source rows begin with."""
        return f"CCDA//{self.numbers.origin}//" if self.numbers.origin not in {"", "ccda"} else "CCDA//"


@dataclass
class Work:
    """Documents on their way to a batch; a document is never parted, as its facts may be of one source row."""

    setting: Setting
    codes: Codes = field(default_factory=Codes)
    events: list[dict[str, object]] = field(default_factory=list)
    withdrawn: dict[tuple[str, datetime | None], None] = field(default_factory=dict)
    merges: dict[tuple[str, str], None] = field(default_factory=dict)
    rejected: list[Reject] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    sources: int = 0
    size: int = 0  # bytes of documents

    @property
    def is_full(self) -> bool:
        """True where the next document should go into a new batch."""
        return len(self.events) >= BATCH_ROWS or self.size >= BATCH_BYTES

    def add(self, name: str, chunks: Iterator[bytes]) -> None:
        """Read a document; where it ends early, what stands before is kept, and the rest is one reject."""
        digest = hashlib.blake2b(digest_size=8)
        reading = Reading(name, self.setting.numbers, self.setting.zone, self.codes)
        try:
            for piece in pieces(self._counted(chunks, digest)):
                reading.take(piece)
        except RefusedError as error:
            reading.facts.append(Fact("Document", name, rejected=str(error)))
            if reading.header is not None:  # what it lacks may be in the part that is missing
                reading.header = replace(reading.header, is_revision=False, replaces=None)
        if reading.header is not None:
            self._store(reading.facts, reading.header, f"content-{digest.hexdigest()}")
        else:
            self._count(reading.facts)

    def _counted(self, chunks: Iterator[bytes], digest: hashlib.blake2b) -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    def _store(self, facts: list[Fact], header: Header, content: str) -> None:
        document = f"{self.setting.sources}Document/{header.key or content}"
        version = header.version
        sources = _sources(facts, header, self.setting.sources)
        for place, fact in enumerate(facts):
            if fact.is_withdrawn and place not in sources:
                fact.skipped = "taken back, but without an id of its own"
        self._count(facts)
        numbers: dict[str, int] = {}
        for place, fact in enumerate(facts):
            source = sources.get(place, document)
            if fact.rows:
                number = numbers.setdefault(source, self.sources + len(numbers))
                self.events += [self._event(row, header, source, number) for row in fact.rows]
        self.sources += len(numbers)
        # What a version no longer says, an earlier one may have said.
        gone = [sources[place] for place, fact in enumerate(facts) if place in sources and _says_nothing(fact)]
        gone += [document] if header.is_revision else []
        gone += [f"{self.setting.sources}Document/{header.replaces}"] if header.replaces else []
        self.withdrawn |= {(source, version): None for source in gone if source not in numbers}
        if header.retired is not None:
            self.merges[header.retired, header.subject] = None

    def _count(self, facts: list[Fact]) -> None:
        for fact in facts:
            if fact.rejected is not None:
                self.rejected.append(Reject(fact.place, fact.rejected, fact.raw))
            elif fact.skipped is not None:
                self.skipped[fact.skipped] += 1
            else:
                self.kept += 1

    def _event(self, row: Row, header: Header, source: str, number: int) -> dict[str, object]:
        start, known = _times(row, header, self.setting.known_by)
        return {
            "subject": header.subject,
            "time": start,
            "known_time": known,
            "code": row.code,
            "numeric_value": row.number,
            "unit": row.unit,
            "text_value": row.text,
            "asset": row.asset,
            "source": source,
            "source_time": header.version,
            "row": number,
        }

    def batch(self) -> Batch:
        """Return what has been collected."""
        columns = {name: [event[name] for event in self.events] for name in ARRIVING}
        return Batch(
            pl.DataFrame(columns, schema=ARRIVING, strict=False),
            rows_read=self.kept + len(self.rejected) + self.skipped.total(),
            rows_kept=self.kept,
            rejected=self.rejected,
            skipped=dict(sorted(self.skipped.items())),
            withdrawn=pl.DataFrame(list(self.withdrawn), schema=WITHDRAWN, orient="row"),
            merges=list(self.merges),
            codes=pl.DataFrame(list(self.codes.items()), schema=CODES, orient="row"),
        )


def _says_nothing(fact: Fact) -> bool:
    """True where earlier versions no longer hold; a document that leaves out who the patient is takes nothing back."""
    return fact.is_withdrawn or (fact.skipped not in {None, _AGAIN} and fact.kind != "Patient")


def _sources(facts: list[Fact], header: Header, prefix: str) -> dict[int, str]:
    """Return the source of each fact that has an id of its own, by its place; marks what is said again.

    The patient is part of it (as a hash), because some systems put the ids of the guide's examples into everybody's
    documents. An id that two different statements share names neither: they are told apart by document only.
    """
    whose = hashlib.blake2b(header.subject.encode(), digest_size=8).hexdigest()
    found: dict[int, str] = {}
    named: dict[str, list[int]] = defaultdict(list)
    for place, fact in enumerate(facts):
        if fact.kind == "Patient":
            found[place] = f"{prefix}Patient/{whose}"
        elif fact.id_ is not None and fact.rejected is None:
            named[f"{prefix}{fact.kind}/{fact.id_}/{whose}"].append(place)
    for source, places in named.items():
        told = _told_once(facts, places)
        if len(told) == 1:
            found[told[0]] = source
    return found


def _told_once(facts: list[Fact], places: list[int]) -> list[int]:
    """Return the places of different statements, marking those that say the same as one of them."""
    told: dict[tuple[Row, ...], int] = {}
    for place in sorted(places, key=lambda place: facts[place].gives_way):
        fact = facts[place]
        said = tuple(row._replace(known=None) for row in fact.rows)
        if said in told or (fact.gives_way and told):
            fact.rows, fact.skipped = [], _AGAIN
        elif said:
            told[said] = place
    return list(told.values()) or places[:1]


def _times(row: Row, header: Header, known_by: KnownBy) -> tuple[datetime | None, datetime | None]:
    """Return time and known_time of an event.

    A date stands for its first moment as `time`, and counts as known at its last, never earlier than it can have been.
    """
    if row.time is None:
        return None, None
    start, end = row.time
    of_document = header.made if known_by == "document" and row.code not in {BIRTH, DEATH} else None
    known = row.known or of_document
    if known is None:
        return start, end if end > start else None
    return start, max(known.end, end) if row.ends else known.end
