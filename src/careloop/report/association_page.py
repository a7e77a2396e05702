"""The page of an association study: where on the genome P values are small, against chance, and the leading variants.

One self-contained HTML file without scripts. An association is no cause, and its effect is that of one more copy of the
allele in the people analysed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import careloop
from careloop.genome.association.summary_statistics import p_text
from careloop.record.whole_file import write_whole
from careloop.report.association_pictures import manhattan_picture, qq_picture
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, figure, template

LOCUS_BASES = 500_000  # on either side of a leading variant, others are of the same locus
MOST_LOCI = 20
SUGGESTIVE = 1e-5


def write_association_page(
    table: pl.DataFrame,
    path: Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    lambda_gc: float | None = None,
) -> None:
    """Write `association_page` as HTML in UTF-8 to `path`, whole or not at all."""
    write_whole(path, association_page(table, title=title, facts=facts, notes=notes, lambda_gc=lambda_gc))


def association_page(
    table: pl.DataFrame,
    *,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    lambda_gc: float | None = None,
) -> str:
    """The page as HTML text, from a table in the columns of `summary_statistics.STATISTICS`.

    `facts` (name, value) and `notes` say what was analysed; where data are simulated, a note must say so.
    """
    leading = leading_rows(table)
    errors: Mapping[str, int] = dict(table["error"].drop_nulls().value_counts().sort("error").iter_rows())
    tested = table["p_value"].len() - table["p_value"].null_count()
    return template("association_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        software=f"careloop {careloop.__version__}",
        title=title,
        facts=[*facts, *_counts(table, tested, lambda_gc)],
        notes=notes,
        manhattan=manhattan_picture(table, named=leading),
        qq=qq_picture(table["neg_log_10_p_value"].fill_null(np.nan).to_numpy(), lambda_gc),
        leading=[_leading(table.row(row, named=True)) for row in leading],
        suggestive=f"{SUGGESTIVE:g}",
        locus=f"{LOCUS_BASES:,}",
        errors=[(error, f"{count:,}") for error, count in errors.items()],
    )


def leading_rows(table: pl.DataFrame) -> list[int]:
    """Rows of the smallest P below 1e-5 that are not within 500,000 bases of a smaller one, the smallest first."""
    rows = table.with_row_index("row").filter(pl.col("p_value") < SUGGESTIVE)
    rows = rows.sort("neg_log_10_p_value", descending=True, maintain_order=True)
    found: list[int] = []
    taken: dict[str, list[int]] = {}
    for row, name, position in rows.select("row", "chromosome", "base_pair_location").iter_rows():
        near = taken.setdefault(name or "", [])
        if position is None or all(abs(position - other) > LOCUS_BASES for other in near):
            found.append(row)
            near += [] if position is None else [position]
        if len(found) == MOST_LOCI:
            break
    return found


def _counts(table: pl.DataFrame, tested: int, lambda_gc: float | None) -> list[tuple[str, str]]:
    significant = int((table["p_value"] < 5e-8).sum())
    rows = [("Variants tested", f"{tested:,} of {table.height:,}"), ("P below 5e-8", f"{significant:,}")]
    if lambda_gc is not None:
        rows.append(("Lambda GC", f"{lambda_gc:.3f} (1 without inflation)"))
    return rows


def _leading(row: Mapping[str, Any]) -> Row:
    place = "" if row["base_pair_location"] is None else f"{row['chromosome']}:{row['base_pair_location']:,}"
    beta, error = row["beta"], row["standard_error"]
    half = None if beta is None or error is None else 1.96 * error
    frequency = row["effect_allele_frequency"]
    return {
        "name": row["variant_id"] or "",
        "place": place,
        "alleles": f"{row['effect_allele']} against {row['other_allele'] or '?'}",
        "frequency": "" if frequency is None else f"{frequency:.3f}",
        "effect": "" if beta is None else figure(beta),
        "interval": "" if half is None else f"{figure(beta - half)} to {figure(beta + half)}",
        "p": p_text(row["neg_log_10_p_value"]),
        "n": "" if row["n"] is None else f"{row['n']:,}",
    }
