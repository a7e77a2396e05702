"""Which bases of a region were looked at: depth by mapping quality, and why the others cannot be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEFT_OUT = 0x4 | 0x100 | 0x200 | 0x400 | 0x800  # unmapped, secondary, quality fail, duplicate, supplementary
_PHRED_A_READ = 10 * np.log10(2)  # each read doubles the odds against a heterozygote of which it would show half
HIGHEST_QUALITY = 99
REASONS = ("no reads", "low depth", "low mapping quality", "N in the reference")


@dataclass(frozen=True, slots=True)
class CoverageRule:
    """From which depth of reads, counted from which mapping quality on, a base without a variant is called reference.

    Seven reads make a missed heterozygote less likely than one in a hundred (GQ 20).
    """

    depth: int = 7
    mapping_quality: int = 20


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring bases that are reference: 0-based `start` and `end`, the least depth, and the least quality (GQ)."""

    start: int
    end: int
    least_depth: int
    quality: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What blocks of a region give way to.

    `taken` are the intervals of variants, `doubt` the quality that rejected candidates leave the reference, by place,
    and `cuts` the places where the number of chromosomes changes.
    """

    taken: Sequence[tuple[int, int]] = ()
    doubt: Mapping[int, float] = field(default_factory=dict)
    cuts: Sequence[int] = ()


@dataclass(frozen=True, eq=False)
class Coverage:
    """Depth (n,) of a region's bases: of all reads, and of those that map well; and where the reference has bases."""

    start: int
    depth: NDArray[np.int32]
    well_mapped: NDArray[np.int32]
    known: NDArray[np.bool_]
    rule: CoverageRule

    @property
    def covered(self) -> NDArray[np.bool_]:
        """The bases (n,) that can be judged."""
        return self.known & (self.well_mapped >= self.rule.depth)

    def reasons(self) -> dict[str, int]:
        """How many bases cannot be judged, by reason."""
        without = ~self.covered & self.known
        found = {
            "no reads": without & (self.depth == 0),
            "low mapping quality": without & (self.depth >= self.rule.depth),
            "N in the reference": ~self.known,
        }
        found["low depth"] = ~self.covered & ~np.logical_or.reduce(list(found.values()))
        return {reason: int(found[reason].sum()) for reason in REASONS}

    def blocks(self, findings: Findings) -> Iterator[Block]:
        """Blocks of reference, cut where the quality falls into another band.

        A base's quality (GQ) is the Phred-scaled likelihood of a heterozygote at its depth, or that of a candidate
        there which was rejected. Bands are ten wide up to 60, as in gVCF files of GATK.
        """
        usable = self.covered.copy()
        for start, end in findings.taken:
            usable[max(0, start - self.start) : max(0, end - self.start)] = False
        quality = np.minimum(self.well_mapped * _PHRED_A_READ, HIGHEST_QUALITY)
        for place, left in findings.doubt.items():
            if 0 <= place - self.start < len(quality):
                quality[place - self.start] = min(quality[place - self.start], left)
        band = np.where(usable, np.minimum(quality, 60).astype(np.int64) // 10 + 1, 0)
        inside = [cut - self.start for cut in findings.cuts if 0 < cut - self.start < len(band)]
        borders = np.union1d(np.flatnonzero(np.diff(band)) + 1, np.array(inside, dtype=np.int64))
        for first, last in zip([0, *borders], [*borders, len(band)], strict=True):
            if last > first and band[first]:
                yield Block(
                    self.start + int(first),
                    self.start + int(last),
                    int(self.well_mapped[first:last].min()),
                    int(quality[first:last].min()),
                )


def coverage_of(reads: Any, reference: str, *, contig: str, start: int, rule: CoverageRule) -> Coverage:
    """Count reads (an open `pysam.AlignmentFile`) over the bases `reference` of `contig` from 0-based `start` on.

    Duplicates, secondary and supplementary alignments and reads that failed quality control do not count; the bases
    that both mates cover count once for each.
    """
    size = len(reference)
    steps = np.zeros((2, size + 1), dtype=np.int32)
    for read in reads.fetch(contig, start, start + size):
        if read.flag & _LEFT_OUT:
            continue
        rows = steps if read.mapping_quality >= rule.mapping_quality else steps[:1]
        for first, last in read.get_blocks():
            if last > start and first < start + size:
                rows[:, max(0, first - start)] += 1
                rows[:, min(size, last - start)] -= 1
    depth, well_mapped = np.cumsum(steps, axis=1, dtype=np.int32)[:, :-1]
    known = np.frombuffer(reference.upper().encode(), dtype=np.uint8) != ord("N")
    return Coverage(start, depth, well_mapped, known, rule)
