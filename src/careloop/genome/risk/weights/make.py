"""From summary statistics and a reference to the weights of a score, in order: linkage, match, quality, shrinkage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.summary_statistics import SummaryStatistics
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.linkage.linkage import Linkage, linkage_of
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.risk.scores.matching import MatchOptions
from careloop.genome.risk.weights.aligned import Aligned, Trait, align, place
from careloop.genome.risk.weights.heritability import Heritability, ld_score_regression
from careloop.genome.risk.weights.quality import check_quality
from careloop.genome.risk.weights.shrinkage.shrink import AutoOptions, shrink_auto, shrink_infinitesimal
from careloop.genome.risk.weights.threshold import Thresholded, ThresholdOptions, clump_and_threshold
from careloop.genome.risk.weights.tuning import Tuning

Progress = Callable[[str, int, int], None]
Shrinkage = Literal["auto", "infinitesimal"]
AUTOSOMES = frozenset(map(str, range(1, 23)))


@dataclass(frozen=True)
class WeightsOptions:
    """How weights are made: `shrinkage` with the share of causal variants unknown (auto) or with all of them causal.

    Of a `binary` trait effects are log odds. No block of linkage is above `block_variants`. `matching` says what is
    done with A/T and C/G.
    """

    shrinkage: Shrinkage = "auto"
    trait: Trait = "quantitative"
    block_variants: int = 500
    auto: AutoOptions = field(default_factory=AutoOptions)
    matching: MatchOptions = field(default_factory=MatchOptions)


@dataclass(frozen=True)
class MadeWeights:
    """`table` has the columns of `scores.write_pgs.WEIGHTS` and `effect_allele_frequency`, of the reference.

    `reasons` count the statistics' variants without a weight; `facts` are figures of the fit by name, in words that a
    page can show; `h2` is that of LD score regression; `chains` those of the sampler (none for other methods).
    """

    table: pl.DataFrame
    reasons: Mapping[str, int]
    notes: tuple[str, ...]
    facts: Mapping[str, float]
    h2: Heritability
    chains: pl.DataFrame | None = None


def panel_linkage(
    statistics: SummaryStatistics,
    reference: GenotypeSource,
    *,
    options: WeightsOptions = WeightsOptions(),
    progress: Progress | None = None,
) -> Linkage:
    """Linkage of the statistics' variants among the people of a reference, on autosomes.

    Raises:
        InputError: none of the variants is there or varies, or the file cannot be read.
    """
    rows = place(
        statistics, reference.variants, build=reference.build, options=_before_frequencies(options.matching)
    ).rows
    contigs = reference.variants["contig"].gather(rows)
    named = {name: canonical_contig(name) in AUTOSOMES for name in contigs.unique().to_list()}
    rows = rows[np.array([named[name] for name in contigs.to_list()])]
    if not rows.size:
        raise InputError(f"{reference.path}: none of the statistics' variants is on an autosome")
    return linkage_of(reference, variants=rows, max_size=options.block_variants, progress=progress)


def make_weights(
    statistics: SummaryStatistics,
    linkage: Linkage,
    *,
    options: WeightsOptions = WeightsOptions(),
    progress: Progress | None = None,
) -> MadeWeights:
    """Match statistics with a reference's variants, leave out what contradicts it, and shrink effects by its linkage.

    Raises:
        InputError: statistics without effect, standard error or n; no variant in common; nothing that passes quality
            control; no heritability for infinitesimal shrinkage; or every chain diverges.
    """
    aligned = align(
        statistics,
        linkage.variants,
        build=linkage.build,
        frequencies=linkage.frequency,
        options=options.matching,
    )
    rows = aligned.rows
    checked = check_quality(aligned, linkage.frequency[rows], linkage.spread[rows], trait=options.trait).aligned
    used = linkage.only(checked.rows)
    if options.shrinkage == "infinitesimal":
        known = (checked.chi_squared, used.scores, checked.people)
        h2 = ld_score_regression(*known, intercept=1.0).h2  # as LDpred2: the slope alone is too uncertain to shrink by
        effects = shrink_infinitesimal(checked, used, h2=h2)
        return _made(checked, linkage, effects * checked.scale, (ld_score_regression(*known), {"h2": h2}, None))
    found = shrink_auto(checked, used, options=options.auto, progress=progress)
    facts = {
        "h2": found.h2[0],
        "h2_low": found.h2[1],
        "h2_high": found.h2[2],
        "share_causal": found.share[0],
        "share_causal_low": found.share[1],
        "share_causal_high": found.share[2],
        "expected_r2": found.r2,
    }
    return _made(checked, linkage, found.weights, (found.regression, facts, found.chains))


def make_threshold_weights(
    statistics: SummaryStatistics,
    reference: GenotypeSource,
    tuning: Tuning,
    *,
    options: ThresholdOptions | None = None,
    matching: MatchOptions | None = None,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, Thresholded, Aligned]:
    """Weights by clumping and thresholding, chosen in tuning people: table of WEIGHTS, what was chosen, what matched.

    Raises:
        InputError: no variant that is in statistics, reference and the tuning people's file with the same `alt`.
    """
    aligned = align(statistics, reference.variants, build=reference.build, options=matching)
    aligned, rows = _in_tuning(aligned, reference, tuning.source)
    found = clump_and_threshold(
        aligned, reference, tuning, rows=rows, options=options or ThresholdOptions(), progress=progress
    )
    used = found.weights != 0
    table = _weights_table(reference.variants[aligned.rows[used]], found.weights[used])
    return table, found, aligned


def _before_frequencies(matching: MatchOptions) -> MatchOptions:
    """As `matching`, but A/T and C/G that frequencies will tell stay until these are known."""
    return replace(matching, ambiguous="keep") if matching.ambiguous == "frequency" else matching


def _made(
    aligned: Aligned,
    linkage: Linkage,
    weights: NDArray[np.float64],
    fit: tuple[Heritability, dict[str, float], pl.DataFrame | None],
) -> MadeWeights:
    table = _weights_table(linkage.variants[aligned.rows], weights)
    table = table.with_columns(effect_allele_frequency=pl.Series(linkage.frequency[aligned.rows]))
    h2, facts, chains = fit
    return MadeWeights(table, aligned.reasons, aligned.notes, facts, h2, chains)


def _weights_table(variants: pl.DataFrame, weights: NDArray[np.float64]) -> pl.DataFrame:
    """Weights of one copy of `alt`, as `scores.write_pgs` writes them; a variant without id has none."""
    return variants.select(
        pl.when(pl.col("variant_id") != ".").then("variant_id").alias("variant_id"),
        pl.col("contig").map_elements(canonical_contig, return_dtype=pl.String).alias("chromosome"),
        "position",
        pl.col("alt").alias("effect_allele"),
        pl.col("ref").alias("other_allele"),
        pl.Series("weight", weights),
    )


def _in_tuning(
    aligned: Aligned, reference: GenotypeSource, tuning: GenotypeSource
) -> tuple[Aligned, NDArray[np.int64]]:
    """The variants that the tuning people's file has with the same alleles, and their rows there."""
    site = ["contig", "position", "ref", "alt"]

    def named(variants: pl.DataFrame) -> pl.DataFrame:
        plain = {name: canonical_contig(name) for name in variants["contig"].unique().to_list()}
        return variants.select(pl.col("contig").replace(plain), *site[1:])

    theirs = named(tuning.variants).with_row_index("row").unique(site, keep="first", maintain_order=True)
    joined = named(reference.variants[aligned.rows]).join(theirs, on=site, how="left", maintain_order="left")
    there = joined["row"].is_not_null().to_numpy()
    rows = joined["row"].drop_nulls().cast(pl.Int64).to_numpy()
    if not rows.size or (np.diff(rows) <= 0).any():
        raise InputError(
            f"{tuning.path}: tuning needs the reference's variants, with the same ref and alt and in the same order"
        )
    reason = {"not in the tuning people's file": int((~there).sum())} if not there.all() else {}
    return aligned.only(there, reason), rows
