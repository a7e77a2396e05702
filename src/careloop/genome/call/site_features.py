"""What the engine, the reference around it and the other candidates say of each candidate, as an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from careloop.genome.call.candidates import Candidate
from careloop.genome.call.haplotype_fit import Stretch

STRONG = 20.0  # Phred: a neighbour with this quality counts
NEAR = (10, 50, 150)  # bases to either side within which neighbours are counted
GC_HALF_WINDOW = 50
LONGEST_UNIT = 4  # of tandem repeats
FARTHEST = 200.0  # bases: an indel beyond this distance is no neighbour
SITE_FEATURES = (
    "pl_reference",
    "pl_heterozygous",
    "pl_homozygous",
    "depth_of_mean",
    "log_mean_depth",
    "alternative_share",
    "alternative_reads",
    "forward_share",
    "mapping_quality",
    "mapping_quality_zero",
    "is_insertion",
    "is_deletion",
    "log_length_change",
    "log_shift",
    *(f"log_run_of_unit_{unit}" for unit in range(1, LONGEST_UNIT + 1)),
    "gc",
    *(f"neighbours_within_{bases}" for bases in NEAR),
    "indel_distance",
    "indel_quality",
    "within_deletion",
    "quality_of_other_alleles",
    "is_transition",
)
TRANSITIONS = {("A", "G"), ("G", "A"), ("C", "T"), ("T", "C")}


def site_features(candidates: Sequence[Candidate], stretch: Stretch, *, mean_depth: float) -> Any:
    """Features (n, SITE_FEATURES), float32, of candidates sorted by start; `stretch` covers them with a margin."""
    columns = [
        *_engine_columns(candidates, mean_depth),
        *_allele_columns(candidates, stretch),
        *_reference_columns(candidates, stretch),
        *_neighbour_columns(candidates),
        [float((c.ref, c.alt) in TRANSITIONS) for c in candidates],
    ]
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)


def _engine_columns(candidates: Sequence[Candidate], mean_depth: float) -> list[Any]:
    pl = np.minimum(np.array([c.pl for c in candidates]), 120.0) / 40
    depth = np.array([c.depth for c in candidates], dtype=float)
    reference = np.array([sum(c.ref_reads) for c in candidates], dtype=float)
    alternative = np.array([sum(c.alt_reads) for c in candidates], dtype=float)
    forward = np.array([c.alt_reads[0] for c in candidates], dtype=float)
    return [
        *pl.T,
        np.minimum(depth / max(mean_depth, 1.0), 4.0),
        np.full(len(candidates), np.log1p(mean_depth)),
        alternative / np.maximum(reference + alternative, 1),
        np.log1p(alternative),
        forward / np.maximum(alternative, 1),
        np.array([c.mapping_quality for c in candidates]) / 60,
        [c.mapping_quality_zero for c in candidates],
    ]


def _allele_columns(candidates: Sequence[Candidate], stretch: Stretch) -> list[Any]:
    change = np.array([c.length_change for c in candidates], dtype=float)
    shifts = [_shift(c, stretch) if c.length_change else 0 for c in candidates]
    return [change > 0, change < 0, np.log1p(np.abs(change)), np.log1p(shifts)]


def _shift(candidate: Candidate, stretch: Stretch) -> int:
    """How many bases an indel could be moved to the right, up to 100: long in repeats of its own sequence."""
    moved = (candidate.ref if candidate.length_change < 0 else candidate.alt)[1:].encode()
    at = candidate.end - stretch.start
    if not moved:
        return 0
    after = stretch.bases[at : at + 100].tobytes()
    expected = (moved * (len(after) // len(moved) + 1))[: len(after)]
    return next((n for n, (a, b) in enumerate(zip(after, expected, strict=True)) if a != b), len(after))


def _reference_columns(candidates: Sequence[Candidate], stretch: Stretch) -> list[Any]:
    bases = stretch.bases
    # The base behind an indel's anchor is the first that it touches.
    at = np.array([c.start + (c.length_change != 0) for c in candidates]) - stretch.start
    at = np.clip(at, 0, len(bases) - 1)
    columns: list[Any] = []
    for unit in range(1, LONGEST_UNIT + 1):
        same = np.concatenate((bases[unit:] == bases[:-unit], np.zeros(unit, dtype=bool)))
        lengths = _run_lengths(same)
        columns.append(np.log1p(np.maximum(lengths[at], lengths[np.maximum(at - unit, 0)])))
    gc = np.concatenate(([0], np.cumsum((bases == ord("G")) | (bases == ord("C")))))
    low, high = np.maximum(at - GC_HALF_WINDOW, 0), np.minimum(at + GC_HALF_WINDOW, len(bases))
    return [*columns, (gc[high] - gc[low]) / np.maximum(high - low, 1)]


def _run_lengths(same: Any) -> Any:
    """The length of the run of True that each place stands in, 0 where it is False."""
    edges = np.flatnonzero(np.diff(same.astype(np.int8), prepend=0, append=0))
    lengths = np.zeros(len(same), dtype=np.int32)
    runs = edges[1::2] - edges[::2]
    lengths[same] = np.repeat(runs, runs)
    return lengths


def _neighbour_columns(candidates: Sequence[Candidate]) -> list[Any]:
    starts = np.array([c.start for c in candidates])
    quality = np.array([c.quality for c in candidates])
    strong = np.concatenate(([0], np.cumsum(quality >= STRONG)))
    counts: list[Any] = []
    for bases in NEAR:
        low, high = np.searchsorted(starts, starts - bases), np.searchsorted(starts, starts + bases, "right")
        counts.append(np.log1p(strong[high] - strong[low] - (quality >= STRONG)))
    return [*counts, *_indel_columns(candidates, starts), _other_alleles(starts, np.minimum(quality, 120.0) / 40)]


def _indel_columns(candidates: Sequence[Candidate], starts: Any) -> list[Any]:
    """Distance to the nearest strong indel elsewhere, its quality, and whether it deletes the candidate's place."""
    distance = np.full(len(candidates), FARTHEST)
    best, within = np.zeros(len(candidates)), np.zeros(len(candidates))
    for indel in candidates:
        if not indel.length_change or indel.quality < STRONG:
            continue
        low, high = np.searchsorted(starts, (indel.start - FARTHEST, indel.end + FARTHEST))
        for near in range(int(low), int(high)):
            if starts[near] == indel.start and candidates[near].length_change:
                continue
            gap = max(starts[near] - indel.end, indel.start - starts[near], 0)
            if gap < distance[near]:
                distance[near], best[near] = gap, min(indel.quality, 120.0) / 40
            within[near] = max(within[near], float(indel.start < starts[near] < indel.end))
    return [np.log1p(distance) / 5, best, within]


def _other_alleles(starts: Any, quality: Any) -> Any:
    """The best quality among other candidates of the same start; of more than four in a row the nearest three count."""
    other = np.zeros(len(starts))
    for step in (1, 2, 3):
        same = starts[step:] == starts[:-step]
        other[step:] = np.maximum(other[step:], np.where(same, quality[:-step], 0))
        other[:-step] = np.maximum(other[:-step], np.where(same, quality[step:], 0))
    return other
