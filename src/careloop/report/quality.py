"""The data quality report as one self-contained page, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from careloop import __version__
from careloop.clean.checks.codes import KINDS
from careloop.clean.checks.results import CheckResult, CodeCount, Distribution, Part, QualityReport
from careloop.clean.checks.volume import Feed
from careloop.clean.privacy.cells import SMALLEST, hide_small_cells
from careloop.report import charts, quality_charts
from careloop.report.summary import table

Audience = Literal["internal", "shared"]
URGENCY = {
    1: ("Makes figures wrong", "Mend these before anything is computed."),
    2: ("Loses information", "Results stand, but weaker than they could be."),
    3: ("Worth knowing", "Often how the source works, not a fault."),
}
CATEGORY = {
    ("conformance", "value"): "Conformance: values",
    ("conformance", "relational"): "Conformance: relations",
    ("conformance", "computational"): "Conformance: computations",
    ("completeness", ""): "Completeness",
    ("plausibility", "uniqueness"): "Plausibility: uniqueness",
    ("plausibility", "atemporal"): "Plausibility: values",
    ("plausibility", "temporal"): "Plausibility: times",
}
MOST_FEEDS, MOST_PARTS, NAMED_PARTS = 8, 12, 2


@dataclass(frozen=True)
class Fault:
    """A failed check in words: what is wrong, where, how much, and what to do."""

    result: CheckResult
    what: str
    where: str
    much: str
    remedy: str


def write_quality(
    report: QualityReport, path: Path, *, audience: Audience = "internal", smallest_cell: int = SMALLEST
) -> None:
    """Write the report to `path` as one HTML file that loads nothing.

    In the overview, groups of fewer than `smallest_cell` patients are never given. For "shared" the same holds for
    every count, and single events are left out; for "internal" failed checks show examples from the record.
    """
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "commands": _commands,
        "time": lambda time: "" if time is None else f"{time:%Y-%m-%d %H:%M}",
    }
    number = _count if audience == "internal" else _hidden(smallest_cell)
    with charts.style():
        drawn = _charts(report, 0 if audience == "internal" else smallest_cell, smallest_cell)
    page = environment.get_template("quality.html.j2").render(
        version=__version__,
        report=report,
        audience=audience,
        smallest=smallest_cell,
        faults=[fault(result, number) for result in report.failures],
        urgencies=URGENCY,
        categories=CATEGORY,
        heat=_heat(report),
        kinds=[kind for kind in KINDS if any(cell.kind == kind for cell in report.cells)],
        years=_years(report, smallest_cell),
        codes=[_code(code, smallest_cell) for code in report.overview.frequent],
        number=number,
        most_parts=MOST_PARTS,
        shown_feeds=len(_feeds(report)),
        charts=drawn,
    )
    path.write_text(page, encoding="utf-8")


def quality_summary(report: QualityReport) -> str:
    """The report as text for a terminal: what fails, worst first, and what passes; nothing about single patients."""
    seen = report.overview
    passed, failed, unasked = (report.count(status) for status in ("pass", "fail", "not applicable"))
    lines = [
        f"{seen.events:,} events of {seen.patients:,} patients, {seen.codes:,} codes: {failed} checks fail, "
        f"{passed} pass, {unasked} not applicable."
    ]
    for urgency, (title, advice) in URGENCY.items():
        faults = [fault(result, _count) for result in report.failures if result.check.urgency == urgency]
        rows = [(f.what, f.where, f.much, f.remedy) for f in faults]
        if rows:
            lines.append(table(["what is wrong", "where", "how much", "what to do"], rows, title=f"{title}. {advice}"))
    lines.append(table(["area", "pass", "fail", "not applicable"], _by_area(report), title="Checks by area."))
    passing = [result.check.id for result in report.checks if result.status == "pass"]
    lines += [f"Passed: {', '.join(passing) or 'none'}.", "Research software, not for clinical use."]
    return "\n".join(lines)


def _by_area(report: QualityReport) -> list[tuple[str, str, str, str]]:
    """Each area's checks that pass, fail and could not be judged, counted once each."""
    rows = []
    for key, name in CATEGORY.items():
        found = [result.status for result in report.checks if (result.check.category, result.check.subcategory) == key]
        passed, failed, unasked = (str(found.count(status)) for status in ("pass", "fail", "not applicable"))
        rows.append((name, passed, failed, unasked))
    return rows


