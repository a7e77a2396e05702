"""HL7 v2 dates and times as the spans they stand for: "201503" is all of March, a full time one moment."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from careloop.ingest.zones import zone_named
from careloop.record.schema import EARLIEST, LATEST

# YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ] (HL7 v2.5.1 section 2.A.22)
_WRITTEN = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:[.,](\d+))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
# ISO 8601 is against the standard and met all the same.
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)?(?:(Z)|([+-]\d\d):?(\d\d))?", re.ASCII
)
_ZONED = re.compile(r".*([+-]\d{4})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FULL_SIZES = (12, 14)
MAX_CACHED = 300_000  # times remembered: some ten MB
Span = tuple[int, int]  # first and last moment, microseconds since 1970 (UTC); the last in whole seconds


class Clock:
    """Reads times; those without a zone are local to one time zone.

    Where clocks are set back a local time is met twice: it spans both, so that a fact counts as known at the later one.
    """

    def __init__(self, time_zone: str) -> None:
        """Raise InputError where there is no such time zone."""
        # Arithmetic with the plain UTC is several times quicker.
        self._zone: tzinfo = UTC if time_zone == "UTC" else zone_named(time_zone)
        self._spans: dict[str, Span | None] = {}

    def span(self, text: str) -> Span | None:
        """Return first and last moment of a date or time; None where it is none, or outside 1850 to 2150."""
        if text in self._spans:
            return self._spans[text]
        if len(self._spans) >= MAX_CACHED:
            self._spans.clear()
        return self._spans.setdefault(text, _span_of(text, self._zone))


def zone_of(text: str) -> str:
    """Return the zone that a time ends in ("+0100"), empty where there is none."""
    match = _ZONED.fullmatch(text)
    return match[1] if match and len(text) > 8 else ""


def as_iso(text: str) -> str:
    """Return a date or time in the spelling of ISO 8601, as far as it is written; any other text as it is."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return text
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if hour is None:
        return date
    time = ":".join(part for part in (hour, minute or "00", second) if part) + (f".{fraction}" if fraction else "")
    return f"{date}T{time}" + (f"{zone[:3]}:{zone[3:]}" if zone else "")


def _span_of(text: str, zone: tzinfo) -> Span | None:
    try:
        found = _full(text, zone) or _parts(text, zone)
        if found is None:
            return None
        start, end = found
        if start < EARLIEST or end > LATEST:
            return None
    except (ValueError, OverflowError):
        return None
    # In the hour that is skipped when clocks are set forward, the second reading is the earlier one.
    first, last = _microseconds(start), _microseconds(end)
    return first, max(first, last)


def _full(text: str, zone: tzinfo) -> tuple[datetime, datetime] | None:
    """Read a time to the minute or second without zone, as nearly all are, the quick way; None for what is none."""
    if len(text) not in _FULL_SIZES or not text.isdigit() or not text.isascii():
        return None
    try:
        start = datetime.fromisoformat(f"{text[:8]}T{text[8:]}").replace(tzinfo=zone)
    except ValueError:  # it may be a leap second
        return None
    return start, start if zone is UTC else start.replace(fold=1)


def _parts(text: str, zone: tzinfo) -> tuple[datetime, datetime] | None:
    """Read any other spelling. Raises ValueError or OverflowError where its numbers make no time."""
    # TS had a second component up to v2.5, the degree of precision, which the digits say as well.
    match = _WRITTEN.fullmatch(_compact(text.partition("^")[0].strip()))
    if match is None:
        return None
    *parts, fraction, offset = match.groups()
    first, last = _naive(parts, fraction)
    local = _offset(offset) if offset else zone
    return first.replace(tzinfo=local), last.replace(tzinfo=local, fold=1)


def _microseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _compact(text: str) -> str:
    match = _ISO.fullmatch(text)
    if match is None:
        return text
    return "".join(part or "" for part in match.groups()).replace("Z", "+0000")


def _naive(parts: list[str | None], fraction: str | None) -> tuple[datetime, datetime]:
    """First and last moment without zone; "00" as month or day stands for an unknown one."""
    known = [int(part) for part in parts if part is not None]
    while 1 < len(known) <= 3 and known[-1] == 0:
        known.pop()
    year, *rest = known
    month, day, hour, minute, second = [*rest, *(1, 1, 0, 0, 0)[len(rest) :]]
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    first = datetime(year, month, day, hour, minute, 59 if second == 60 else second, microsecond)
    if len(rest) >= 4:
        return first, first
    if len(rest) == 3:
        return first, first.replace(minute=59, second=59)
    last_month = month if rest else 12
    last_day = day if len(rest) == 2 else monthrange(year, last_month)[1]
    return first, datetime(year, last_month, last_day, 23, 59, 59)


def _offset(text: str) -> timezone:
    size = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-size if text[0] == "-" else size)
