"""A transcript on the genome: exons, coding part, and where a genomic base lies in the spliced sequence."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

Span = tuple[int, int]  # 0-based, half-open, on the genome, ascending
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")

MANE_TAGS = frozenset({"MANE_Select", "MANE Select"})
CANONICAL_TAGS = frozenset({"Ensembl_canonical", "RefSeq Select", "RefSeq_Select"})
INCOMPLETE_START_TAGS = frozenset({"cds_start_NF", "mRNA_start_NF"})


def reverse_complement(bases: str) -> str:
    """The bases of the other strand, in its own direction (A, C, G, T and N)."""
    return bases.translate(_COMPLEMENT)[::-1]


@dataclass(frozen=True, order=True)
class Place:
    """A genomic base seen from a transcript.

    `offset` is that of the nearest base of an exon in the spliced sequence (0-based, along the transcript); `distance`
    is 0 in an exon, positive that many bases behind the exon's end, negative that many before the next one's start.
    """

    offset: int
    distance: int = 0


@dataclass(frozen=True)
class Transcript:
    """One transcript; spans are 0-based and half-open on the genome, ascending whatever the strand (1 or -1).

    `cds` is the coding part within the exons, the stop codon included, empty where nothing is coded; `phase` is how
    many of its first bases (along the transcript) complete a codon that is not annotated (GFF3 phase, 0 to 2).
    """

    id: str
    gene_id: str
    gene_name: str
    contig: str
    strand: int
    exons: tuple[Span, ...]
    cds: tuple[Span, ...] = ()
    phase: int = 0
    biotype: str = ""
    tags: frozenset[str] = frozenset()

    @property
    def start(self) -> int:
        """The first base of the transcript on the genome, 0-based."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """The base after the last one on the genome."""
        return self.exons[-1][1]

    @property
    def coding(self) -> bool:
        """Whether it has a coding part."""
        return bool(self.cds)

    @property
    def mane(self) -> bool:
        """Whether the gene file marks it as MANE Select."""
        return bool(self.tags & MANE_TAGS)

    @property
    def canonical(self) -> bool:
        """Whether the gene file marks it as its gene's canonical transcript."""
        return bool(self.tags & CANONICAL_TAGS)

    @property
    def complete_start(self) -> bool:
        """Whether the coding part begins with a start codon, as far as the gene file says."""
        return self.phase == 0 and not self.tags & INCOMPLETE_START_TAGS

    @cached_property
    def introns(self) -> tuple[Span, ...]:
        """The stretches between exons, ascending on the genome."""
        return tuple((left[1], right[0]) for left, right in pairwise(self.exons))

    @cached_property
    def length(self) -> int:
        """Bases of all exons."""
        return sum(end - start for start, end in self.exons)

    @cached_property
    def cds_length(self) -> int:
        """Bases of the coding part with its stop codon."""
        return sum(end - start for start, end in self.cds)

    @cached_property
    def cds_start(self) -> int:
        """Offset of the first coding base in the spliced sequence."""
        return self.place(self.cds[0][0] if self.strand > 0 else self.cds[-1][1] - 1).offset

    @property
    def cds_end(self) -> int:
        """Offset of the base after the last coding one in the spliced sequence."""
        return self.cds_start + self.cds_length

    @cached_property
    def cds_junctions(self) -> tuple[int, ...]:
        """Where exons meet, as offsets in the coding part (along the transcript), first to last."""
        ends = list(accumulate(end - start for start, end in self.cds[:: self.strand]))
        return tuple(ends[:-1])

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.exons]

    @cached_property
    def _before(self) -> list[int]:
        """Exonic bases left of each exon on the genome."""
        return [0, *accumulate(end - start for start, end in self.exons)]

    def place(self, position: int) -> Place:
        """Where a genomic base (0-based, start <= position < end) lies; in the middle of an intron, behind the exon."""
        index = bisect_right(self._starts, position) - 1
        exon_start, exon_end = self.exons[index]
        if position < exon_end:
            return Place(self._along(self._before[index] + position - exon_start))
        from_left, from_right = position - exon_end + 1, self.exons[index + 1][0] - position
        boundary = self._before[index + 1]  # the right exon's first base, counted on the genome
        nearer_left = from_left <= from_right if self.strand > 0 else from_left < from_right
        if nearer_left:
            return Place(self._along(boundary - 1), from_left * self.strand)
        return Place(self._along(boundary), -from_right * self.strand)

    def _along(self, genomic_offset: int) -> int:
        return genomic_offset if self.strand > 0 else self.length - 1 - genomic_offset

    def exon_number(self, position: int) -> int | None:
        """Number (from 1, along the transcript) of the exon that a genomic base lies in, None in an intron."""
        index = bisect_right(self._starts, position) - 1
        if index < 0 or position >= self.exons[index][1]:
            return None
        return index + 1 if self.strand > 0 else len(self.exons) - index

    def intron_number(self, position: int) -> int | None:
        """Number (from 1, along the transcript) of the intron that a genomic base lies in, None in an exon."""
        index = bisect_right(self._starts, position) - 1
        if not 0 <= index < len(self.exons) - 1 or position < self.exons[index][1]:
            return None
        return index + 1 if self.strand > 0 else len(self.exons) - 1 - index
