"""Variants in little linkage disequilibrium with each other, as plink2 --indep-pairwise chooses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.rows import row_numbers
from careloop.genome.genotypes.source import MISSING, GenotypeSource

Progress = Callable[[str, int, int], None]
_AT_ONCE = 256  # variants compared with those before them in one product
_EQUAL = 2.0**-44  # frequencies closer than this are the same
_MALE_WEIGHT_ON_X = 0.5  # males have one copy


@dataclass(frozen=True)
class PruneOptions:
    """How variants are thinned out.

    `r2`: the largest squared correlation that two variants of a window may keep. `window`: its size, in `unit`
    "variants" or "kb" (ends included); it moves on by `step` variants, or in kb by as much as lets another in.
    """

    r2: float = 0.2
    window: int = 50
    step: int = 5
    unit: Literal["variants", "kb"] = "variants"

    def __post_init__(self) -> None:
        if not 0 <= self.r2 < 1 or self.window < 2 or self.step < 1 or self.unit not in ("variants", "kb"):
            raise InputError("pruning needs r2 from 0 to below 1, a window of 2 or more, and a step of 1 or more")


def prune(
    source: GenotypeSource,
    options: PruneOptions = PruneOptions(),
    *,
    variants: NDArray[np.int64] | None = None,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Rows of `source.variants` that are kept: no two of a window have a squared correlation above `r2`.

    Of a pair that has, the variant with the rarer minor allele goes, of two alike the later one; pairs are looked at
    in the order of plink 1.9 and plink2 to alpha 3 (`--indep-order 1` of later ones). r2 is that of the
    copies of an allele among those who have both called. `variants` are the rows to choose from (all by default);
    `samples` those whose genotypes count (by default founders: those without a parent in the table). On X males count
    half; on Y only males count; heterozygous calls of one copy are missing.

    Raises:
        InputError: variants are not sorted by contig and position, or the file cannot be read to its end.
    """
    rows = row_numbers(slice(None) if variants is None else variants, source.variants.height)
    people = founders(source) if samples is None else np.asarray(samples, np.int64)
    kept = np.ones(rows.size, bool)
    for start, end in _contigs(source, rows):
        kept[start:end] = _prune_contig(source, rows[start:end], people, options)
        if progress:
            progress("pruning variants", end, rows.size)
    return rows[kept]


def founders(source: GenotypeSource) -> NDArray[np.int64]:
    """Rows of the people who have no parent named; everyone where nobody is without."""
    table = source.samples
    found = (table["father_id"].is_null() & table["mother_id"].is_null()).to_numpy()
    return np.flatnonzero(found).astype(np.int64) if found.any() else np.arange(table.height, dtype=np.int64)


