"""What is carried along while messages are read: settings and caches of a file, a batch's rows, the message at hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from careloop.ingest.concepts import Codes
from careloop.ingest.delivery import Reject
from careloop.ingest.hl7v2.fields import Meaning, RejectError, component, given, meaning_of
from careloop.ingest.hl7v2.message import Message
from careloop.ingest.hl7v2.times import Clock, Span, zone_of

if TYPE_CHECKING:
    from careloop.ingest.hl7v2.people import Person

MAX_CACHED = 50_000  # distinct PID segments and coded fields remembered: some ten MB


NO_TIME = "not a date or time between 1850 and 2150"
WIDTH = 26  # fields a segment is filled up to; the last that is looked at is 22, but for PV1


class Fact(NamedTuple):
    """One event of a segment; no time: a static fact.

    `ends`: the event is an end, which is not known before it has come, whatever was recorded when it began.
    """

    code: str
    time: Span | None = None
    known: Span | None = None
    number: float | None = None
    unit: str | None = None
    text: str | None = None
    asset: str | None = None
    ends: bool = False


@dataclass
class Reading:
    """The settings of a reader, and what it has met so far in one file."""

    origin: str
    authority: str | None
    clock: Clock
    codes: Codes = field(default_factory=Codes)
    people: dict[tuple[str, str], Person] = field(default_factory=dict)
    _meanings: dict[str, Meaning] = field(default_factory=dict)
    _units: dict[str, str | None] = field(default_factory=dict)

    @property
    def sources(self) -> str:
        """What the names of all source rows begin with."""
        return f"HL7V2//{self.origin}//" if self.origin else "HL7V2//"

    def meaning(self, coded: str) -> Meaning:
        """Return what a coded field says; a file has many of them and few that differ."""
        found = self._meanings.get(coded)
        if found is None:
            if len(self._meanings) >= MAX_CACHED:
                self._meanings.clear()
            found = self._meanings[coded] = meaning_of(coded, self.codes)
        return found

    def unit(self, field: str) -> str | None:
        """Return the unit of a field: its code, which is UCUM where the sender keeps to it, else its text."""
        if field not in self._units:
            if len(self._units) >= MAX_CACHED:
                self._units.clear()
            self._units[field] = component(field, 1) or component(field, 2) or None
        return self._units[field]

    def code_as(self, role: str, code: str) -> str:
        """Return the code under a role of its own (`ORDER//LOINC//2160-0`), with its meaning."""
        if code in self.codes:
            self.codes.setdefault(f"{role}//{code}", f"{role.lower()}: {self.codes[code]}")
        return f"{role}//{code}"


@dataclass
class Work:
    """A batch while it is filled. Rows are numbered from 0; `rows` are events in the order of table.COLUMNS."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    withdrawn: dict[str, list[int | None]] = field(default_factory=dict)
    merges: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Reject] = field(default_factory=list)
    read: int = 0
    # The newest version of each PID segment of the batch: unknown time, time, row.
    people: dict[Person, tuple[bool, int, int]] = field(default_factory=dict)

    def withdraw(self, source: str, sent: int | None) -> None:
        """Note that a source row says nothing from `sent` on (None: from now on)."""
        self.withdrawn.setdefault(source, []).append(sent)

    def add(self, event: tuple[object, ...], source: str, sent: int | None) -> None:
        """Add an event; a withdrawal before it, of the same time or without one, is superseded."""
        if source in self.withdrawn:
            times = [time for time in self.withdrawn[source] if None not in {time, sent} and time != sent]
            if times:
                self.withdrawn[source] = times
            else:
                del self.withdrawn[source]
        self.rows.append(event)


@dataclass
class Passage:
    """One message on its way: whose it is, which visit and order its segments are about, and when it was sent."""

    message: Message
    reading: Reading
    work: Work
    sent: int | None
    name: str = "PID"  # of the segment at hand
    at: int = 0  # its row number
    subject: str = ""
    account: str = ""
    visit: str = ""  # visit number, else account number
    order: list[str] = field(default_factory=lambda: [""] * WIDTH)  # the ORC that holds
    stem: str = ""  # of the sources of observations; empty where they belong to no order
    observed: Span | None = None  # OBR-7, else OBR-22
    reported: Span | None = None  # OBR-22
    broken: str = ""  # why neither is to be had
    notes: str = ""  # NTE segments that follow the observation at hand
    seen: dict[str, int] = field(default_factory=dict)
    text_row: tuple[str, int] | None = None  # where the observation before was text: its source, place in work.rows
    more_lines: dict[int, list[str]] = field(default_factory=dict)  # of such texts, by place

    def begin_patient(self, subject: str, account: str) -> None:
        """Let the segments that follow be about a patient."""
        self.subject, self.account, self.visit = subject, account, account
        self.order = [""] * WIDTH
        self.begin_order("")

    def begin_order(self, stem: str) -> None:
        """Let the observations that follow belong to an order or report, or to none."""
        self.stem, self.observed, self.reported, self.broken = stem, None, None, ""

    @property
    def about(self) -> str:
        """What names the visit, else the patient, in source rows."""
        return f"visit/{self.visit}" if self.visit else f"patient/{self.subject}"

    def span(self, *written: str) -> Span | None:
        """Return the span of the first time that is given; a time without zone has that of MSH-7, if this has one.

        Raises:
            RejectError: it is no date or time.
        """
        for text in written:
            time = given(text.strip())
            if time:
                span = self.reading.clock.span(self._zoned(time))
                if span is None:
                    raise RejectError(f"{self.name}: {NO_TIME}")
                return span
        return None

    def _zoned(self, time: str) -> str:
        if not self.message.zone:
            return time
        time = time.partition("^")[0]
        return time if zone_of(time) else time + self.message.zone

    def certain(self, *written: str) -> Span:
        """Return the first time that is given, else when the message told of it.

        Raises:
            RejectError: there is none, or it is no date or time.
        """
        span = self.span(*written) or self.told()
        if span is None:
            raise RejectError(f"{self.name}: no time, not even of the message")
        return span

    def told(self) -> Span | None:
        """Return when the event was recorded, else when the message was sent: until then nobody was told."""
        return self.span(self.message.recorded, self.message.sent)

    def numbered(self, source: str) -> str:
        """Return the source, with a number where the message has had it before."""
        count = self.seen[source] = self.seen.get(source, 0) + 1
        return source if count == 1 else f"{source}#{count}"

    def add(self, source: str, fact: Fact) -> None:
        """Add an event of the row at hand."""
        self.work.add(row_of(fact, source, self.subject, self.sent, self.at), source, self.sent)

    def withdraw(self, source: str) -> None:
        """Take back what earlier versions of a source row said."""
        self.work.withdraw(source, self.sent)


def row_of(fact: Fact, source: str, subject: str, sent: int | None, at: int) -> tuple[object, ...]:
    """Return an event in the order of table.COLUMNS.

    A date stands for its first moment as `time`; when nothing better is given, it counts as known at its last moment.
    """
    time, known = None, None
    if fact.time is not None:
        time, end = fact.time
        known = fact.known[1] if fact.known else (end if end > time else None)
        if fact.ends and known is not None:
            known = max(known, end)
    return (subject, time, known, fact.code, fact.number, fact.unit, fact.text, fact.asset, source, sent, at)
