"""How a score's alleles fit a variant's: as written, swapped, on the other strand, or not at all."""

from __future__ import annotations

import polars as pl

SAME = "effect allele is alt"
SWAPPED = "effect allele is ref"
STRAND = "other strand, effect allele is alt"
STRAND_SWAPPED = "other strand, effect allele is ref"
KINDS = (SAME, SWAPPED, STRAND, STRAND_SWAPPED)  # the best first
UNKNOWN_ALLELE = "."  # a variant of which nobody has a second allele
_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def fit() -> pl.Expr:
    """The place in `KINDS` for columns `effect_allele`, `other_allele` (null: not known), `ref` and `alt`, else null.

    The other strand is looked at for single bases only: a longer allele has another anchoring base there. An `alt` that
    nobody has may be either allele of the score.
    """
    effect, other = pl.col("effect_allele"), pl.col("other_allele")
    turned, turned_other = complement(effect), complement(other)
    nobody = pl.col("alt") == UNKNOWN_ALLELE
    return pl.coalesce(
        pl.when(_pair(effect, other, "alt", "ref")).then(0),
        pl.when(nobody & (other == pl.col("ref"))).then(0),
        pl.when(_pair(effect, other, "ref", "alt")).then(1),
        pl.when(nobody & (effect == pl.col("ref"))).then(1),
        pl.when(_pair(turned, turned_other, "alt", "ref") & _turns(other, turned_other)).then(2),
        pl.when(_pair(turned, turned_other, "ref", "alt") & _turns(other, turned_other)).then(3),
    )


def ambiguous() -> pl.Expr:
    """Whether `ref` and `alt` are each other's complement, so that no letter tells the strand."""
    return (complement(pl.col("ref")) == pl.col("alt")).fill_null(value=False)


def complement(base: pl.Expr) -> pl.Expr:
    """The base on the other strand, null for longer alleles."""
    return base.replace_strict(_COMPLEMENT, default=None, return_dtype=pl.String)


def _pair(effect: pl.Expr, other: pl.Expr, first: str, second: str) -> pl.Expr:
    return (effect == pl.col(first)) & (other == pl.col(second)).fill_null(other.is_null())


def _turns(other: pl.Expr, turned_other: pl.Expr) -> pl.Expr:
    """Whether the other allele, where there is one, is a single base too."""
    return other.is_null() | turned_other.is_not_null()
