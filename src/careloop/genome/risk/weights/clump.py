"""Clumping: the most significant variant of each place, and those in linkage with it, as PLINK's --clump does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.linkage.haplotypes import haplotype_r2
from careloop.genome.genotypes.linkage.window import kind_of, places
from careloop.genome.genotypes.source import GenotypeSource

Progress = Callable[[str, int, int], None]
Measure = Literal["haplotype", "genotype"]


@dataclass(frozen=True)
class ClumpOptions:
    """When variants form a clump.

    `p1`: an index variant is at most this significant, `p2`: a member at most this. `r2`: a member has at least this
    with the index variant, `kb`: and is at most so many thousand bases away. `measure`: r squared of the most likely
    haplotypes (PLINK 1.9's) or of genotypes (plink2's --clump-unphased).
    """

    p1: float = 1e-4
    p2: float = 1e-2
    r2: float = 0.5
    kb: float = 250.0
    measure: Measure = "haplotype"

    def __post_init__(self) -> None:
        if not (0 < self.p1 <= 1 and 0 < self.p2 <= 1 and 0 <= self.r2 <= 1 and self.kb > 0):
            raise InputError(f"clumping needs P values and r2 from 0 to 1 and a positive distance; got {self}")
        if self.measure not in get_args(Measure):
            raise InputError(f"r2 of a clump is of one of {', '.join(get_args(Measure))}, not {self.measure!r}")


@dataclass(frozen=True)
class Clumps:
    """`index`: places of index variants in what was given, the most significant first; `members` of each of them."""

    index: NDArray[np.int64]
    members: tuple[NDArray[np.int64], ...]

    @property
    def size(self) -> int:
        """How many clumps there are."""
        return self.index.size

    def table(self, variants: pl.DataFrame, p_values: NDArray[np.float64]) -> pl.DataFrame:
        """One row a clump: the columns of `variants` and `p_value` of its index variant, and the ids of its members.

        `variants` are those that were given, in their order.
        """
        ids = variants["variant_id"]
        return variants[self.index].with_columns(
            p_value=pl.Series(p_values[self.index]),
            members=pl.Series([", ".join(ids[one].to_list()) for one in self.members], dtype=pl.String),
            n_members=pl.Series([one.size for one in self.members], dtype=pl.Int64),
        )


def clump(
    p_values: NDArray[np.float64],
    source: GenotypeSource,
    *,
    rows: NDArray[np.int64],
    samples: NDArray[np.int64] | None = None,
    options: ClumpOptions = ClumpOptions(),
    progress: Progress | None = None,
) -> Clumps:
    """Clump variants by their P values and the linkage among some people (all by default).

    `p_values` (variants,) belong to `rows` of `source.variants`, ascending and in order of position. From the most
    significant on (of equals the first in the file), each variant that is in no clump becomes an index variant, and
    takes those in linkage with it that are in none. Genotypes of a contig's variants up to `p2` are held in memory.

    Raises:
        InputError: P values do not belong to the rows, positions are not in order, or the file cannot be read.
    """
    if p_values.shape != rows.shape:
        raise InputError(f"a P value a variant: got {p_values.size:,} of {rows.size:,} variants")
    contigs, positions = places(source, rows)
    found: list[tuple[int, NDArray[np.int64]]] = []
    chosen = np.flatnonzero(p_values <= max(options.p1, options.p2))
    for contig in np.unique(contigs[chosen]):
        here = chosen[contigs[chosen] == contig]
        values = _values(source, rows[here], samples, options.measure)
        of_contig = _clump_contig(p_values[here], positions[here], values, options)
        found += [(int(here[index]), here[members]) for index, members in of_contig]
        if progress:
            progress("clumping", int(here[-1]) + 1, rows.size)
    order = sorted(range(len(found)), key=lambda number: (p_values[found[number][0]], found[number][0]))
    index = np.array([found[number][0] for number in order], dtype=np.int64)
    return Clumps(index, tuple(found[number][1] for number in order))


def _values(
    source: GenotypeSource, rows: NDArray[np.int64], samples: NDArray[np.int64] | None, measure: Measure
) -> NDArray[Any]:
    if measure == "haplotype" or kind_of(source) == "genotypes":
        return source.genotypes(rows, samples)
    return source.dosages(rows, samples)


def _clump_contig(
    p_values: NDArray[np.float64], positions: NDArray[np.int64], values: NDArray[Any], options: ClumpOptions
) -> list[tuple[int, NDArray[np.int64]]]:
    """Clumps of one contig: places of index variants and of their members."""
    free = np.ones(p_values.size, bool)
    member = p_values <= options.p2
    reach = int(options.kb * 1_000)
    found = []
    for index in np.argsort(p_values, kind="stable"):
        if p_values[index] > options.p1:
            break
        if not free[index]:
            continue
        free[index] = False
        first, last = np.searchsorted(positions, [positions[index] - reach, positions[index] + reach + 1])
        near = first + np.flatnonzero((free & member)[first:last])
        linked = near[_r2(values[index], values[near], options.measure) >= options.r2] if near.size else near
        free[linked] = False
        found.append((int(index), linked))
    return found


def _r2(index: NDArray[Any], others: NDArray[Any], measure: Measure) -> NDArray[np.float64]:
    if measure == "haplotype":
        return haplotype_r2(index, others)
    squares: NDArray[np.float64] = correlations(index[None], others)[0] ** 2
    return squares
