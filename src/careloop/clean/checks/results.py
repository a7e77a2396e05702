"""The data quality report as plain frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal

from careloop.clean.checks.dashboard import known_as
from careloop.clean.checks.definitions import Check
from careloop.clean.checks.volume import Feed

Status = Literal["fail", "pass", "not applicable"]


@dataclass(frozen=True)
class Example:
    """One event that violates a check; `value` is its number, or its text where the check is about a number as text."""

    code: str
    time: datetime | None
    known_time: datetime | None
    value: float | str | None
    unit: str | None
    source: str | None


@dataclass(frozen=True)
class Part:
    """A check's result in one code, kind of facts or feed; `note` says what the counts cannot."""

    name: str
    description: str | None
    checked: int
    violated: int
    patients: int | None
    status: Status
    note: str
    examples: tuple[Example, ...]

    @property
    def share(self) -> float | None:
        """Violated of checked; None where nothing was checked."""
        return self.violated / self.checked if self.checked else None


@dataclass(frozen=True)
class CheckResult:
    """A check's result in the whole record.

    `patients` are those with any violation (None where it is not counted in events or patients). `parts`, worst first,
    are the codes, kinds or feeds with violations; of `parts_checked` in all, `parts_failed` fail. A check by part fails
    where one of them does, any other where its share of violations is above `threshold`.
    """

    check: Check
    threshold: float
    checked: int
    violated: int
    patients: int | None
    status: Status
    reason: str
    examples: tuple[Example, ...]
    parts: tuple[Part, ...]
    parts_checked: int
    parts_failed: int
    parts_left_out: int

    @property
    def share(self) -> float | None:
        """Violated of checked; None where nothing was checked."""
        return self.violated / self.checked if self.checked else None


@dataclass(frozen=True)
class Cell:
    """Of the checks of one subcategory on one kind of facts that could be judged, how many passed."""

    category: str
    subcategory: str
    kind: str
    passed: int
    judged: int


@dataclass(frozen=True)
class Component:
    """A part of a code's values that looks as if recorded in another unit; bounds in the unit it is labelled with.

    Between the bounds are its values alone, or, where it `overlaps` the others, most of its values among them.
    """

    name: str
    low: float
    high: float
    share: float
    overlaps: bool


@dataclass(frozen=True)
class Distribution:
    """The values of a code: counts between `edges`, those at or below zero, limits, mix-ups, sentinels above zero."""

    code: str
    description: str | None
    unit: str | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    not_positive: int
    low: float | None
    high: float | None
    components: tuple[Component, ...]
    sentinels: tuple[float, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class YearCount:
    """Events and patients of a vocabulary in a year."""

    vocabulary: str
    year: int
    events: int
    patients: int


@dataclass(frozen=True)
class AgeCount:
    """Patients of a sex (F, M, unknown) in ten years of age from `age` at their last event; None: age unknown."""

    sex: str
    age: int | None
    patients: int


@dataclass(frozen=True)
class CodeCount:
    """A frequent code: its events and patients, its units with their numbers of values, values without unit."""

    code: str
    description: str | None
    kind: str
    events: int
    patients: int
    numeric: int
    units: tuple[tuple[str, int], ...]
    without_unit: int


@dataclass(frozen=True)
class Overview:
    """What is in the record; `own_events` are careloop's own (predictions, plans, notes), which no check counts."""

    patients: int
    events: int
    own_events: int
    codes: int
    first: datetime | None
    last: datetime | None
    years: tuple[YearCount, ...]
    ages: tuple[AgeCount, ...]
    frequent: tuple[CodeCount, ...]
    feeds: tuple[Feed, ...]
    clock: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class QualityReport:
    """What `check_record` found: `checks` failures first, most urgent first.

    `written`: when this version of the record was written, which the check of the future goes by.
    """

    record_version: int
    written: datetime
    minimum_rows: int
    overview: Overview
    checks: tuple[CheckResult, ...]
    cells: tuple[Cell, ...]
    distributions: tuple[Distribution, ...]

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that fail, most urgent first."""
        return tuple(check for check in self.checks if check.status == "fail")

    def count(self, status: Status) -> int:
        """How many checks have this status."""
        return sum(check.status == status for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; times in ISO 8601, a check's definition and OHDSI's names beside it."""
        plain = _plain(self)
        for check in plain["checks"]:
            definition = check.pop("check")
            limit = check.pop("threshold")
            check.update(definition | {"threshold": limit, "ohdsi": list(known_as(definition["id"]))})
        counts = {status: self.count(status) for status in ("fail", "pass", "not applicable")}
        return {"checks_by_status": counts, **plain, "not_for_clinical_use": True}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        plain = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return plain | ({"share": value.share} if isinstance(value, Part | CheckResult) else {})
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
