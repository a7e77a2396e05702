"""Rows of a score file brought to one form: alleles, a weight for 0, 1 and 2 copies, and why a row cannot be scored."""

from __future__ import annotations

import polars as pl

from careloop.genome.files.contigs import canonical_contig

# One row a variant. `weight_0` to `weight_2` are what 0, 1 and 2 copies of `effect_allele` add to the score; `position`
# counts from 1; ids, places, other alleles and frequencies are null where the file has none.
SCORE_VARIANTS = pl.Schema(
    {
        "line": pl.Int64(),
        "variant_id": pl.String(),
        "chromosome": pl.String(),
        "position": pl.Int64(),
        "effect_allele": pl.String(),
        "other_allele": pl.String(),
        "weight_0": pl.Float64(),
        "weight_1": pl.Float64(),
        "weight_2": pl.Float64(),
        "effect_allele_frequency": pl.Float64(),
    }
)
REJECTS = pl.Schema({"line": pl.Int64(), "reason": pl.String()})
INTERACTION = "interaction of several variants"
HAPLOTYPE = "haplotype or diplotype"
NOT_BASES = "allele is not written in bases"
NO_WEIGHT = "no weight, or one that is no number"
NO_PLACE = "neither an id nor a position"
SAME_ALLELES = "effect and other allele are the same"
TWO_MODELS = "both dominant and recessive"
_BASES = "^[ACGT]+$"


def score_rows(rows: pl.DataFrame, place: tuple[str, str], first_line: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bring rows of text to SCORE_VARIANTS, and those that cannot be scored to REJECTS.

    `place` names the columns of chromosome and position; `first_line` is the line of the first row in its file.
    """
    has = set(rows.columns)
    chromosome, position = place
    other = _text("other_allele", has).str.to_uppercase()
    if "inferred_other_allele" in has:  # several candidates (A/G) say no more than none
        inferred = pl.col("inferred_other_allele").str.to_uppercase()
        other = other.fill_null(pl.when(inferred.str.contains(_BASES)).then(inferred))
    weight = _number("weight", has)
    table = rows.select(
        pl.int_range(first_line, pl.len() + first_line, dtype=pl.Int64).alias("line"),
        pl.coalesce(_text("hm_variant_id", has), _text("variant_id", has)).alias("variant_id"),
        _text(chromosome, has).alias("chromosome"),
        _number(position, has).cast(pl.Int64, strict=False).alias("position"),
        _text("effect_allele", has).str.to_uppercase().alias("effect_allele"),
        other.alias("other_allele"),
        *_weights(weight, has),
        _number("effect_allele_frequency", has).alias("effect_allele_frequency"),
    ).with_columns(_canonical("chromosome"))
    reasons = (
        rows.select(_flagged(has).alias("flagged"))
        .with_columns(table)
        .select(pl.coalesce("flagged", _broken()).alias("reason"))["reason"]
    )
    rejected = reasons.is_not_null()
    if not rejected.any():
        return table.cast(SCORE_VARIANTS), pl.DataFrame(schema=REJECTS)
    rejects = pl.DataFrame({"line": table["line"], "reason": reasons}, schema=REJECTS).filter(rejected)
    return table.filter(~rejected).cast(SCORE_VARIANTS), rejects


def _weights(weight: pl.Expr, has: set[str]) -> list[pl.Expr]:
    """What 0, 1 and 2 copies add: by the row's model, or by its weights of dosages where it has no other."""
    dominant, recessive = _flag("is_dominant", has), _flag("is_recessive", has)
    by_model = [
        weight * 0.0,
        pl.when(recessive).then(0.0 * weight).otherwise(weight),
        pl.when(dominant | recessive).then(weight).otherwise(2 * weight),
    ]
    return [
        pl.coalesce(modelled, _number(name, has)).alias(name)
        for name, modelled in zip(("weight_0", "weight_1", "weight_2"), by_model, strict=True)
    ]


def _flagged(has: set[str]) -> pl.Expr:
    """Why a row's model cannot be scored, null where it can."""
    interaction = _flag("is_interaction", has)
    if "variant_id" in has:
        interaction |= pl.col("variant_id").str.contains("_x_", literal=True).fill_null(value=False)
    haplotype = _flag("is_haplotype", has) | _flag("is_diplotype", has)
    return pl.coalesce(
        pl.when(interaction).then(pl.lit(INTERACTION)),
        pl.when(haplotype).then(pl.lit(HAPLOTYPE)),
        pl.when(_flag("is_dominant", has) & _flag("is_recessive", has)).then(pl.lit(TWO_MODELS)),
    )


def _broken() -> pl.Expr:
    """Why a row's values cannot be scored, null where they can."""
    weights = pl.all_horizontal(pl.col(f"weight_{copies}").is_finite().fill_null(value=False) for copies in range(3))
    bases = pl.col("effect_allele").str.contains(_BASES).fill_null(value=False)
    other = pl.col("other_allele")
    placed = pl.col("variant_id").is_not_null() | (pl.col("chromosome").is_not_null() & (pl.col("position") > 0))
    return pl.coalesce(
        pl.when(~(bases & other.str.contains(_BASES).fill_null(value=True))).then(pl.lit(NOT_BASES)),
        pl.when(pl.col("effect_allele") == other).then(pl.lit(SAME_ALLELES)),
        pl.when(~weights).then(pl.lit(NO_WEIGHT)),
        pl.when(~placed.fill_null(value=False)).then(pl.lit(NO_PLACE)),
    )


def _canonical(column: str) -> pl.Expr:
    """Chromosomes by their plain names."""
    return pl.col(column).map_batches(
        lambda names: names.replace({name: canonical_contig(name) for name in names.unique().drop_nulls()}),
        return_dtype=pl.String,
    )


def _text(name: str, has: set[str]) -> pl.Expr:
    return pl.col(name).str.strip_chars() if name in has else pl.lit(None, pl.String)


def _number(name: str, has: set[str]) -> pl.Expr:
    return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) if name in has else pl.lit(None, pl.Float64)


def _flag(name: str, has: set[str]) -> pl.Expr:
    if name not in has:
        return pl.lit(value=False)
    return pl.col(name).str.strip_chars().str.to_lowercase().is_in(["true", "1", "t", "yes"]).fill_null(value=False)
