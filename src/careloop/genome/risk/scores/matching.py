"""A score's variants found among the genotypes': each row used, and how, or not used, and why; every one is counted.

Order and rules follow pgsc_calc (Lambert et al., Nat Genet 2024;56:1989), with A/T and C/G told by frequency on demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.risk.scores.pgs_file import ScoreFile
from careloop.genome.risk.scores.placing.candidates import Found, find_candidates
from careloop.genome.risk.scores.placing.fitting import KINDS, SAME, STRAND, ambiguous
from careloop.genome.risk.scores.placing.terms import terms_of

Ambiguous = Literal["drop", "keep", "frequency"]
NOT_FOUND = "not among the genotypes"
OTHER_ALLELES = "other alleles among the genotypes"
OTHER_BUILD = "positions are on another build, and no id is among the genotypes"
AMBIGUOUS = "A/T or C/G: the strand cannot be told"
AMBIGUOUS_NO_FREQUENCY = "A/T or C/G: no frequency to tell the strand by"
AMBIGUOUS_COMMON = "A/T or C/G: the frequency is too near one half"
REPEATED = "repeats an earlier row of the score"
CONFLICTING = "another row of the score is for the same variant"
NOT_ADDITIVE = "dominant, recessive or by dosage where a person has one copy, or three alleles are known"
HAPLOID = ("Y", "MT")  # chromosomes on which nobody has two copies


@dataclass(frozen=True)
class MatchOptions:
    """What is done with A/T and C/G variants, whose strand no letter tells.

    `drop` leaves them out, `keep` takes them as written, `frequency` compares the score's frequency with the
    genotypes'. `highest_maf`: by frequency only where the rarer allele of both is at most this frequent.
    """

    ambiguous: Ambiguous = "drop"
    highest_maf: float = 0.4

    def __post_init__(self) -> None:
        if self.ambiguous not in get_args(Ambiguous):
            raise InputError(f"ambiguous variants: one of {', '.join(get_args(Ambiguous))}, not {self.ambiguous!r}")
        if not 0 < self.highest_maf < 0.5:
            raise InputError(f"the highest frequency of the rarer allele is between 0 and 0.5, not {self.highest_maf}")


@dataclass(frozen=True)
class Matching:
    """Where each row of a score is among the genotypes.

    `table`, one row a row of `ScoreFile.variants` in its order: its line, ids and alleles, `variant` (row of the
    genotypes' variants, null where none), `kind` (one of `KINDS`) and `reason` (null where it is used). `terms`, of
    `TERMS`, are what is summed up. `notes` say in words what a user should know.
    """

    table: pl.DataFrame
    terms: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def used(self) -> pl.DataFrame:
        """Rows that are scored."""
        return self.table.filter(pl.col("reason").is_null())


def match(
    score: ScoreFile,
    variants: pl.DataFrame,
    *,
    build: str | None = None,
    options: MatchOptions = MatchOptions(),
    frequencies: NDArray[np.float64] | None = None,
) -> Matching:
    """Find each row of a score among `variants` (the columns of VARIANTS of `genotypes.source`).

    By position and alleles where both are on one `build` (of the genotypes; None: not known), then by id and alleles.
    `frequencies` of `alt` (variants,), NaN where not known, are needed for `ambiguous="frequency"` alone.
    """
    found = find_candidates(score, variants, build)
    table = found.table.with_columns(reason=_unfit(found))
    table = _without_ambiguous(table, options, frequencies)
    table = _each_variant_once(table)
    haploid = pl.col("contig").is_in(HAPLOID)
    curved = (pl.col("weight_2") - 2 * pl.col("weight_1") + pl.col("weight_0")).abs() > 1e-12 * pl.col("weight_1").abs()
    refused = (haploid | pl.col("third_alleles")) & curved & pl.col("reason").is_null()
    table = table.with_columns(pl.when(refused).then(pl.lit(NOT_ADDITIVE)).otherwise("reason").alias("reason"))
    terms = terms_of(table.filter(pl.col("reason").is_null()), variants)
    return Matching(table.drop("contig", "fit", "equal", "seen", "third_alleles"), terms, found.notes)


def _unfit(found: Found) -> pl.Expr:
    """Why a row has no variant with its alleles."""
    nowhere = OTHER_BUILD if found.by_id_only else NOT_FOUND
    return (
        pl.when(pl.col("fit").is_not_null())
        .then(None)
        .when(pl.col("seen"))
        .then(pl.lit(OTHER_ALLELES))
        .otherwise(pl.lit(nowhere))
    )


def _without_ambiguous(
    table: pl.DataFrame, options: MatchOptions, frequencies: NDArray[np.float64] | None
) -> pl.DataFrame:
    """Leave out A/T and C/G, or tell their strand by frequency."""
    unclear = ambiguous() & pl.col("reason").is_null()
    if options.ambiguous == "keep":
        return table
    if options.ambiguous == "drop":
        return table.with_columns(pl.when(unclear).then(pl.lit(AMBIGUOUS)).otherwise("reason").alias("reason"))
    known = np.full(table.height, np.nan)
    placed = table["variant"].is_not_null().to_numpy()
    if frequencies is not None:
        known[placed] = frequencies[table["variant"].drop_nulls().to_numpy()]
    alt = pl.lit(pl.Series(known).fill_nan(None))
    here = pl.when(pl.col("kind").is_in([SAME, STRAND])).then(alt).otherwise(1 - alt)  # of the allele of that letter
    there = pl.col("effect_allele_frequency")
    none = here.is_null() | there.is_null()
    common = ((here - 0.5).abs() < 0.5 - options.highest_maf) | ((there - 0.5).abs() < 0.5 - options.highest_maf)
    turned = (here > 0.5) != (there > 0.5)
    other = pl.col("kind").replace(dict(zip(KINDS, (KINDS[3], KINDS[2], KINDS[1], KINDS[0]), strict=True)))
    why = pl.when(none).then(pl.lit(AMBIGUOUS_NO_FREQUENCY)).when(common).then(pl.lit(AMBIGUOUS_COMMON))
    return table.with_columns(
        pl.when(unclear).then(why).otherwise("reason").alias("reason"),
        pl.when(unclear & turned).then(other).otherwise("kind").alias("kind"),
    )


def _each_variant_once(table: pl.DataFrame) -> pl.DataFrame:
    """Of rows for one variant: the first where all say the same, none where they contradict each other."""
    scored = table.filter(pl.col("reason").is_null())
    if scored["variant"].is_unique().all():
        return table
    same = ["variant", "kind", "weight_0", "weight_1", "weight_2"]
    repeated = scored.filter(~pl.struct(same).is_first_distinct())
    left = scored.filter(pl.struct(same).is_first_distinct())
    conflicting = left.filter(pl.col("variant").is_duplicated())["variant"]
    lines = pl.concat(
        [
            scored.filter(pl.col("variant").is_in(conflicting.implode())).select("line", why=pl.lit(CONFLICTING)),
            repeated.filter(~pl.col("variant").is_in(conflicting.implode())).select("line", why=pl.lit(REPEATED)),
        ]
    )
    joined = table.join(lines, on="line", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("reason", "why").alias("reason")).drop("why")
