"""What became of a delivery: rows read, kept, skipped and rejected with reasons, events added, codes mapped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Rows of a source and what became of them: rows_read = rows_kept + rejected + skipped, all by reason.

    `mapped` are events with a code of a standard terminology, `unmapped` those with the hospital's own.
    """

    rows_read: int = 0
    rows_kept: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    mapped: int = 0
    unmapped: int = 0

    @property
    def rows_rejected(self) -> int:
        """Rows that could not be read."""
        return sum(self.reasons.values())

    @classmethod
    def total(cls, parts: Iterable[Counts]) -> Counts:
        """The sum of the counts of several sources."""
        found = list(parts)
        reasons, skipped = Counter[str](), Counter[str]()
        for part in found:
            reasons.update(part.reasons)
            skipped.update(part.skipped)
        sums = (sum(getattr(part, name) for part in found) for name in ("rows_read", "rows_kept", "mapped", "unmapped"))
        rows_read, rows_kept, mapped, unmapped = sums
        return cls(rows_read, rows_kept, _by_count(reasons), _by_count(skipped), mapped, unmapped)

    @classmethod
    def read(cls, file: Path) -> Counts:
        """The counts as `write` left them."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write the counts as JSON."""
        file.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True)
class IngestSummary:
    """A delivery in numbers.

    `events_removed` were replaced by newer versions or withdrawn (a replaced event counts in both). `rejects_file`
    holds the rejected rows, as JSON lines with source, place, reason and the row as it came; it is patient data.
    `delivered_before`: the same delivery is in the record already, nothing was done.
    """

    counts: Counts
    events_added: int
    events_removed: int
    record_version: int
    sources: int
    rejects_file: str | None = None
    delivered_before: bool = False

    def again(self, record_version: int) -> IngestSummary:
        """The summary of the same delivery once more."""
        return replace(self, events_added=0, events_removed=0, record_version=record_version, delivered_before=True)

    @classmethod
    def read(cls, file: Path) -> IngestSummary:
        """The summary as `write` left it."""
        content = json.loads(file.read_text(encoding="utf-8"))
        return cls(counts=Counts(**content.pop("counts")), **content)

    def write(self, file: Path) -> None:
        """Write the summary as JSON, whole or not at all."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")
        draft.rename(file)

    def to_json(self) -> dict[str, Any]:
        """The summary as one flat JSON object."""
        counts = self.counts
        return {
            "rows_read": counts.rows_read,
            "rows_kept": counts.rows_kept,
            "rows_rejected": counts.rows_rejected,
            "reasons": dict(counts.reasons),
            "rows_skipped": sum(counts.skipped.values()),
            "skipped": dict(counts.skipped),
            "events_mapped": counts.mapped,
            "events_unmapped": counts.unmapped,
            "events_added": self.events_added,
            "events_removed": self.events_removed,
            "record_version": self.record_version,
            "sources": self.sources,
            "rejects_file": self.rejects_file,
            "delivered_before": self.delivered_before,
        }

    @property
    def text(self) -> str:
        """The summary in a few lines."""
        counts = self.counts
        if self.delivered_before:
            return f"Delivered before: nothing changed, the record is at version {self.record_version}."
        changed = f"{self.events_added:,} events added" + (
            f", {self.events_removed:,} replaced or removed" if self.events_removed else ""
        )
        lines = [
            f"{changed}; the record is at version {self.record_version}.",
            f"{counts.rows_read:,} rows read: {counts.rows_kept:,} kept, {sum(counts.skipped.values()):,} with nothing"
            f" to store, {counts.rows_rejected:,} rejected.",
            *_reasons("Rejected", counts.reasons),
            *_reasons("Nothing to store", counts.skipped),
        ]
        if counts.mapped + counts.unmapped:
            share = counts.mapped / (counts.mapped + counts.unmapped)
            lines.append(f"{share:.0%} of events have a code of a standard terminology, the others a local one.")
        if self.rejects_file:
            lines.append(f"Rejected rows, to mend and deliver again (patient data): {self.rejects_file}")
        return "\n".join(lines)


SHOWN_REASONS = 8


def _reasons(title: str, reasons: Mapping[str, int]) -> list[str]:
    shown = [f"  {title}: {reason} ({count:,})" for reason, count in list(reasons.items())[:SHOWN_REASONS]]
    rest = len(reasons) - SHOWN_REASONS
    return [*shown, f"  {title}: {rest} more reasons, see --json"] if rest > 0 else shown


def _by_count(counter: Counter[str]) -> dict[str, int]:
    """Most frequent first, equal ones by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
