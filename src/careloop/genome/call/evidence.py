"""What each fragment of the sample says for or against each candidate, as arrays for the network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.genome.call.candidates import Candidate
from careloop.genome.call.haplotype_fit import ReadTable, Stretch, fit
from careloop.genome.call.site_features import SITE_FEATURES, site_features

MARGIN = 1000  # reference bases beyond the candidates: a read's length and a long deletion
LONGEST_READ = 400  # of longer reads the part from 5' on is used
MOST_FRAGMENTS = 64  # of a candidate; of more, evenly chosen ones (the order of reads says nothing of the allele)
MOST_READS = 500  # of a candidate that are looked at, so that memory is bounded where panels are read very deep
SKIPPED_FLAGS = 0x4 | 0x100 | 0x200 | 0x400 | 0x800  # unmapped, secondary, failed, duplicate, supplementary
HIGHEST_RATIO = 20.0  # nats: one fragment never says more
FRAGMENT_FEATURES = (
    "log_likelihood_ratio",
    "mapping_quality",
    "reverse",
    "distance_to_end",
    "cost_of_better_fit",
    "clipped_bases",
    "proper_pair",
    "both_mates",
    "mean_base_quality",
    "indels_in_alignment",
)
Fetch = Callable[[str, int, int], str]  # (contig, start, end) -> upper-case bases


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of n candidates, all float32.

    `fragments` (n, most fragments, FRAGMENT_FEATURES) and `present` (n, most fragments; 0 or 1) are padded with zeros
    behind each candidate's fragments; `sites` is (n, SITE_FEATURES).
    """

    fragments: Any
    present: Any
    sites: Any


@dataclass(frozen=True, slots=True)
class _Read:
    """What is kept of an aligned read while its candidates are looked up."""

    bases: bytes
    qualities: bytes
    first: int
    last: int
    start: int
    end: int
    features: tuple[float, ...]
    fragment: int


def gather_evidence(candidates: Sequence[Candidate], reads: Any, fetch: Fetch) -> Evidence:
    """The evidence of candidates of one contig, sorted by start; `reads` is an open, indexed pysam.AlignmentFile.

    Reads are passed over once. For memory, callers give a region of up to a few million bases.
    """
    if not candidates:
        return Evidence(*_no_fragments(0), np.zeros((0, len(SITE_FEATURES)), np.float32))
    contig = candidates[0].contig
    low = max(min(candidate.start for candidate in candidates) - MARGIN, 0)
    high = max(candidate.end for candidate in candidates) + MARGIN
    stretch = Stretch(np.frombuffer(fetch(contig, low, high).encode(), dtype=np.uint8), low)
    kept, rows, of, bases_aligned = _pairs(candidates, reads.fetch(contig, low, high))
    sites = site_features(candidates, stretch, mean_depth=bases_aligned / (high - low))
    if not kept:
        return Evidence(*_no_fragments(len(candidates)), sites)
    features, numbers = _pair_features(kept, candidates, stretch, rows=rows, of=of)
    return Evidence(*_by_candidate(*_joined_mates(features, numbers, of), size=len(candidates)), sites)


def _no_fragments(candidates: int) -> tuple[Any, Any]:
    return np.zeros((candidates, 1, len(FRAGMENT_FEATURES)), np.float32), np.zeros((candidates, 1), np.float32)


def _pairs(candidates: Sequence[Candidate], alignments: Iterator[Any]) -> tuple[list[_Read], Any, Any, int]:
    """Reads over a candidate; the pairs' read rows and candidate numbers; and how many bases all reads cover."""
    starts = [candidate.start for candidate in candidates]
    ends = [candidate.end for candidate in candidates]
    longest = max(end - start for start, end in zip(starts, ends, strict=True))
    kept: list[_Read] = []
    rows: list[int] = []
    of: list[int] = []
    names: dict[str, int] = {}
    taken = [0] * len(starts)
    covered = 0
    for alignment in alignments:
        if alignment.flag & SKIPPED_FLAGS:
            continue
        start, end = alignment.reference_start, alignment.reference_end
        if end is None:
            continue
        covered += end - start
        cigar = alignment.cigartuples
        before, after = _clips(cigar)
        number = bisect_left(starts, start - before - longest)
        over = []
        while number < len(starts) and starts[number] < end + after:
            if ends[number] > start - before and taken[number] < MOST_READS:
                taken[number] += 1
                over.append(number)
            number += 1
        if over and alignment.query_qualities is not None:
            rows += [len(kept)] * len(over)
            of += over
            kept.append(_read(alignment, (before, after), names.setdefault(alignment.query_name, len(names))))
    return kept, np.array(rows, dtype=int), np.array(of, dtype=int), covered


