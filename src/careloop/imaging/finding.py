"""What a check found in a series of images, and the refusal of a series that must not be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from careloop import InputError

Verdict = Literal["noted", "handled", "refused"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check found: `noted` changes nothing, `handled` was put right, `refused` stops the series.

    `check` is the name of the check (`missing slices`); `message` says in one sentence what was found, where, and what
    was done or is to be done. Neither holds patient data.
    """

    check: str
    verdict: Verdict
    message: str


SIMULATED = Finding("simulated", "noted", "these images were simulated; they show no patient")


class RefusedSeriesError(InputError):
    """A series that must not be used; `findings` holds every finding, those that refuse it among them."""

    def __init__(self, where: str, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        reasons = "; ".join(f"{f.check}: {f.message}" for f in self.findings if f.verdict == "refused")
        super().__init__(f"{where} cannot be used: {reasons}")
