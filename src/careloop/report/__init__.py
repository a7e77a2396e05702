"""The report of a run: one HTML page with tables and charts, made from the run folder's plain results."""

from __future__ import annotations

from pathlib import Path


def write_report(run: Path, path: Path) -> None:
    """Write the report of the run folder `run` to `path`; matplotlib loads here, on first use."""
    from careloop.report.report import write_report as write

    write(run, path)


__all__ = ["write_report"]
