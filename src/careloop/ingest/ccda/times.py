"""HL7 v3 points and intervals in time as the spans they stand for: "201503" is all of March, a full time one moment."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.elements import V3, BrokenError

_WRITTEN = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:[.,](\d+))?)?)?)?)?)?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
# Some systems write ISO 8601, against the standard.
_ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII | re.IGNORECASE)
OPEN_END = "9999"  # the year that stands for "no end" in exports


class Span(NamedTuple):
    """First and last moment (UTC, the last in whole seconds) of a written date or time; the same for a full time."""

    start: datetime
    end: datetime


class Interval(NamedTuple):
    """When something was: None where an end is not given or unknown; both ends the same for a point in time."""

    low: Span | None = None
    high: Span | None = None

    @property
    def start(self) -> Span | None:
        """When it began; its end where only that is known."""
        return self.low or self.high


def span_of(element: Element | None, zone: tzinfo) -> Span | None:
    """Return the span of a TS (HL7 v3 data types R1): its `value`, None where that is missing.

    Raises:
        BrokenError: the value is no date or time.
    """
    text = (element.get("value") or "").strip() if element is not None else ""
    if not text or text.startswith(OPEN_END):
        return None
    span = parsed(text, zone)
    if span is None:
        raise BrokenError("not a date or time")
    return span


def interval_of(element: Element | None, zone: tzinfo) -> Interval:
    """Return the interval of a TS or IVL_TS, of the latter also in the forms `center` and `low` with `width`."""
    if element is None:
        return Interval()
    moment = span_of(element, zone) or span_of(element.find(f"{V3}center"), zone)
    if moment is not None:
        return Interval(moment, moment)
    return Interval(*(span_of(element.find(f"{V3}{name}"), zone) for name in ("low", "high")))


@lru_cache(maxsize=100_000)
def parsed(text: str, zone: tzinfo) -> Span | None:
    """Return first and last moment of `YYYY[MM[DD[HH[MM[SS[.S]]]]]][+-ZZZZ]`, local to `zone` where no offset is given.

    A month or day 00 counts as not given, leap second 60 as 59. None where the text is no date or time.
    """
    compact = re.sub(r"[-: T](?=\d)", "", text[:19], flags=re.IGNORECASE) + text[19:] if _ISO.fullmatch(text) else text
    match = _WRITTEN.fullmatch(compact)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    place = _offset(offset) if offset else zone
    try:
        if hour is None:
            return _days(int(year), int(month or 0), int(day or 0), place)
        sharp = minute is not None
        first = datetime(int(year), int(month), int(day), int(hour), int(minute or 0), tzinfo=place)
        seconds = 59 if second == "60" else int(second or 0)
        first = first.replace(second=seconds, microsecond=int((fraction or "0")[:6].ljust(6, "0"))).astimezone(UTC)
        return Span(first, first if sharp else first + timedelta(minutes=59, seconds=59))
    except (ValueError, OverflowError):
        return None


def _days(year: int, month: int, day: int, place: tzinfo) -> Span:
    """Return the span of a year, a month or a day."""
    last_month = month or 12
    last_day = day if month and day else monthrange(year, last_month)[1]
    first = datetime(year, month or 1, day if month and day else 1, tzinfo=place)
    last = datetime(year, last_month, last_day, 23, 59, 59, tzinfo=place)
    return Span(first.astimezone(UTC), last.astimezone(UTC))


def _offset(text: str) -> timezone:
    if text in "zZ":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset) if offset < timedelta(days=1) else UTC


def written(text: str | None) -> str | None:
    """Return a TS as FHIR writes it: `20150301` as 2015-03-01; as it is where it is no date or time."""
    match = _WRITTEN.fullmatch((text or "").strip())
    if match is None:
        return (text or "").strip() or None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if hour is None:
        return date
    clock = ":".join((hour, minute or "00", second or "00")) + (f".{fraction}" if fraction else "")
    zone = f"{offset[:3]}:{offset[-2:]}" if offset and len(offset) > 1 else (offset or "")
    return f"{date}T{clock}{zone}"
