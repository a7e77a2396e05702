"""How much better a read fits the haplotype with a candidate's alternative allele than the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.genome.call.candidates import Candidate

# What one indel that the haplotype does not explain costs a read, in nats: Phred 35, bcftools mpileup's range for gaps.
GAP_COST = 8.0
PAIRS_AT_ONCE = 4096  # read and candidate pairs scored together: the arrays stay in the processor's cache
_QUALITY = np.arange(256)
_ERROR = np.clip(10 ** (-_QUALITY / 10), 1e-9, 0.75)
# -log of a wrong base's likelihood relative to a right one's, by Phred quality; qualities above 45 say no more.
MISMATCH_COST = np.log((1 - _ERROR) / (_ERROR / 3))[np.minimum(_QUALITY, 45)].astype(np.float32)
N_BASE = ord("N")


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Reads as arrays. `bases`, `qualities`: (reads, longest read) uint8, padded with N and 0; `lengths`: (reads,).

    Read base i lies at reference base `first + i` by the alignment's start and at `last + i` by its end (they differ
    by the alignment's indels); `start` and `end` are the aligned reference bases, 0-based half-open.
    """

    bases: Any
    qualities: Any
    lengths: Any
    first: Any
    last: Any
    start: Any
    end: Any


@dataclass(frozen=True, slots=True)
class Fit:
    """Of pairs of read and candidate, in nats.

    `ratio` is the log-likelihood ratio of the alternative allele's haplotype to the reference, `cost` what the better
    of the two leaves unexplained.
    """

    ratio: Any
    cost: Any


@dataclass(frozen=True, slots=True)
class Stretch:
    """Reference bases (uint8) from 0-based `start`."""

    bases: Any
    start: int


def fit(reads: ReadTable, candidates: Sequence[Candidate], stretch: Stretch, *, rows: Any, of: Any) -> Fit:
    """Fits of the pairs (read `rows[i]`, candidate `of[i]`); `stretch` covers the reads with a margin.

    A read is laid without gaps from its alignment's start, from its end, or from both with one gap where that is best,
    on the reference and on the alternative haplotype. Mismatches cost by base quality.
    """
    alleles = _Alleles(candidates)
    ratio = np.empty(len(rows), dtype=np.float32)
    cost = np.empty(len(rows), dtype=np.float32)
    for low in range(0, len(rows), PAIRS_AT_ONCE):
        part = slice(low, low + PAIRS_AT_ONCE)
        reference, alternative = _costs(reads, alleles, stretch, rows[part], of[part])
        ratio[part] = reference - alternative
        cost[part] = np.minimum(reference, alternative)
    return Fit(ratio, cost)


class _Alleles:
    """The candidates' places and alternative bases as arrays."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.start = np.array([c.start for c in candidates])
        self.end = np.array([c.end for c in candidates])
        self.alt_length = np.array([len(c.alt) for c in candidates])
        self.bases = np.frombuffer("".join(c.alt for c in candidates).encode(), dtype=np.uint8)
        self.offset = np.cumsum(self.alt_length) - self.alt_length


def _costs(reads: ReadTable, alleles: _Alleles, stretch: Stretch, rows: Any, of: Any) -> tuple[Any, Any]:
    bases, mismatch = reads.bases[rows], MISMATCH_COST[reads.qualities[rows]]
    mismatch[bases == N_BASE] = 0
    steps = np.arange(bases.shape[1])
    start, end = alleles.start[of], alleles.end[of]
    change = alleles.alt_length[of] - (end - start)
    first, last = reads.first[rows], reads.last[rows]
    reference = _laid(
        mismatch, [bases != _at(stretch, anchor[:, None] + steps) for anchor in (first, last)], first - last
    )
    # A read whose aligned part begins behind the variant (or ends behind it) stands further on by the change of length.
    first_on_alternative = first + np.where(reads.start[rows] >= end, change, 0)
    last_on_alternative = last + np.where(reads.end[rows] > start, change, 0)
    alternative = _laid(
        mismatch,
        [
            bases != _on_alternative(anchor[:, None] + steps, alleles, stretch, of)
            for anchor in (first_on_alternative, last_on_alternative)
        ],
        first_on_alternative - last_on_alternative,
    )
    return reference, alternative


def _at(stretch: Stretch, places: Any) -> Any:
    return stretch.bases[np.clip(places - stretch.start, 0, len(stretch.bases) - 1)]


def _on_alternative(places: Any, alleles: _Alleles, stretch: Stretch, of: Any) -> Any:
    """Bases of the haplotypes with the alternative allele at `places` (pairs, bases), counted along them."""
    start, length = alleles.start[of][:, None], alleles.alt_length[of][:, None]
    change = length - (alleles.end[of][:, None] - start)
    found = _at(stretch, np.where(places < start + length, places, places - change))
    row, column = np.nonzero((places >= start) & (places < start + length))
    within = places[row, column] - alleles.start[of[row]]
    found[row, column] = alleles.bases[alleles.offset[of[row]] + within]
    return found


def _laid(mismatch: Any, differs: list[Any], inserted: Any) -> Any:
    """The least cost (pairs,) of laying each read from its start, from its end, or with one gap between the two.

    `inserted` (pairs,) are the read's bases within the gap; negative where the haplotype has more, 0 without a gap.
    """
    from_first = mismatch * differs[0]
    best = from_first.sum(axis=1)
    where = np.flatnonzero(inserted)
    if len(where):
        left = np.cumsum(from_first[where], axis=1)
        done = np.cumsum(mismatch[where] * differs[1][where], axis=1)
        whole = done[:, -1]
        behind_gap = np.arange(done.shape[1]) + np.maximum(inserted[where], 0)[:, None]
        right = whole[:, None] - np.take_along_axis(done, np.minimum(behind_gap, done.shape[1] - 1), axis=1)
        with_gap = (left + right).min(axis=1) + GAP_COST
        best[where] = np.minimum(np.minimum(best[where], whole), with_gap)
    return best
