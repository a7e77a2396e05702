"""The page of an association study shows each locus once, every count, and pictures that stay small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from careloop.genome.association.summary_statistics import STATISTICS
from careloop.report.association_page import association_page, leading_rows, write_association_page
from careloop.report.association_pictures import manhattan_picture, qq_picture


def statistics(count: int = 5_000) -> pl.DataFrame:
    """Simulated P values without association but for two loci."""
    random = np.random.default_rng(2)
    p = random.random(count)
    p[1_000], p[1_001], p[4_000] = 1e-12, 1e-10, 1e-320
    rows = {
        "chromosome": ["1"] * (count // 2) + ["X"] * (count - count // 2),
        "base_pair_location": 1_000 * np.arange(1, count + 1),
        "effect_allele": "A",
        "other_allele": "G",
        "beta": random.normal(size=count),
        "standard_error": 0.1,
        "effect_allele_frequency": 0.25,
        "p_value": p,
        "neg_log_10_p_value": np.where(p == 0, 320, -np.log10(np.maximum(p, 1e-322))),
        "variant_id": [f"<rs{at}>" for at in range(count)],
        "n": 1_000,
        "test": "ADD",
        "error": None,
    }
    table = pl.DataFrame(rows).cast(STATISTICS)  # type: ignore[arg-type]
    nothing = pl.lit(None, pl.Float64)
    gone = table.head(3).with_columns(
        p_value=nothing, neg_log_10_p_value=nothing, beta=nothing, error=pl.lit("CONST_ALLELE")
    )
    return pl.concat([table, gone])


def test_each_locus_has_one_leading_variant_the_smallest_p_first() -> None:
    assert leading_rows(statistics())[:2] == [4_000, 1_000]


def test_the_page_escapes_names_and_counts_what_was_tested(tmp_path: Path) -> None:
    write_association_page(
        statistics(), tmp_path / "page.html", title="trait <b>", notes=["Simulated data."], lambda_gc=1.01
    )
    page = (tmp_path / "page.html").read_text()
    assert "trait &lt;b&gt;" in page
    assert "<rs4000>" not in page
    assert "5,000 of 5,003" in page
    assert "1.00e-320" in page
    assert "CONST_ALLELE" in page
    assert "Simulated data." in page
    assert "not for clinical use" in page.lower()
    assert "<script" not in page


def test_pictures_of_many_variants_stay_small() -> None:
    """Fifty times as many points fill the same places."""
    random = np.random.default_rng(3)
    table = statistics(250_000)
    assert len(manhattan_picture(table)) < 700_000
    assert len(qq_picture(-np.log10(random.random(1_000_000)), 1.0)) < 400_000


def test_nothing_tested_is_a_page_too() -> None:
    page = association_page(statistics().tail(3), title="trait")
    assert "No variant has a P value below" in page
    assert "0 of 3" in page
