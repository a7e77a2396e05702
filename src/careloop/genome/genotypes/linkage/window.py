"""How much linkage each variant has with those before and behind it within a window; and LD scores from that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import GenotypeSource

Progress = Callable[[str, int, int], None]
_AT_ONCE = 512  # variants correlated with each other at once


@dataclass(frozen=True)
class Window:
    """How far linkage is looked for: `kb` thousand bases to each side, and at most `variants` variants."""

    kb: float = 3_000.0
    variants: int = 1_000

    def __post_init__(self) -> None:
        if self.kb <= 0 or self.variants < 1:
            raise InputError(f"a window of linkage has a positive reach; got {self.kb} kb, {self.variants} variants")


@dataclass(frozen=True)
class LinkageSums:
    """Of each variant, the sum of r squared with those before (`left`) and behind it (`right`) in its window."""

    rows: NDArray[np.int64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """LD scores (Bulik-Sullivan et al., Nat Genet 2015;47:291): (variants,), the variant itself counted as 1."""
        return 1 + self.left + self.right


def linkage_sums(
    source: GenotypeSource,
    *,
    variants: NDArray[np.int64] | slice | None = None,
    samples: NDArray[np.int64] | None = None,
    window: Window = Window(),
    ignored: float | None = None,
    progress: Progress | None = None,
) -> LinkageSums:
    """Sum up r squared within the window around each variant, contig by contig, with bounded memory.

    `variants` are rows of `source.variants`, ascending and with positions in order on each contig. r squared is
    corrected for chance, r2 - (1 - r2) / (n - 2); with `ignored` it is taken as it is, and as 0 below that.

    Raises:
        InputError: rows outside the tables, fewer than three people, or positions that are not in order.
    """
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    if (people := source.samples.height if samples is None else len(samples)) < 3:
        raise InputError(f"linkage needs the genotypes of three people at least; got {people}")
    contigs, positions = places(source, rows)
    left, right = np.zeros(rows.size), np.zeros(rows.size)
    held: deque[tuple[NDArray[np.int64], NDArray[Any]]] = deque()
    size = min(_AT_ONCE, window.variants)
    at = 0
    for block in blocks(source, variants=rows, samples=samples, size=size, kind=kind_of(source)):
        here = np.arange(at, at + block.rows.size)
        at += block.rows.size
        while held and _out_of_reach(held[0][0][-1], here[0], (contigs, positions), window):
            held.popleft()
        held.append((here, block.values))
        for there, values in held:
            inside = _within(there, here, (contigs, positions), window)
            squares = inside * _squares(correlations(values, block.values), people, ignored)
            right[there] += squares.sum(axis=1)
            left[here] += squares.sum(axis=0)
        if progress:
            progress("linkage", at, rows.size)
    return LinkageSums(rows, left, right)


def kind_of(source: GenotypeSource) -> Any:
    """What of a file is correlated: whole numbers where it has only those, else dosages."""
    return "genotypes" if source.hard_calls else "dosages"


def places(source: GenotypeSource, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of the contig (in the file's order) and position of each row.

    Raises:
        InputError: a contig comes twice, or its positions are not in order.
    """
    table = source.variants[rows]
    contigs = table["contig"].rle_id().to_numpy().astype(np.int64)
    positions = table["position"].to_numpy()
    falls = (np.diff(positions) < 0) & (np.diff(contigs) == 0)
    if falls.any() or (contigs.size and table["contig"].n_unique() != contigs[-1] + 1):
        raise InputError(f"{source.path}: linkage needs variants in order of contig and position; sort the file")
    return contigs, positions


def _out_of_reach(last: int, here: int, where: tuple[NDArray[np.int64], NDArray[np.int64]], window: Window) -> bool:
    contigs, positions = where
    beyond = positions[here] - positions[last] > window.kb * 1_000 or here - last > window.variants
    return bool(contigs[last] != contigs[here] or beyond)


def _within(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    window: Window,
) -> NDArray[np.bool_]:
    """Which pairs lie on one contig, the second behind the first and within its reach: (first, second)."""
    contigs, positions = where
    apart = second[None] - first[:, None]
    near = positions[second][None] - positions[first][:, None] <= window.kb * 1_000
    near &= contigs[second][None] == contigs[first][:, None]
    return near & (apart > 0) & (apart <= window.variants)


def _squares(r: NDArray[np.float64], people: int, ignored: float | None) -> NDArray[np.float64]:
    squares = r * r
    if ignored is None:
        return squares - (1 - squares) / (people - 2)
    return np.where(squares < ignored, 0.0, squares)
