"""What a variant's genotypes are like: counts, missing share, frequency of `alt`, Hardy-Weinberg test; as plink2's.

Males have one copy of X and Y, and everyone one of the mitochondrion: an allele counts once there, and a heterozygous
call of one copy counts as half of each allele. On Y only males are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.quality.counts import COUNTED, genotype_counts
from careloop.genome.genotypes.quality.hardy_weinberg import hardy_weinberg_p
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import GenotypeSource

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VariantStatistics:
    """Statistics of some variants, in the order of `rows`.

    `diploid` and `haploid`: (variants, 4) samples with two and with one copy of the chromosome, by their genotype in
    the file: 0, 1, 2, missing (one copy of `alt` is a 2). `alleles`: (variants,) chromosomes whose allele is known;
    `frequency`: of `alt` among them, from dosages where the file has them, NaN where none is known.
    `hardy_weinberg_p`: the exact test among diploid samples (on X those who are not male), NaN where there is none.
    """

    rows: NDArray[np.int64]
    diploid: NDArray[np.int64]
    haploid: NDArray[np.int64]
    alleles: NDArray[np.int64]
    frequency: NDArray[np.float64]
    hardy_weinberg_p: NDArray[np.float64]

    @property
    def missing(self) -> NDArray[np.int64]:
        """Samples without a call: (variants,)."""
        return self.diploid[:, 3] + self.haploid[:, 3]

    @property
    def missing_share(self) -> NDArray[np.float64]:
        """The share of samples without a call: (variants,), NaN where nobody was looked at."""
        with np.errstate(invalid="ignore"):
            return self.missing / (self.diploid.sum(axis=1) + self.haploid.sum(axis=1))

    @property
    def minor_allele_frequency(self) -> NDArray[np.float64]:
        """The frequency of the rarer of the two alleles: (variants,)."""
        return np.minimum(self.frequency, 1 - self.frequency)


def variant_statistics(
    source: GenotypeSource,
    *,
    variants: NDArray[np.int64] | slice | None = None,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> VariantStatistics:
    """Count genotypes of each variant (all by default) among some samples (all by default).

    `variants` are rows of `source.variants`, ascending; `samples` rows of `source.samples`.

    Raises:
        InputError: rows outside the tables, or the file cannot be read to its end.
    """
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    by_copies = {copies: np.zeros((rows.size, len(COUNTED)), np.int64) for copies in (1, 2)}
    alternative, alleles = np.zeros(rows.size), np.zeros(rows.size, np.int64)
    for chosen, copies, people in _groups(source, rows, samples):
        found = genotype_counts(source, rows[chosen], people, progress=progress)
        by_copies[copies][chosen] = found.samples
        alternative[chosen] += found.dosages * copies / 2
        alleles[chosen] += found.known * copies
    haploid, diploid = by_copies[1], by_copies[2]
    with np.errstate(invalid="ignore"):
        frequency = np.where(alleles > 0, alternative / alleles, np.nan)
    tested = diploid[:, :3].any(axis=1)
    p = np.where(tested, hardy_weinberg_p(*diploid[:, :3].T), np.nan)
    return VariantStatistics(rows, diploid, haploid, alleles, frequency, p)


def _groups(
    source: GenotypeSource, rows: NDArray[np.int64], samples: NDArray[np.int64] | None
) -> list[tuple[NDArray[np.bool_], int, NDArray[np.int64] | None]]:
    """Which of the variants are counted in whom, and how many copies of the chromosome these have."""
    contigs = source.variants["contig"].gather(rows)
    contigs = contigs.replace({name: canonical_contig(name) for name in contigs.unique().to_list()})
    x, y, mitochondrion = ((contigs == name).to_numpy() for name in ("X", "Y", "MT"))
    chosen = np.arange(source.samples.height) if samples is None else samples
    male = (source.samples["sex"].gather(chosen) == "male").fill_null(value=False).to_numpy()
    groups: list[tuple[NDArray[np.bool_], int, NDArray[np.int64] | None]] = [
        (~(x | y | mitochondrion), 2, samples),
        (x, 2, chosen[~male]),
        (x | y, 1, chosen[male]),
        (mitochondrion, 1, samples),
    ]
    return [each for each in groups if each[0].any() and (each[2] is None or each[2].size)]
