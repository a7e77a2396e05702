"""An EDF, EDF+ or BDF header as a recording: 256 bytes, and 256 a signal, of fixed-width text.

Read here rather than with edfio, which loads all samples of a BDF file and maps those of an EDF file: a header is
enough, and a file may be a day of EEG. The tests compare the two. Kemp et al. 1992, Electroenceph Clin Neurophysiol
82:391 (EDF); Kemp and Olivan 2003, Clin Neurophysiol 114:1755 (EDF+); www.biosemi.com/faq/file_format.htm (BDF).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, time, tzinfo
from typing import BinaryIO

from careloop.ingest.waveforms.recording import Recording, Signal

_BLOCK = 256
MAX_SIGNALS = 9_999  # the field has four digits
# Widths of a signal's fields: each field is written for all signals before the next one begins.
_WIDTHS = {"label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8, "digital_min": 8,
           "digital_max": 8, "prefilter": 80, "samples": 8, "reserved": 32}  # fmt: skip
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_PLUS_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_ANNOTATIONS = {"EDF Annotations", "BDF Annotations"}
_SEX = {"F": "GENDER//F", "M": "GENDER//M"}
_TIME_LIMIT_S = 1e9  # thirty years: what is longer is no recording


def read_edf(file: BinaryIO, name: str, size: int, zone: tzinfo) -> Recording | str:
    """Return the recording of a file of `size` bytes, or the reason why its header cannot be read."""
    head = file.read(_BLOCK)
    if len(head) < _BLOCK:
        return "file ends early: no whole header"
    if not is_edf(head):
        return "not EDF or BDF: the first eight bytes name neither"
    text = head.decode("latin-1")
    counts = [_integer(text[start:end]) for start, end in ((184, 192), (236, 244), (252, 256))]
    header_bytes, records, signals = counts
    length = _decimal(text[244:252])
    if header_bytes is None or records is None or signals is None or length is None or length < 0:
        return "header counts are not numbers (bytes, data records, duration of one, signals)"
    if not 0 < signals <= MAX_SIGNALS or header_bytes != _BLOCK * (signals + 1):
        return "the number of signals and the size of the header disagree"
    rest = file.read(_BLOCK * signals)
    if len(rest) < _BLOCK * signals:
        return "file ends early: no whole header"
    fields = _fields(rest, signals)
    samples = [_integer(value) for value in fields["samples"]]
    if any(count is None or count <= 0 for count in samples):
        return "samples in a data record are not a positive number"
    record_bytes = sum(count or 0 for count in samples) * (3 if head[0] == 0xFF else 2)
    there = max(size - header_bytes, 0) // record_bytes
    whole = there if records < 0 else min(records, there)  # -1: the recording was never closed
    plus = text[192:197] in {"EDF+C", "EDF+D", "BDF+C", "BDF+D"}
    code, sex, birth = _patient(text[8:88], plus)
    described = _signals(fields, [count or 0 for count in samples], length)
    if isinstance(described, str):
        return described
    return Recording(
        name=name,
        signals=tuple(described),
        start=_start(text, plus, zone),
        duration_s=min(whole * length, _TIME_LIMIT_S),
        patient=code,
        note=f"cut off: {whole} of {records} data records" if 0 <= whole < records else "",
        birth=birth,
        static=sex,
    )


def is_edf(head: bytes) -> bool:
    """True where a file begins with EDF's version 0 or BDF's signature."""
    return head[:8] == b"0       " or head[:8] == b"\xffBIOSEMI"


def _fields(rest: bytes, signals: int) -> dict[str, list[str]]:
    fields, place = {}, 0
    text = rest.decode("latin-1").replace("\0", " ")
    for name, width in _WIDTHS.items():
        fields[name] = [text[place + i * width : place + (i + 1) * width].strip() for i in range(signals)]
        place += width * signals
    return fields


def _signals(fields: dict[str, list[str]], samples: list[int], length: float) -> list[Signal] | str:
    signals = []
    for i, label in enumerate(fields["label"]):
        if label in _ANNOTATIONS:
            continue
        limits = [_decimal(fields[name][i]) for name in ("physical_min", "physical_max", "digital_min", "digital_max")]
        low, high, digital_low, digital_high = (value if value is not None else math.nan for value in limits)
        span = high - low
        gain = (digital_high - digital_low) / span if span else math.nan
        hertz = samples[i] / length if length else 0.0
        signals.append(Signal(label, hertz, fields["unit"][i], gain if math.isfinite(gain) else 0.0))
    return signals


def _patient(text: str, plus: bool) -> tuple[str, tuple[str, ...], datetime | None]:
    """The patient's code, sex and birth date. Plain EDF does not say what its text means: it is the code as a whole.

    A name, the fourth part in EDF+, is never kept.
    """
    text = text.replace("\0", " ").strip()
    if not plus:
        return ("" if set(text) <= {"X", " "} else text), (), None
    code, sex, birth = [*text.split(), "X", "X", "X"][:3]
    found = (_SEX[sex.upper()],) if sex.upper() in _SEX else ()
    return ("" if code == "X" else code), found, _plus_date(birth, UTC)


def _plus_date(text: str, zone: tzinfo) -> datetime | None:
    match = _PLUS_DATE.fullmatch(text)
    if not match or match[2].upper() not in _MONTHS:
        return None
    try:
        return datetime(int(match[3]), _MONTHS.index(match[2].upper()) + 1, int(match[1]), tzinfo=zone)
    except ValueError:
        return None


def _start(text: str, plus: bool, zone: tzinfo) -> datetime | None:
    """Start from `dd.mm.yy` (1985 to 2084) and `hh.mm.ss`; EDF+ has the whole year in the recording field."""
    try:
        day, month, year = (int(part) for part in text[168:176].strip().split("."))
        hour, minute, second = (int(part) for part in text[176:184].strip().split("."))
        clock = time(hour, minute, min(second, 59))
        date = datetime(year + (1900 if year >= 85 else 2000), month, day, tzinfo=zone)
        words = text[88:168].split()
        if plus and words[:1] == ["Startdate"] and len(words) > 1:
            date = _plus_date(words[1], zone) or date
        if plus and words[1:2] == ["X"] and (day, month, year) == (1, 1, 85):
            return None  # EDF+ section 2.1.3.3: what an anonymised file has instead of its date
        return datetime.combine(date, clock, tzinfo=zone).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r" *[+-]?[0-9]{1,8} *", text) else None


def _decimal(text: str) -> float | None:
    try:
        value = float(text.replace("\0", " ").replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
