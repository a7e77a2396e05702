"""What statements of a document give: rows of events, with what stands around each statement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import NamedTuple
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import Codes
from careloop.ingest.ccda.elements import V3, BrokenError, Narrative, at
from careloop.ingest.ccda.times import Interval, Span, interval_of
from careloop.ingest.concepts import SkipError


class Row(NamedTuple):
    """One event of a statement (time None: a static fact).

    `ends`: the event is an end, which is not known before it has come, whatever was recorded when it began.
    """

    code: str
    time: Span | None
    known: Span | None = None
    number: float | None = None
    unit: str | None = None
    text: str | None = None
    asset: str | None = None
    ends: bool = False


@dataclass
class Fact:
    """A statement and what became of it: `rows`, or a reason to skip or reject it, or taken back.

    `id_` is the statement's own id; `gives_way`: what an entry says under the same id counts.
    """

    kind: str
    place: str
    id_: str | None = None
    rows: list[Row] = field(default_factory=list)
    skipped: str | None = None
    rejected: str | None = None
    is_withdrawn: bool = False
    gives_way: bool = False
    raw: str = ""


@dataclass(frozen=True)
class Around:
    """What stands around a statement: its section, the narrative, and times that hold where it gives none itself.

    `authored` is the time of the nearest author below the document; `made` that of the document. `is_broken`: a time
    around the statement is none, which matters only where the statement needs it.
    """

    codes: Codes
    zone: tzinfo = UTC
    made: Span | None = None
    section: str | None = None
    narrative: Narrative = field(default_factory=Narrative)
    place: str = ""
    authored: Span | None = None
    time: Span | None = None
    is_broken: bool = False
    is_withdrawn: bool = False

    def within(self, statement: Element) -> Around:
        """Return what stands around the parts of a statement."""
        try:
            time = self.interval(statement).start or self.time
            return replace(self, authored=self.authored_in(statement), time=time)
        except BrokenError:
            return replace(self, authored=None, time=None, is_broken=True)

    def authored_in(self, statement: Element) -> Span | None:
        """Return when the statement was written: the last time of its authors, else that of what it stands in."""
        times = [interval_of(at(author, "time"), self.zone).start for author in statement.iterfind(f"{V3}author")]
        return max((time for time in times if time is not None), key=lambda time: time.end, default=self.authored)

    def interval(self, statement: Element) -> Interval:
        """Return the first `effectiveTime` that says something."""
        times = (interval_of(element, self.zone) for element in statement.iterfind(f"{V3}effectiveTime"))
        return next((time for time in times if time.start is not None), Interval())

    def start(self, kind: str, *times: Span | None, authored: Span | None) -> Span:
        """Return the first time that is given, at last when the statement or the document was written.

        Raises:
            SkipError: there is none at all.
            BrokenError: it is wanted from something around the statement, whose time is none.
        """
        own = next((time for time in times if time is not None), None)
        if own is not None:
            return own
        if self.is_broken:
            raise BrokenError("not a date or time")
        found = next((time for time in (self.time, authored, self.made) if time is not None), None)
        if found is None:
            raise SkipError(f"{kind}: no time")
        return found

    def has_come(self, end: Span | None) -> bool:
        """True for an end that is dated and not after the document, where it would be a plan."""
        return end is not None and (self.made is None or end.start <= self.made.end)
