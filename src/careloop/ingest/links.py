"""A table that says which patient a sample or recording is of: columns sample, subject and, where known, time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from careloop import InputError


@dataclass(frozen=True)
class Links:
    """Patient and, where given, time of each sample; `path` is None where there is no table."""

    path: Path | None = None
    subjects: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, datetime] = field(default_factory=dict)

    def subject_of(self, sample: str) -> str | None:
        """The patient of a sample: its own name where there is no table, None where the table lacks it."""
        return sample if self.path is None else self.subjects.get(sample)


def read_links(path: Path | None, *, zone: tzinfo = UTC) -> Links:
    """Read a CSV (comma, semicolon or tab) with columns sample, subject and optionally time (ISO 8601).

    Raises:
        InputError: no such file, a missing column, a row without sample or subject, a sample of two patients, or a
            time that is none.
    """
    if path is None:
        return Links()
    try:
        content = path.read_text(encoding="utf-8-sig", errors="replace").replace("\0", "")
    except OSError:
        raise InputError(f"{path}: the samples file cannot be read; check the path") from None
    subjects: dict[str, str] = {}
    times: dict[str, datetime] = {}
    for number, row in _rows(content, path):
        sample, subject, time = (row.get(name, "") for name in ("sample", "subject", "time"))
        where = f"{path}, row {number}"
        if not sample or not subject:
            raise InputError(f"{where}: sample and subject must not be empty; fill them in or remove the row")
        if subjects.setdefault(sample, subject) != subject:
            raise InputError(f"{where}: a sample is of one subject, this one has two; correct or remove a row")
        if time:
            times[sample] = _time(time, zone, where)
    return Links(path, subjects, times)


def _rows(content: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    lines = content.splitlines()
    head = lines[0] if lines else ""
    delimiter = max(",;\t", key=head.count)
    names = [name.strip().strip('"').lower() for name in head.split(delimiter)]
    missing = [name for name in ("sample", "subject") if name not in names]
    if missing:
        raise InputError(f"{path}: the samples file needs the columns sample and subject, {missing[0]} is missing")
    try:
        for number, cells in enumerate(csv.reader(lines[1:], delimiter=delimiter), start=1):
            if cells:
                yield number, {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
    except csv.Error:
        raise InputError(f"{path}: not a readable CSV file; export it again") from None


def _time(value: str, zone: tzinfo, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: time must be ISO 8601, such as 2026-01-31T09:30:00; correct it") from None
