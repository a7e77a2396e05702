"""Which variants principal components are made of: common, well called, autosomal, and not telling the same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.quality.statistics import variant_statistics
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.components import autosomal_rows
from careloop.genome.population.prune import PruneOptions, prune

Progress = Callable[[str, int, int], None]
# Regions whose long-range linkage disequilibrium makes components of its own (flashpca's list, after Price et al., Am J
# Hum Genet 2008;83:132): 5q11, HLA, the inversion of 8p23, 11p11; wide enough for GRCh37 and GRCh38. Positions from 1.
LONG_RANGE = (
    ("5", 43_900_000, 52_300_000),
    ("6", 24_900_000, 33_600_000),
    ("8", 7_900_000, 12_200_000),
    ("11", 44_900_000, 57_300_000),
)


@dataclass(frozen=True)
class ChoiceOptions:
    """`min_frequency` of the rarer allele, `max_missing` share without a call, and how neighbours are thinned out."""

    min_frequency: float = 0.01
    max_missing: float = 0.05
    pruning: PruneOptions = field(default_factory=lambda: PruneOptions(r2=0.2, window=500, unit="kb"))

    def __post_init__(self) -> None:
        if not (0 <= self.min_frequency <= 0.5 and 0 <= self.max_missing <= 1):
            raise InputError("variants for components need a frequency from 0 to 0.5 and a missing share from 0 to 1")


@dataclass(frozen=True)
class ChosenVariants:
    """Rows of the variants' table, ascending, and how many were left out for which reason (the first that applies)."""

    rows: NDArray[np.int64]
    left_out: dict[str, int]


def variants_for_components(
    source: GenotypeSource,
    options: ChoiceOptions = ChoiceOptions(),
    *,
    variants: NDArray[np.int64] | None = None,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> ChosenVariants:
    """Choose variants, among `variants` (rows; all by default), by the genotypes of `samples` (rows; all by default).

    Raises:
        InputError: variants are not sorted, or the file cannot be read to its end.
    """
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    left_out: dict[str, int] = {}

    def keep(chosen: NDArray[np.bool_], reason: str) -> None:
        nonlocal rows
        if leaving := int((~chosen).sum()):
            left_out[reason] = leaving
        rows = rows[chosen]

    keep(np.isin(rows, autosomal_rows(source)), "not on an autosome")
    keep(~_long_range(source, rows), "in long-range linkage disequilibrium")
    found = variant_statistics(source, variants=rows, samples=samples, progress=progress)
    common = found.minor_allele_frequency >= options.min_frequency
    missing = found.missing_share <= options.max_missing
    keep(common, "rarer allele below the least frequency")
    keep(missing[common], "too often missing")
    everyone = np.arange(source.samples.height) if samples is None else samples
    kept = prune(source, options.pruning, variants=rows, samples=everyone, progress=progress)
    keep(np.isin(rows, kept), "correlated with a neighbour")
    return ChosenVariants(rows, left_out)


def _long_range(source: GenotypeSource, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    contigs = source.variants["contig"].gather(rows)
    plain = contigs.replace({name: canonical_contig(name) for name in contigs.unique().to_list()})
    positions = source.variants["position"].gather(rows).to_numpy()
    inside = np.zeros(rows.size, bool)
    for contig, first, last in LONG_RANGE:
        inside |= (plain == contig).to_numpy() & (positions >= first) & (positions <= last)
    return inside
