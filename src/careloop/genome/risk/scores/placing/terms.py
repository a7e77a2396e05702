"""What is summed up for a score: of each genotyped variant, what 0, 1 and 2 copies of `alt` add."""

from __future__ import annotations

import polars as pl

from careloop.genome.risk.scores.placing.fitting import SAME, STRAND

# `add_0` to `add_2` by copies of `alt`; `counts`: whether it is a variant of the score, or only a further allele there.
TERMS = pl.Schema(
    {
        "variant": pl.Int64(),
        "add_0": pl.Float64(),
        "add_1": pl.Float64(),
        "add_2": pl.Float64(),
        "counts": pl.Boolean(),
    }
)


def terms_of(used: pl.DataFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """The terms of a score's used rows, by ascending variant.

    Where the effect allele is `ref` of a site with further alternative alleles, each of those takes its copies away
    again: a person's copies of `ref` are two less all others.
    """
    as_alt = pl.col("kind").is_in([SAME, STRAND])
    terms = used.select(
        "variant",
        pl.when(as_alt).then("weight_0").otherwise("weight_2").alias("add_0"),
        pl.col("weight_1").alias("add_1"),
        pl.when(as_alt).then("weight_2").otherwise("weight_0").alias("add_2"),
        counts=pl.lit(value=True),
    )
    shared = used.filter(pl.col("third_alleles") & ~as_alt)
    if shared.height:
        terms = pl.concat([terms, _taken_away(shared, variants)])
    return terms.sort("variant").cast(TERMS)


def _taken_away(shared: pl.DataFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """Of each other alternative allele at these sites, the copies that are not `ref`."""
    site = ["contig", "position", "ref"]
    numbered = variants.select("contig", "position", "ref", "alt").with_row_index("variant").cast({"variant": pl.Int64})
    here = shared.select("variant", step=pl.col("weight_1") - pl.col("weight_0")).join(numbered, on="variant")
    others = here.join(numbered, on=site, suffix="_other").filter(pl.col("alt") != pl.col("alt_other"))
    others = others.unique(["variant", *site, "alt_other"], keep="first", maintain_order=True)
    return others.select(
        pl.col("variant_other").alias("variant"),
        add_0=pl.lit(0.0),
        add_1=-pl.col("step"),
        add_2=-2 * pl.col("step"),
        counts=pl.lit(value=False),
    )
