"""The variants that two genotype files have in common, and at which of them they count the other allele."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig

_STRAND = str.maketrans("ACGT", "TGCA")
_PLACE = ["contig", "position"]


@dataclass(frozen=True)
class SharedVariants:
    """Rows of two variants' tables that are one variant, ascending in the first.

    `swapped`: the second's alt is the first's ref, so that its copies count from the other end. `by`: "position" or
    "variant_id". `left_out`: variants of the first that are not used, by reason.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    by: str
    left_out: dict[str, int]


def shared_variants(
    first: pl.DataFrame, second: pl.DataFrame, *, builds: tuple[str | None, str | None]
) -> SharedVariants:
    """Match variants (tables with the columns of VARIANTS) by place and alleles, whichever strand and order.

    They are matched by contig and position, or by id where that finds more and the assemblies are not both known. A
    pair whose alleles are A and T, or C and G, is left out, as their strand cannot be told; so is a variant that
    matches several.

    Raises:
        InputError: the two are known to be on different assemblies.
    """
    if None not in builds and builds[0] != builds[1]:
        raise InputError(f"two genotype files must be on one assembly to be compared; got {builds[0]} and {builds[1]}")
    one, other = _keyed(first), _keyed(second)
    by_place = _matched(one, other, _PLACE)
    found, by = by_place, "position"
    if None in builds:
        by_id = _matched(one.filter(pl.col("variant_id") != "."), other, ["variant_id"])
        found, by = (by_id, "variant_id") if by_id.height > by_place.height else (by_place, by)
    ambiguous = found["ambiguous"]
    several = (found["row"].is_duplicated() | found["row_right"].is_duplicated()) & ~ambiguous
    kept = found.filter(~ambiguous & ~several).sort("row")
    left_out = {
        "not in both, or other alleles": first.height - found["row"].n_unique(),
        "strand cannot be told (A/T or C/G)": found.filter(ambiguous)["row"].n_unique(),
        "matches several": found.filter(several)["row"].n_unique(),
    }
    return SharedVariants(
        kept["row"].cast(pl.Int64).to_numpy(),
        kept["row_right"].cast(pl.Int64).to_numpy(),
        kept["swapped"].to_numpy(),
        by,
        {reason: count for reason, count in left_out.items() if count},
    )


def require_shared(found: SharedVariants, files: tuple[Path, Path], *, least: int) -> None:
    """Raise InputError where two files have fewer variants in common than `least`."""
    if found.first.size < least:
        raise InputError(
            f"{files[0]} and {files[1]} must have {least:,} variants in common; they have {found.first.size:,} that "
            "can be used: are they on one assembly, with the same alleles?"
        )


def _keyed(table: pl.DataFrame) -> pl.DataFrame:
    """Row, place and alleles of each variant, with the alleles in one spelling for both strands and both orders."""
    names = {name: canonical_contig(name) for name in table["contig"].unique().to_list()}
    keyed = table.with_row_index("row").with_columns(
        pl.col("contig").replace(names), pl.concat_str("ref", "alt", separator=">").alias("alleles")
    )
    pairs = [tuple(text.split(">", 1)) for text in keyed["alleles"].unique().to_list()]
    spelt = pl.DataFrame(
        [(f"{ref}>{alt}", *_spellings(ref, alt)) for ref, alt in pairs],
        schema={"alleles": pl.String(), "other_strand": pl.String(), "key": pl.String(), "ambiguous": pl.Boolean()},
        orient="row",
    )
    return keyed.join(spelt, on="alleles", how="left", maintain_order="left").drop("ref", "alt")


def _spellings(ref: str, alt: str) -> tuple[str, str, bool]:
    """Alleles as the other strand has them, their key, and whether both strands read alike. Bases only have strands."""
    bases = len(ref) == len(alt) == 1
    other = (ref.translate(_STRAND), alt.translate(_STRAND)) if bases else (ref, alt)
    key = min("/".join(sorted(pair)) for pair in ((ref, alt), other))
    return ">".join(other), key, bases and other == (alt, ref)


def _matched(one: pl.DataFrame, other: pl.DataFrame, place: list[str]) -> pl.DataFrame:
    """Pairs of rows at the same place with the same alleles: row, row_right, swapped, ambiguous."""
    found = one.join(other.select("row", "alleles", "key", *place), on=[*place, "key"], how="inner")
    same = (pl.col("alleles") == pl.col("alleles_right")) | (pl.col("other_strand") == pl.col("alleles_right"))
    return found.select("row", "row_right", (~same).alias("swapped"), "ambiguous")