def _contigs(source: GenotypeSource, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where each contig starts and ends among `rows`."""
    contigs = source.variants["contig"].gather(rows)
    changes = np.flatnonzero((contigs != contigs.shift(1)).fill_null(value=True).to_numpy())
    if changes.size != contigs.n_unique():
        raise InputError(
            f"{source.path}: variants must be sorted by contig to be pruned; sort them by plink2 --sort-vars"
        )
    for start, end in pairwise([*changes.tolist(), rows.size]):
        if (np.diff(source.variants["position"].gather(rows[start:end]).to_numpy()) < 0).any():
            raise InputError(f"{source.path}: variants must be sorted by position to be pruned; sort them first")
        yield start, end


def _prune_contig(
    source: GenotypeSource, rows: NDArray[np.int64], people: NDArray[np.int64], options: PruneOptions
) -> NDArray[np.bool_]:
    """Which of one contig's variants are kept."""
    contig = canonical_contig(source.variants["contig"][int(rows[0])])
    male = (source.samples["sex"].gather(people) == "male").fill_null(value=False).to_numpy()
    if contig == "Y":
        people, male = people[male], male[male]
    weights = np.where(male & (contig == "X"), _MALE_WEIGHT_ON_X, 1.0).astype(np.float32)
    window = _Window(weights)
    kept = np.ones(rows.size, bool)
    for group in _groups(source.variants["position"].gather(rows).to_numpy(), options):
        first_start, new_start, new_end = group[0][0], group[0][1], group[-1][2]
        copies = source.genotypes(rows[new_start:new_end], people)
        if contig in ("X", "Y", "MT"):
            copies = np.where((copies == 1) & (male | (contig == "MT")), MISSING, copies)
        window.advance(first_start, new_start, copies, kept)
        linked = window.linked(new_start, options.r2)
        for start, first_new, end in group:
            _prune_window(window, linked[first_new - new_start : end - new_start], (start, first_new, end), kept)
    return kept


def _groups(positions: NDArray[np.int64], options: PruneOptions) -> Iterator[list[tuple[int, int, int]]]:
    """Windows as (start, first new variant, end), so many together that some hundred variants are new."""
    group: list[tuple[int, int, int]] = []
    for window in _windows(positions, options):
        group.append(window)
        if window[2] - group[0][1] >= _AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _windows(positions: NDArray[np.int64], options: PruneOptions) -> Iterator[tuple[int, int, int]]:
    start, first_new, total = 0, 0, positions.size
    if options.unit == "variants":
        while first_new < total:
            end = min(start + options.window, total)
            yield start, first_new, end
            start, first_new = start + options.step, end
        return
    reach = positions + 1000 * options.window
    while first_new < total:
        start = int(np.searchsorted(reach, positions[first_new]))
        end = int(np.searchsorted(positions, reach[start], side="right"))
        yield start, first_new, end
        first_new = end


class _Window:
    """The genotypes of a moving window's variants that are still kept, ready for correlations.

    Copies are -1, 0, 1 with 0 where missing; `called` is 1 where not missing, None where nothing is.
    """

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self.weights = weights
        self.places = np.empty(0, np.int64)  # within the contig, ascending
        self.copies = np.empty((0, weights.size), np.float32)
        self.called = np.empty((0, weights.size), np.float32)
        self.major = np.empty(0)  # frequency of the commoner allele

    def advance(self, start: int, new_start: int, copies: NDArray[np.int8], kept: NDArray[np.bool_]) -> None:
        """Drop variants before `start` and those no longer kept, and take in new ones from `new_start` on."""
        stays = (self.places >= start) & kept[self.places]
        called = (copies != MISSING).astype(np.float32)
        centred = np.where(copies == MISSING, 0, copies - 1).astype(np.float32)
        self.places = np.concatenate([self.places[stays], np.arange(new_start, new_start + len(copies))])
        self.copies = np.concatenate([self.copies[stays], centred])
        self.called = np.concatenate([self.called[stays], called])
        total = (called @ self.weights).astype(np.float64)
        alt = (1 + (centred @ self.weights) / np.maximum(total, 1e-9)) / 2
        self.major = np.concatenate([self.major[stays], np.maximum(alt, 1 - alt)])
        varies = np.where(called > 0, centred, -1).max(axis=1, initial=-1) > np.where(called > 0, centred, 1).min(
            axis=1, initial=1
        )
        kept[new_start : new_start + len(copies)] &= varies

    def linked(self, new_start: int, r2: float) -> NDArray[np.bool_]:
        """Which of the window's variants each new one is correlated with by more than `r2`: (new, window)."""
        new = self.places >= new_start
        first, second = (self.copies[new] * self.weights, self.copies), (self.called[new] * self.weights, self.called)
        both = _times(second[0], second[1])
        products = _times(first[0], first[1])
        sums, other_sums = _times(first[0], second[1]), _times(second[0], first[1])
        squares = _times(np.abs(first[0]), second[1])
        other_squares = _times(second[0], np.abs(self.copies))
        covariance = products * both - sums * other_sums
        variances = (squares * both - sums**2) * (other_squares * both - other_sums**2)
        return np.asarray(covariance**2 > r2 * variances)


def _times(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    return (one @ other.T).astype(np.float64)


def _prune_window(
    window: _Window, linked: NDArray[np.bool_], span: tuple[int, int, int], kept: NDArray[np.bool_]
) -> None:
    """Part the linked pairs of one window, of which one is new: pass by pass, one pair a variant, in order."""
    start, first_new, _ = span
    first = int(np.searchsorted(window.places, start))
    places = window.places[first:]
    new = int(np.searchsorted(places, first_new)) + np.arange(len(linked))
    pairs = linked[:, first:] & (np.arange(places.size) < new[:, None])
    while True:
        pairs &= kept[places] & kept[places[new]][:, None]
        ones = np.flatnonzero(pairs.any(axis=0))
        if not ones.size:
            return
        for one in ones.tolist():
            others = new[pairs[:, one]]
            others = others[kept[places[others]]]
            if kept[places[one]] and others.size:
                other = others[0]
                rarer = window.major[first + one] > window.major[first + other] * (1 + _EQUAL)
                kept[places[one if rarer else other]] = False
