"""A WFDB header (.hea) as a recording; header(5) of the WFDB Applications Guide describes the format.

Read here rather than with the wfdb package, which drops whatever is not ASCII in comments, opens names with `::` or a
scheme as remote addresses, and brings network libraries; the tests compare the two on the same headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from careloop.ingest.waveforms.recording import Recording, Row, Signal

_DEFAULT_HZ = 250.0  # header(5): the sampling frequency where none is given
_DEFAULT_GAIN = 200.0
_RECORD = re.compile(
    r"(?P<name>\S+?)(?:/(?P<segments>\d+))?\s+(?P<signals>\d+)"
    r"(?:\s+(?P<hz>\d*\.?\d+(?:e[+-]?\d+)?)(?:[/(]\S*)?(?:\s+(?P<samples>\d+)(?P<when>(?:\s+\S+){0,2}))?)?\s*",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(?:(?:(\d{1,2}):)?(\d{1,2}):)?(\d{1,2}(?:\.\d*)?)")
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{1,4})")
_NAMED_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})")  # as the PhysioNet/CinC Challenge 2020 writes it
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FORMAT = re.compile(r"\d+(?:x(\d+))?\S*")
_GAIN = re.compile(r"([+-]?[\d.]+(?:e[+-]?\d+)?)?(?:\([+-]?\d+\))?(?:/(\S+))?", re.IGNORECASE)
_AGE = re.compile(r"<?age>?\s*[:=]\s*(\d{1,3}(?:\.\d+)?)\b", re.IGNORECASE)
_SEX = re.compile(r"<?(?:sex|gender)>?\s*[:=]\s*(female|male|f|m)\b", re.IGNORECASE)
_DIAGNOSES = re.compile(r"dx\s*[:=]\s*(.+)", re.IGNORECASE)
_SNOMED = re.compile(r"\d{6,18}")


@dataclass(frozen=True)
class WfdbHeader:
    """The lines of a header; `segments` are the names of a multi-segment record's parts."""

    record: re.Match[str]
    lines: tuple[str, ...]
    comments: tuple[str, ...]
    segments: tuple[str, ...]


def parse_wfdb_header(content: str) -> WfdbHeader | str:
    """Return the header's lines taken apart, or the reason why they are none."""
    lines, comments = [], []
    for line in (line.strip() for line in content.replace("\0", "").splitlines()):
        if line.startswith("#"):
            comments.append(line.lstrip("#").strip())
        elif line:
            lines.append(line)
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        return "the record line is malformed (name, number of signals, frequency, samples, time, date)"
    segments = tuple(line.split()[0] for line in lines[1:]) if record["segments"] else ()
    return WfdbHeader(record, tuple(lines[1:]), tuple(comments), segments)


def read_wfdb(header: WfdbHeader, parts: WfdbHeader | None, zone: tzinfo) -> Recording | str:
    """Return the recording; `parts` is the header of a part that has signals, where the record itself has none."""
    record = header.record
    hertz = float(record["hz"] or _DEFAULT_HZ)
    signals = _signals((parts or header).lines, hertz) if parts or not header.segments else []
    if isinstance(signals, str):
        return signals
    if not 0 < hertz < 1e9:
        return "the sampling frequency must be a positive number"
    duration_s = float(record["samples"] or 0) / hertz
    return Recording(
        name=record["name"],
        signals=tuple(signals) or (Signal("unknown", hertz, "", 0.0),),
        start=_start(record, zone),
        duration_s=min(duration_s, 1e9),
        static=tuple(_sex(header.comments)),
        facts=(*_ages(header.comments), *_diagnoses(header.comments)),
    )


def _signals(lines: tuple[str, ...], hertz: float) -> list[Signal] | str:
    """Signal lines: file, format, gain(baseline)/unit, resolution, zero, first value, checksum, block size, label."""
    signals = []
    for number, line in enumerate(lines):
        words = line.split(maxsplit=8)
        form = _FORMAT.fullmatch(words[1]) if len(words) > 1 else None
        gain = _GAIN.fullmatch(words[2]) if len(words) > 2 else None
        if form is None or (len(words) > 2 and gain is None):
            return f"signal line {number + 1} is malformed (file, format, gain, ..., label)"
        try:
            size = float(gain[1]) if gain and gain[1] else 0.0
        except ValueError:
            return f"signal line {number + 1} is malformed (gain)"
        label = words[8] if len(words) > 8 else f"signal {number}"
        unit = (gain[2] if gain else None) or "mV"
        signals.append(Signal(label, hertz * float(form[1] or 1), unit, size or _DEFAULT_GAIN))
    return signals


def _start(record: re.Match[str], zone: tzinfo) -> datetime | None:
    """Base time (H:M:S, M:S or S) on the base date (D/M/Y or D-Mon-Y), in either order; None without both."""
    words = (record["when"] or "").split()
    clock = next((match for word in words if (match := _CLOCK.fullmatch(word))), None)
    date = next((found for word in words if (found := _date(word))), None)
    if clock is None or date is None:
        return None
    day, month, year = date
    hour, minute, second = int(clock[1] or 0), int(clock[2] or 0), min(float(clock[3]), 59.999999)
    try:
        midnight = datetime(year, month, day, hour, minute, tzinfo=zone)
        return (midnight + timedelta(seconds=second)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _date(word: str) -> tuple[int, int, int] | None:
    if match := _DATE.fullmatch(word):
        return int(match[1]), int(match[2]), int(match[3])
    match = _NAMED_DATE.fullmatch(word)
    if match and match[2].lower() in _MONTHS:
        return int(match[1]), _MONTHS.index(match[2].lower()) + 1, int(match[3])
    return None


def _sex(comments: tuple[str, ...]) -> Iterator[str]:
    for comment in comments:
        if match := _SEX.search(comment):
            yield f"GENDER//{match[1][0].upper()}"
            return


def _ages(comments: tuple[str, ...]) -> Iterator[Row]:
    for comment in comments:
        if match := _AGE.search(comment):
            yield {"code": "LOINC//30525-0", "numeric_value": float(match[1]), "unit": "a"}
            return


def _diagnoses(comments: tuple[str, ...]) -> Iterator[Row]:
    """`Dx: 426783006,164889003`, the SNOMED CT codes of the PhysioNet/CinC Challenges 2020 and 2021."""
    for comment in comments:
        if match := _DIAGNOSES.fullmatch(comment):
            for value in (part.strip() for part in match[1].split(",")):
                if value and value.lower() not in {"unknown", "nan", "none"}:
                    code = f"SNOMED//{value}" if _SNOMED.fullmatch(value) else f"LOCAL//{value.lower()[:80]}"
                    yield {"code": code}
