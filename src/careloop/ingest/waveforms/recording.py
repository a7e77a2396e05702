"""A recording as its header describes it, and the events it becomes: one a kind of signal, and patient facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from careloop.record import BIRTH

Row = dict[str, Any]
# Types that EDF+ puts first in a label (section 2.2.3 of its list of standard texts).
_EDF_TYPES = ("EEG", "ECG", "EOG", "ERG", "EMG", "MEG", "MCG", "EP", "Temp", "Resp", "SaO2", "Light", "Sound")
_LEAD = re.compile(
    r"(M?(?:LI{0,3}|I{1,3}|CL\d|V\d?R?)|MLI{1,3}|MV\d|AV[RLF]|V[XYZ1-9]R?|[ECK]{2}G\s?\d*)", re.IGNORECASE
)
# A pair of electrodes of the 10-20 system, as in `Fp2-F4` (a single name such as P1 may be a pressure).
_ELECTRODES = re.compile(r"(?:(?:FP|AF|FC|FT|CP|PO|TP|[FCPOTAM])(?:Z|\d{1,2})(?:-|$)){2}", re.IGNORECASE)
DESCRIPTIONS = {"WAVEFORM//ECG": "electrocardiogram", "LOINC//30525-0": "age"}
MAX_TEXT = 500


@dataclass(frozen=True)
class Signal:
    """One signal: its label, samples per second, unit, and steps of the converter per unit (gain)."""

    label: str
    frequency_hz: float
    unit: str
    gain: float


@dataclass(frozen=True)
class Recording:
    """One recording. `start` is null where the header has no date; `patient` is the header's own patient id, if any.

    `facts` are rows (code, numeric_value, unit) that the header states of the patient at that time, `static` are codes
    of what does not change.
    """

    name: str
    signals: tuple[Signal, ...]
    start: datetime | None
    duration_s: float
    patient: str = ""
    note: str = ""
    birth: datetime | None = None
    static: tuple[str, ...] = ()
    facts: tuple[Row, ...] = ()

    def rows(self, start: datetime) -> Iterator[Row]:
        """Yield the events, without patient, source and asset; all is known when the recording ends."""
        kinds: dict[str, list[Signal]] = {}
        for signal in self.signals:
            kinds.setdefault(kind_of(signal.label), []).append(signal)
        place = {"time": start, "known_time": start + timedelta(seconds=self.duration_s)}
        for kind, signals in kinds.items():
            yield {
                **place,
                "code": f"WAVEFORM//{kind}",
                "numeric_value": self.duration_s,
                "unit": "s",
                "text_value": self._described(signals),
                "asset": True,
            }
        yield from ({**place, **fact} for fact in self.facts)
        yield from ({"code": code} for code in self.static)
        if self.birth:
            yield {"code": BIRTH, "time": self.birth}

    def _described(self, signals: list[Signal]) -> str:
        parts = {
            "fs": _each(f"{signal.frequency_hz:g} Hz" for signal in signals),
            "units": _each(signal.unit for signal in signals),
            "gain": _each(f"{signal.gain:g}" for signal in signals if signal.gain),
            "signals": ", ".join(signal.label for signal in signals)[:MAX_TEXT],
        }
        written = "; ".join(f"{name}={value}" for name, value in parts.items() if value)
        return f"{written}; {self.note}" if self.note else written


def kind_of(label: str) -> str:
    """Return ECG for a lead's name, the type that begins an EDF+ label (`EEG Fpz-Cz`), else the label itself."""
    first = label.split(maxsplit=1)[0] if label.split() else ""
    for name in _EDF_TYPES:
        if first.upper() == name.upper():
            return name
    if _ELECTRODES.fullmatch(label.strip()):
        return "EEG"
    return "ECG" if _LEAD.fullmatch(label.strip()) else label.strip().replace("//", "/")[:80] or "unknown"


def _each(values: Iterable[str]) -> str:
    """The distinct values in their order, joined by `/`: one where all signals agree."""
    return "/".join(dict.fromkeys(value for value in values if value))
