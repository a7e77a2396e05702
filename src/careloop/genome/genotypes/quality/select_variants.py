"""Variants chosen by what a user asks for: ids, regions, frequency, missing share, Hardy-Weinberg p."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.regions import Regions
from careloop.genome.genotypes.quality.statistics import variant_statistics
from careloop.genome.genotypes.source import GenotypeSource

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VariantFilter:
    """Which variants are wanted; what is None is not asked.

    `ids`: of the variants' table. `regions`: a variant is inside where its position is (`chr20` and `20` the same).
    `min_frequency`, `max_frequency`: of the rarer allele, ends included. `max_missing`: the largest share of samples
    without a call. `min_hardy_weinberg_p`: under which a variant is left out.
    """

    ids: frozenset[str] | None = None
    regions: Regions | None = None
    min_frequency: float | None = None
    max_frequency: float | None = None
    max_missing: float | None = None
    min_hardy_weinberg_p: float | None = None

    def __post_init__(self) -> None:
        asked = (self.min_frequency, self.max_frequency, self.max_missing, self.min_hardy_weinberg_p)
        if any(value is not None and not 0 <= value <= 1 for value in asked):
            raise InputError("filters of variants are frequencies, shares and probabilities: from 0 to 1")

    @property
    def of_genotypes(self) -> bool:
        """Whether genotypes must be read to answer."""
        asked = (self.min_frequency, self.max_frequency, self.max_missing, self.min_hardy_weinberg_p)
        return any(value is not None for value in asked)


@dataclass(frozen=True)
class SelectedVariants:
    """The rows that were chosen, ascending, and how many were left out for which reason (the first that applies)."""

    rows: NDArray[np.int64]
    left_out: dict[str, int]


def select_variants(
    source: GenotypeSource,
    wanted: VariantFilter,
    *,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> SelectedVariants:
    """Choose variants of a genotype file; figures are those of `samples` (rows of `source.samples`, all by default).

    Raises:
        InputError: the file cannot be read to its end.
    """
    left_out: dict[str, int] = {}
    rows = np.arange(source.variants.height, dtype=np.int64)
    if wanted.ids is not None:
        rows = _kept(rows, source.variants["variant_id"].is_in(list(wanted.ids)).to_numpy(), "other ids", left_out)
    if wanted.regions is not None:
        table = source.variants[rows]
        rows = _kept(rows, _inside(table, wanted.regions), "outside the regions", left_out)
    if not wanted.of_genotypes:
        return SelectedVariants(rows, left_out)
    found = variant_statistics(source, variants=rows, samples=samples, progress=progress)
    chosen = np.ones(rows.size, bool)
    for reason, passed in (
        ("too often missing", found.missing_share <= _or(wanted.max_missing, 1)),
        ("rarer allele below the least frequency", found.minor_allele_frequency >= _or(wanted.min_frequency, 0)),
        ("rarer allele above the largest frequency", found.minor_allele_frequency <= _or(wanted.max_frequency, 1)),
        ("not in Hardy-Weinberg proportions", ~(found.hardy_weinberg_p < _or(wanted.min_hardy_weinberg_p, 0))),
    ):
        if leaving := int((chosen & ~passed).sum()):
            left_out[reason] = leaving
        chosen &= passed
    return SelectedVariants(rows[chosen], left_out)


def _or(asked: float | None, otherwise: float) -> float:
    return otherwise if asked is None else asked


def _kept(
    rows: NDArray[np.int64], chosen: NDArray[np.bool_], reason: str, left_out: dict[str, int]
) -> NDArray[np.int64]:
    if leaving := int((~chosen).sum()):
        left_out[reason] = leaving
    return rows[chosen]


def _inside(variants: pl.DataFrame, regions: Regions) -> NDArray[np.bool_]:
    inside = np.zeros(variants.height, bool)
    starts, contigs = variants["position"].to_numpy() - 1, variants["contig"]
    names = {name: canonical_contig(name) for name in contigs.unique().to_list()}
    plain = contigs.replace(names)
    for region in regions:
        of_contig = (plain == canonical_contig(region.contig)).to_numpy()
        inside |= of_contig & (starts >= region.start) & (starts < region.end)
    return inside
