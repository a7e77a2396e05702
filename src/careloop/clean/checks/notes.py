"""What a check's counts cannot say of a code or kind: which units, which sentinel, which factor, which time of day."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from careloop.clean.checks.codes import suggested_vocabulary
from careloop.clean.checks.second import Expectations
from careloop.clean.checks.tally import Tally, is_ucum
from careloop.clean.faults.units import ucum

MOST_NAMED = 3


def notes(whole: Tally, expected: Expectations) -> dict[tuple[str, str], str]:
    """Return notes by check and code (or kind)."""
    fixed = expected.fixed
    found: dict[tuple[str, str], list[str]] = {}

    def add(check: str, part: str, text: str) -> None:
        texts = found.setdefault((check, part), [])
        if text not in texts:
            texts.append(text)

    units = whole.units.drop_nulls("unit").group_by("code", "unit").agg(pl.col("events").sum())
    for code, unit, _ in units.sort("code", -pl.col("events"), "unit").rows():
        if not is_ucum(unit):
            meant = ucum(unit)
            add("unit_is_ucum", code, f"{unit} (write {meant})" if meant != unit and is_ucum(meant) else unit)
    for code, unit, is_other in expected.other_units.sort("code", "is_other", "unit").rows():
        add("one_unit_per_code", code, f"also {unit}" if is_other else f"mostly {unit}")
    for row in fixed.units.filter(pl.col("scale").is_null()).iter_rows(named=True):
        add("unit_fits_code", row["code"], f"{row['unit']} cannot be {row['into']}")
    for row in fixed.sentinels.sort("code", -pl.col("count")).iter_rows(named=True):
        add("sentinel_values", row["code"], f"{row['value']:g}")
    for mixture in fixed.mixtures:
        for part in mixture.parts:
            add("unit_mixup", mixture.code, _mixed(part.alternative.name, part.alternative.is_unit, part.share))
    for row in expected.busiest.iter_rows(named=True):
        add("one_clock_time", row["kind"], f"{row['minute'] // 60:02}:{row['minute'] % 60:02} UTC")
    for code in whole.counts.filter(check="vocabulary_known").filter(pl.col("violated") > 0)["code"]:
        right = suggested_vocabulary(code.partition("//")[0]) if "//" in code else None
        add("vocabulary_known", code, f"write {right}//" if right else "no vocabulary")
    return {key: _listed(texts) for key, texts in found.items()}


def _mixed(name: str, is_unit: bool, share: float) -> str:
    return f"{share:.1%} look like {name}" if is_unit else f"{share:.1%} are {name} the others"


def _listed(texts: Iterable[str]) -> str:
    kept = list(texts)
    more = len(kept) - MOST_NAMED
    return ", ".join(kept[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