def fault(result: CheckResult, number: Callable[[int, int | None], str]) -> Fault:
    """A failed check in words; `number` writes a count of so many patients."""
    failed = [part for part in result.parts if part.status == "fail"]
    violated, checked, patients = result.violated, result.checked, result.patients
    if failed and result.check.by != "record":
        violated, checked = sum(part.violated for part in failed), sum(part.checked for part in failed)
        if violated < result.violated:
            # Patients of several codes may be the same ones; of one code they are counted.
            patients = failed[0].patients if len(failed) == 1 else None
    counted = result.check.counted
    count = number(violated, patients if counted != "months" else violated)
    share = f" ({percent(violated / checked)})" if count == f"{violated:,}" else ""
    much = f"{count} of {checked:,} {counted}{share}"
    if counted == "events" and patients is not None:
        much += f", {number(patients, patients)} patients"
    what = result.check.fault[0].upper() + result.check.fault[1:]
    return Fault(result, what, _where(result, failed), much, result.check.remedy)


def percent(share: float | None) -> str:
    """A share in per cent, small ones not as zero."""
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "under 0.1\u00a0%"
    return f"{100 * share:.{1 if 0 < share < 0.1 else 0}f}\u00a0%"


def suppressed(counts: Sequence[int], smallest: int) -> list[int | None]:
    """Return the counts without small ones, and without those from which, with the total, a small one follows."""
    cells = pl.DataFrame({"count": counts}, schema={"count": pl.Int64()})
    return hide_small_cells(cells, "count", smallest=smallest)["count"].to_list()


def _where(result: CheckResult, failed: Sequence[Part]) -> str:
    if not failed:
        return ""
    if result.check.by == "feed":
        named = [f"{part.name} ({part.note})" for part in failed[:NAMED_PARTS]]
    else:
        # Which codes of a kind is said below, unless it is the only one.
        lone = result.check.by != "kind" or len(failed) == 1
        named = [_named(part) if lone else part.name for part in failed[:NAMED_PARTS]]
    more = len(failed) - len(named)
    words = {"code": "codes", "kind": "kinds", "feed": "feeds", "record": "codes"}[result.check.by]
    return "; ".join(named) + (f"; and {more} more {words}" if more else "")


def _named(part: Part) -> str:
    name = f"{part.description} ({part.name})" if part.description else part.name
    return f"{name}: {part.note}" if part.note else name


def _count(count: int, patients: int | None) -> str:
    return f"{count:,}"


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _commands(text: str) -> Markup:
    """The text with what stands in backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _hidden(smallest: int) -> Callable[[int, int | None], str]:
    def write(count: int, patients: int | None) -> str:
        few = count if patients is None else min(count, patients)
        return f"fewer than {smallest}" if 0 < few < smallest else f"{count:,}"

    return write


def _heat(report: QualityReport) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    table: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for cell in report.cells:
        table.setdefault((cell.category, cell.subcategory), {})[cell.kind] = (cell.passed, cell.judged)
    return table


def _years(report: QualityReport, smallest: int) -> tuple[list[int], dict[str, dict[int, str]]]:
    """Events by vocabulary and year in words; cells of few patients are not given."""
    cells = report.overview.years
    kept = suppressed([cell.patients for cell in cells], smallest)
    rows: dict[str, dict[int, str]] = {}
    for cell, patients in zip(cells, kept, strict=True):
        rows.setdefault(cell.vocabulary, {})[cell.year] = "few" if patients is None else f"{cell.events:,}"
    return sorted({cell.year for cell in cells}), rows


def _code(code: CodeCount, smallest: int) -> dict[str, object]:
    few = 0 < code.patients < smallest
    units = ", ".join(f"{unit} {'' if few else format(n, ',')}".strip() for unit, n in code.units)
    return {
        "code": code.code,
        "description": code.description or "",
        "events": f"fewer than {smallest} patients" if few else f"{code.events:,}",
        "patients": "" if few else f"{code.patients:,}",
        "units": units,
        "without_unit": code.without_unit if not few else 0,
        "missing": percent(code.without_unit / code.numeric) if code.numeric and not few else "",
    }


def _feeds(report: QualityReport) -> list[Feed]:
    """The feeds to draw: those with drops, then the largest."""
    ranked = sorted(report.overview.feeds, key=lambda feed: not feed.drops)
    return [feed for feed in ranked if len(feed.counts) > 1][:MOST_FEEDS]


def _charts(report: QualityReport, smallest: int, smallest_group: int) -> dict[str, object]:
    seen, feeds = report.overview, _feeds(report)
    groups = suppressed([group.patients for group in seen.ages], smallest_group)
    ages = [(group.sex, group.age, count) for group, count in zip(seen.ages, groups, strict=True)]
    return {
        "volume": quality_charts.volume(feeds, smallest=smallest) if feeds else "",
        "distributions": [
            (shape, quality_charts.distribution(shape, _title(shape), smallest=smallest))
            for shape in report.distributions
            if shape.counts
        ],
        "pyramid": quality_charts.pyramid(ages) if any(group.age is not None for group in seen.ages) else "",
        "clock": quality_charts.clock(seen.clock, smallest=smallest_group) if any(map(any, seen.clock)) else "",
    }


def _title(shape: Distribution) -> str:
    name = shape.description or shape.code
    return name if len(name) <= 44 else name[:43] + "…"
