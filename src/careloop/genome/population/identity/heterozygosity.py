"""How often each person is called and homozygous, beside what frequencies let expect: the inbreeding coefficient F."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.source import MISSING, GenotypeSource

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Heterozygosity:
    """Of each person: variants `called` of those that vary, `homozygous` of these, `expected` homozygous; `missing`.

    `missing` is the share of all variants without a call. All are (people,).
    """

    called: NDArray[np.int64]
    homozygous: NDArray[np.int64]
    expected: NDArray[np.float64]
    missing: NDArray[np.float64]

    @property
    def inbreeding(self) -> NDArray[np.float64]:
        """F = (homozygous - expected) / (called - expected): (people,), NaN where nothing varies."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.homozygous - self.expected) / (self.called - self.expected)


def heterozygosity(
    source: GenotypeSource,
    variants: NDArray[np.int64],
    *,
    copies: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Heterozygosity:
    """Count homozygous calls of each person over `variants` (rows, ascending), as plink2 --het small-sample.

    `copies` (people,) are each person's chromosomes, 1 for males on X, by default 2; they count in frequencies. The
    expected share of heterozygotes is 2pq 2n/(2n-1) with n people (Nei, Genetics 1978;89:583;
    plink 1.9's --check-sex leaves that correction out).
    """
    people = source.samples.height
    weights = np.full(people, 2, np.int64) if copies is None else copies
    called, homozygous, missing = (np.zeros(people, np.int64) for _ in range(3))
    expected = np.zeros(people)
    done = 0
    for block in blocks(source, variants=variants):
        seen = block.values != MISSING
        missing += (~seen).sum(axis=0)
        alleles = seen @ weights
        alt = np.where(seen, block.values, 0) @ (weights / 2)
        varies = (alt > 0) & (alt < alleles)
        frequency = alt[varies] / alleles[varies]
        chance = 2 * frequency * (1 - frequency) * alleles[varies] / (alleles[varies] - 1)
        seen = seen[varies]
        called += seen.sum(axis=0)
        homozygous += (seen & (block.values[varies] != 1)).sum(axis=0)
        expected += (1 - chance) @ seen
        done += block.rows.size
        if progress:
            progress("heterozygosity", done, variants.size)
    return Heterozygosity(called, homozygous, expected, missing / max(variants.size, 1))