def _clips(cigar: list[tuple[int, int]]) -> tuple[int, int]:
    """Soft-clipped bases before and after the aligned part."""
    inner = [step for step in cigar if step[0] != 5]
    return (inner[0][1] if inner[0][0] == 4 else 0), (inner[-1][1] if inner[-1][0] == 4 else 0)


def _read(alignment: Any, clips: tuple[int, int], fragment: int) -> _Read:
    bases, (before, after) = alignment.query_sequence, clips
    start, end, flag = alignment.reference_start, alignment.reference_end, alignment.flag
    return _Read(
        bases=bases.encode()[:LONGEST_READ],
        qualities=alignment.query_qualities.tobytes()[:LONGEST_READ],
        first=start - before,
        last=end + after - len(bases),
        start=start,
        end=end,
        features=(
            alignment.mapping_quality / 60,
            float(flag & 16 > 0),
            (before + after) / 50,
            float(flag & 2 > 0),
            float(sum(step[0] in (1, 2) for step in alignment.cigartuples)),
        ),
        fragment=fragment,
    )


def _table(kept: list[_Read]) -> ReadTable:
    lengths = np.array([len(read.bases) for read in kept])
    width = int(lengths.max())
    pad = [width - length for length in lengths.tolist()]
    bases = b"".join(read.bases + b"N" * more for read, more in zip(kept, pad, strict=True))
    qualities = b"".join(read.qualities + b"\0" * more for read, more in zip(kept, pad, strict=True))
    places = np.array([(read.first, read.last, read.start, read.end) for read in kept])
    return ReadTable(
        np.frombuffer(bases, dtype=np.uint8).reshape(-1, width),
        np.frombuffer(qualities, dtype=np.uint8).reshape(-1, width),
        lengths,
        *places.T,
    )


def _pair_features(
    kept: list[_Read], candidates: Sequence[Candidate], stretch: Stretch, *, rows: Any, of: Any
) -> tuple[Any, Any]:
    """Features (pairs, FRAGMENT_FEATURES) and the numbers of the pairs' fragments."""
    table = _table(kept)
    fits = fit(table, candidates, stretch, rows=rows, of=of)
    starts = np.array([candidate.start for candidate in candidates])[of]
    along = starts - np.where(table.start[rows] <= starts, table.first[rows], table.last[rows])
    lengths = table.lengths[rows]
    distance = np.clip(np.minimum(along, lengths - 1 - along), 0, None)
    quality = (table.qualities.sum(axis=1) / table.lengths)[rows]
    mapping, reverse, clipped, proper, indels = np.array([read.features for read in kept])[rows].T
    columns = (
        fits.ratio,
        mapping,
        reverse,
        distance / 75,
        fits.cost / 20,
        clipped,
        proper,
        np.zeros(len(rows)),
        quality / 40,
        indels,
    )
    return np.stack(columns, axis=1).astype(np.float32), np.array([read.fragment for read in kept])[rows]


def _joined_mates(features: Any, numbers: Any, of: Any) -> tuple[Any, Any]:
    """One row for each fragment and candidate: ratios of two overlapping mates added, their other features averaged."""
    order = np.lexsort((numbers, of))
    features, numbers, of = features[order], numbers[order], of[order]
    first = np.flatnonzero(np.concatenate(([True], (numbers[1:] != numbers[:-1]) | (of[1:] != of[:-1]))))
    count = np.diff(np.concatenate((first, [len(of)])))[:, None]
    joined = np.add.reduceat(features, first, axis=0)
    joined[:, 1:] /= count
    joined[:, FRAGMENT_FEATURES.index("both_mates")] = count[:, 0] > 1
    joined[:, 0] = np.clip(joined[:, 0], -HIGHEST_RATIO, HIGHEST_RATIO)
    return joined, of[first]


def _by_candidate(features: Any, of: Any, *, size: int) -> tuple[Any, Any]:
    """Rows (sorted by `of`) as (size, most fragments, features) and which are present."""
    counts = np.bincount(of, minlength=size)
    rank = np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
    total = counts[of]
    slot = np.where(total > MOST_FRAGMENTS, rank * MOST_FRAGMENTS // np.maximum(total, 1), rank)
    width = int(slot.max()) + 1
    fragments = np.zeros((size, width, features.shape[1]), dtype=np.float32)
    present = np.zeros((size, width), dtype=np.float32)
    fragments[of, slot] = features
    present[of, slot] = 1
    return fragments, present
