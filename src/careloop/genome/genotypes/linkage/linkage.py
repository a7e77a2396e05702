"""The linkage of a reference panel: correlations within blocks of variants, measured in its genotypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.linkage.partition import crossing, partition
from careloop.genome.genotypes.linkage.window import Window, kind_of, linkage_sums, places
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import VARIANTS, GenotypeSource

Progress = Callable[[str, int, int], None]

IGNORED = 0.02  # r squared below this is chance in a panel of a few hundred people, as bigsnpr's snp_ldsplit has it


@dataclass(frozen=True)
class Linkage:
    """Linkage in blocks; what is counted is always `alt`.

    `variants` have the columns of `VARIANTS`, in the order of the blocks; `frequency` of `alt` and `spread` (standard
    deviation of the copies) are those of the `people` of the panel. `blocks`: matrices (m, m) of signed r, one behind
    the other along the variants. `parted`: mean over variants of the sum of r squared with variants of other blocks.
    """

    variants: pl.DataFrame
    frequency: NDArray[np.float64]
    spread: NDArray[np.float64]
    blocks: tuple[NDArray[np.float32], ...] = field(repr=False)
    people: int
    parted: float = 0.0
    build: str | None = None

    def __post_init__(self) -> None:
        if sum(len(block) for block in self.blocks) != self.variants.height:
            raise InputError("blocks of linkage have as many rows in sum as there are variants")

    @property
    def slices(self) -> list[slice]:
        """Where each block's variants are in the table."""
        ends = np.cumsum([len(block) for block in self.blocks]).tolist()
        return [slice(end - len(block), end) for block, end in zip(self.blocks, ends, strict=True)]

    @property
    def scores(self) -> NDArray[np.float64]:
        """LD scores within the blocks, corrected for chance: (variants,)."""
        return np.concatenate([_scores(block, self.people) for block in self.blocks]) if self.blocks else np.zeros(0)

    def only(self, rows: NDArray[np.int64]) -> Linkage:
        """The linkage of some of the variants: ascending rows of the table."""
        parts = [rows[np.searchsorted(rows, one.start) : np.searchsorted(rows, one.stop)] for one in self.slices]
        kept = tuple(
            block[np.ix_(part - one.start, part - one.start)]
            for block, part, one in zip(self.blocks, parts, self.slices, strict=True)
            if part.size
        )
        table = (self.variants[rows], self.frequency[rows], self.spread[rows])
        return Linkage(*table, kept, self.people, self.parted, self.build)


def _scores(block: NDArray[np.float32], people: int) -> NDArray[np.float64]:
    squares = block.astype(np.float64) ** 2
    others = squares.sum(axis=1) - 1
    return 1 + others - (len(block) - 1 - others) / (people - 2)


def linkage_of(
    source: GenotypeSource,
    *,
    variants: NDArray[np.int64] | slice | None = None,
    samples: NDArray[np.int64] | None = None,
    max_size: int = 500,
    window: Window | None = None,
    progress: Progress | None = None,
) -> Linkage:
    """Measure the linkage of a reference panel, in two passes over its genotypes with bounded memory beside the result.

    `variants` are rows of `source.variants`, ascending; those that do not vary among `samples` are left out. No block
    is above `max_size` variants or goes over the end of a contig; cuts are where least linkage within `window` (by
    default 3,000 kb and as many variants as a block) is parted.

    Raises:
        InputError: rows outside the tables, fewer than three people, positions that are not in order, or no variant
            that varies.
    """
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    window = window or Window(variants=max_size)
    frequency, spread = _moments(source, rows, samples, progress)
    varies = spread > 0
    rows, frequency, spread = rows[varies], frequency[varies], spread[varies]
    if not rows.size:
        raise InputError(f"{source.path}: no variant varies among these people; linkage needs some that do")
    sums = linkage_sums(source, variants=rows, samples=samples, window=window, ignored=IGNORED, progress=progress)
    contigs, _ = places(source, rows)
    cuts: list[slice] = []
    costs = np.zeros(rows.size)
    for contig in range(int(contigs[-1]) + 1):
        first, last = np.searchsorted(contigs, [contig, contig + 1])
        costs[first:last] = crossing(sums.left[first:last], sums.right[first:last])
        cuts += [slice(first + one.start, first + one.stop) for one in partition(costs[first:last], max_size=max_size)]
    matrices = []
    for done, cut in enumerate(cuts, 1):
        block = next(blocks(source, variants=rows[cut], samples=samples, size=max_size, kind=kind_of(source)))
        matrices.append(correlations(block.values).astype(np.float32))
        if progress:
            progress("blocks of linkage", done, len(cuts))
    parted = 2 * sum(float(costs[cut.stop - 1]) for cut in cuts) / rows.size
    people = source.samples.height if samples is None else len(samples)
    table = source.variants[rows].select(*VARIANTS)
    return Linkage(table, frequency, spread, tuple(matrices), people, parted, source.build)


def _moments(
    source: GenotypeSource, rows: NDArray[np.int64], samples: NDArray[np.int64] | None, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequency of `alt` and standard deviation of its copies among those who are called."""
    frequency, spread = np.zeros(rows.size), np.zeros(rows.size)
    at = 0
    for block in blocks(source, variants=rows, samples=samples, kind=kind_of(source)):
        values = block.values.astype(np.float32)
        called = values >= 0
        count = np.maximum(called.sum(axis=1), 1)
        values[~called] = 0
        mean = values.sum(axis=1, dtype=np.float64) / count
        square = np.einsum("ij,ij->i", values, values, dtype=np.float64) / count
        here = slice(at, at + block.rows.size)
        frequency[here], spread[here] = mean / 2, np.sqrt(np.maximum(square - mean**2, 0))
        at = here.stop
        if progress:
            progress("frequencies", at, rows.size)
    return frequency, np.where(spread < 1e-6, 0.0, spread)
