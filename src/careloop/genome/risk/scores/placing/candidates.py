"""Where a score's variants may be among the genotypes': by position, then by id, the best fit of alleles for each."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from careloop.genome.files.contigs import canonical_contig
from careloop.genome.risk.scores.pgs_file import ScoreFile
from careloop.genome.risk.scores.placing.fitting import KINDS, fit
from careloop.ingest.assemblies import builds_in_words

MIN_SHARED_IDS = 20  # below this many ids in both, nothing is said about positions
MIN_AGREEING = 0.5  # positions of another build agree by chance in none
_FROM_GENOTYPES = ("variant", "contig", "ref", "alt", "third_alleles")


@dataclass(frozen=True)
class Found:
    """What was found, and whether `by_id_only`, since positions are on another build.

    `table`: a score's rows in order with `variant`, `contig`, `ref`, `alt`, `third_alleles` (whether the site has
    further alleles), `fit` (place in `KINDS`), `kind`, `found_by` and `seen` (whether a variant is there at all).
    """

    table: pl.DataFrame
    by_id_only: bool
    notes: tuple[str, ...]


def find_candidates(score: ScoreFile, variants: pl.DataFrame, build: str | None) -> Found:
    """Find each row's variant; `build` is that of the genotypes, None where it is not known."""
    rows = score.variants.with_row_index("row")
    genotyped = _genotyped(variants)
    apart = _apart(rows, genotyped, score, build)
    best, seen = _nothing(rows), pl.Series("row", [], rows["row"].dtype)
    if not apart:
        placed = rows.filter(pl.col("position").is_not_null()).join(
            genotyped, left_on=["chromosome", "position"], right_on=["contig", "at"], how="inner"
        )
        best, seen = _best(placed.with_columns(contig="chromosome"), "position")
    missed = rows.filter(pl.col("variant_id").is_not_null()).join(best.select("row"), on="row", how="anti")
    named = missed.join(genotyped.filter(pl.col("id") != "."), left_on="variant_id", right_on="id", how="inner")
    by_id, seen_by_id = _best(named, "id")
    best, seen = pl.concat([best, by_id]), pl.concat([seen, seen_by_id])
    table = rows.join(best, on="row", how="left", maintain_order="left").with_columns(
        pl.col("row").is_in(seen.implode()).alias("seen"),
        pl.col("fit").replace_strict(dict(enumerate(KINDS)), default=None, return_dtype=pl.String).alias("kind"),
    )
    return Found(table.drop("row"), bool(apart), tuple([apart] if apart else []) + _several(best))


def _genotyped(variants: pl.DataFrame) -> pl.DataFrame:
    """Variants by the plain names of their chromosomes, with whether their site has further alternative alleles."""
    plain = {name: canonical_contig(name) for name in variants["contig"].unique().drop_nulls()}
    table = variants.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("variant"),
        pl.col("contig").replace({**plain, "XY": "X"}),
        pl.col("position").alias("at"),
        pl.col("variant_id").alias("id"),
        pl.col("ref").str.to_uppercase(),
        pl.col("alt").str.to_uppercase(),
    )
    if (table["at"].diff() == 0).any() or not table["at"].is_sorted():
        return table.with_columns(third_alleles=pl.col("alt").n_unique().over("contig", "at", "ref") > 1)
    return table.with_columns(third_alleles=pl.lit(value=False))


def _apart(rows: pl.DataFrame, genotyped: pl.DataFrame, score: ScoreFile, build: str | None) -> str:
    """In words why positions of score and genotypes cannot be compared, empty where they can."""
    theirs = next(iter(builds_in_words(build)), build) if build else None
    if theirs and score.build:
        return (
            f"the score's positions are on {score.build}, the genotypes on {theirs}: variants are found by id alone"
            if theirs != score.build
            else ""
        )
    both = rows.filter(pl.col("position").is_not_null()).join(
        genotyped.filter(pl.col("id") != "."), left_on="variant_id", right_on="id", how="inner"
    )
    if both.height < MIN_SHARED_IDS:
        return ""
    same = (both["position"] == both["at"]) & (both["chromosome"] == both["contig"])
    agreeing = int(same.sum()) / both.height
    if agreeing >= MIN_AGREEING:
        return ""
    return (
        f"{100 * agreeing:.0f} % of {both.height:,} ids in score and genotypes have one position in both: they are on "
        "different builds, and variants are found by id alone"
    )


def _best(joined: pl.DataFrame, found_by: str) -> tuple[pl.DataFrame, pl.Series]:
    """The best fit of each row, first in the file among equals, with how many are equal; and all rows with any."""
    fitted = joined.with_columns(fit=fit())
    fits = fitted.filter(pl.col("fit").is_not_null())
    if not fits["row"].is_unique().all():
        fits = fits.sort("row", "fit", "variant").with_columns(equal=pl.len().over("row", "fit", "ref", "alt"))
        fits = fits.unique("row", keep="first", maintain_order=True)
    else:
        fits = fits.with_columns(equal=pl.lit(1))
    fits = fits.select("row", *_FROM_GENOTYPES, pl.col("fit", "equal").cast(pl.Int64), found_by=pl.lit(found_by))
    return fits, fitted["row"].unique()


def _nothing(rows: pl.DataFrame) -> pl.DataFrame:
    types = (pl.Int64(), pl.String(), pl.String(), pl.String(), pl.Boolean())
    found = dict(zip(_FROM_GENOTYPES, types, strict=True))
    judged = {"fit": pl.Int64(), "equal": pl.Int64(), "found_by": pl.String()}
    return pl.DataFrame(schema={"row": rows["row"].dtype, **found, **judged})


def _several(best: pl.DataFrame) -> tuple[str, ...]:
    several = int((best["equal"] > 1).sum())
    return (f"{several:,} variants are in the genotypes more than once; the first is taken",) if several else ()
