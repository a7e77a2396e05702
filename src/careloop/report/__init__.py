"""Reports: one HTML page with tables and charts, of a run from its folder's plain results, or of a record's quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from careloop.clean import QualityReport


def write_report(run: Path, path: Path) -> None:
    """Write the report of the run folder `run` to `path`; matplotlib loads here, on first use."""
    from careloop.report.report import write_report as write

    write(run, path)


def write_quality(
    report: QualityReport, path: Path, *, audience: Literal["internal", "shared"] = "internal", smallest_cell: int = 11
) -> None:
    """Write a record's quality report (`careloop.clean.check_record`) to `path`; matplotlib loads here, on first use.

    A page that is "shared" has no single events and no counts of fewer than `smallest_cell` patients.
    """
    from careloop.report.quality import write_quality as write

    write(report, path, audience=audience, smallest_cell=smallest_cell)


def quality_summary(report: QualityReport) -> str:
    """Return a record's quality report as text for a terminal; it names no patient."""
    from careloop.report.quality import quality_summary as summary

    return summary(report)


__all__ = ["quality_summary", "write_quality", "write_report"]
