"""The spliced sequence of a transcript, its translation, and what an allele within its exons makes of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

from careloop.genome.annotate.transcript import Transcript, reverse_complement
from careloop.genome.files.contigs import MITOCHONDRION, canonical_contig
from careloop.genome.files.reference import Reference

_CODONS = ["".join(bases) for bases in product("TCAG", repeat=3)]
# NCBI translation tables 1 and 2, residues in the order of _CODONS.
STANDARD = dict(zip(_CODONS, "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG", strict=True))
MITOCHONDRIAL = dict(zip(_CODONS, "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG", strict=True))
_START_CODONS = {id(STANDARD): ("ATG",), id(MITOCHONDRIAL): ("ATG", "ATA", "ATT", "ATC", "GTG")}
STOP, UNKNOWN_RESIDUE = "*", "X"
_HELD_TRANSCRIPTS = 512


def codon_table(contig: str) -> dict[str, str]:
    """The vertebrate mitochondrial code for the mitochondrion, the standard one for all else."""
    return MITOCHONDRIAL if canonical_contig(contig) == MITOCHONDRION else STANDARD


def translate(bases: str, table: dict[str, str], *, first: int = 0) -> str:
    """Residues (one letter) of the whole codons from base `first` on; X where a base is not A, C, G or T."""
    return "".join([table.get(bases[at : at + 3], UNKNOWN_RESIDUE) for at in range(first, len(bases) - 2, 3)])


def up_to_stop(residues: str) -> str:
    """The residues to the first stop, which is included; all where there is none."""
    at = residues.find(STOP)
    return residues if at < 0 else residues[: at + 1]


@dataclass(frozen=True)
class Spliced:
    """A transcript with its spliced bases, in the transcript's direction."""

    transcript: Transcript
    bases: str

    @cached_property
    def table(self) -> dict[str, str]:
        """Codon to residue."""
        return codon_table(self.transcript.contig)

    @cached_property
    def frame_start(self) -> int:
        """Offset of the first base of the first whole codon."""
        return self.transcript.cds_start + self.transcript.phase

    @property
    def first_codon(self) -> int:
        """Number of the first whole codon: 2 where a part of a codon is before it."""
        return 2 if self.transcript.phase else 1

    @cached_property
    def codons(self) -> str:
        """Residues of the whole codons of the annotated coding part."""
        return translate(self.bases[: self.transcript.cds_end], self.table, first=self.frame_start)

    @cached_property
    def protein(self) -> str:
        """Residues to the first stop, which is included; read on behind the coding part where it has none."""
        if STOP in self.codons:
            return up_to_stop(self.codons)
        return up_to_stop(translate(self.bases, self.table, first=self.frame_start))

    def begins_with_start(self, bases: str) -> bool:
        """Whether a spliced sequence of this transcript (changed behind its frame's start) has a start codon there."""
        return bases[self.frame_start : self.frame_start + 3] in _START_CODONS[id(self.table)]


class SplicedSequences:
    """Spliced sequences by transcript, read from a reference; those used last are held."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.of = lru_cache(maxsize=_HELD_TRANSCRIPTS)(self._read)

    def _read(self, transcript: Transcript) -> Spliced:
        fetch = self._reference.fetch
        bases = "".join([fetch(transcript.contig, start, end) for start, end in transcript.exons])
        return Spliced(transcript, bases if transcript.strand > 0 else reverse_complement(bases))


@dataclass(frozen=True)
class CodingChange:
    """Bases [start, end) of a spliced sequence (0-based) replaced by `alt`, all in the transcript's direction.

    The change begins in a whole codon of the coding part (`start` >= `frame_start`, and before the part's end).
    """

    spliced: Spliced
    start: int
    end: int
    alt: str

    @property
    def size(self) -> int:
        """Bases gained, negative lost."""
        return len(self.alt) - (self.end - self.start)

    @property
    def frameshift(self) -> bool:
        """Whether the reading frame behind the change is another one."""
        return self.size % 3 != 0

    @cached_property
    def bases(self) -> str:
        """The changed spliced sequence."""
        whole = self.spliced.bases
        return whole[: self.start] + self.alt + whole[self.end :]

    @cached_property
    def codon(self) -> int:
        """Index of the first codon touched, from the first whole codon (0-based)."""
        return (self.start - self.spliced.frame_start) // 3

    @cached_property
    def ref_window(self) -> str:
        """Bases of the codons touched, before the change; empty for an insertion between codons."""
        return self._window(self.spliced.bases, self.end)

    @cached_property
    def alt_window(self) -> str:
        """Bases of the codons touched, after the change; an end that is no whole codon is left as it is."""
        return self._window(self.bases, self.start + len(self.alt))

    def _window(self, bases: str, end: int) -> str:
        frame = self.spliced.frame_start
        first = frame + 3 * self.codon
        return bases[first : max(first, frame + -(-(end - frame) // 3) * 3)]

    @cached_property
    def ref_residues(self) -> str:
        """Residues of `ref_window`."""
        return translate(self.ref_window, self.spliced.table)

    @cached_property
    def alt_residues(self) -> str:
        """Residues of `alt_window`."""
        return translate(self.alt_window, self.spliced.table)

    @cached_property
    def protein(self) -> str:
        """The changed protein to its first stop, which is included; to the transcript's end where there is none."""
        before, behind = self.spliced.protein, self.codon + len(self.ref_residues)
        if self.spares_coding:
            return before
        if not self.size and STOP not in self.ref_residues and behind < len(before):  # the rest is as it was
            return up_to_stop(before[: self.codon] + self.alt_residues + before[behind:])
        return up_to_stop(translate(self.bases, self.spliced.table, first=self.spliced.frame_start))

    @property
    def translated(self) -> bool:
        """Whether no stop comes before the change, as one does in a coding part with a stop that is read through."""
        return self.codon < len(self.spliced.protein)

    @cached_property
    def touches_start(self) -> bool:
        """Whether bases of the start codon are replaced, removed or parted."""
        return self.spliced.transcript.complete_start and self.start < self.spliced.frame_start + 3

    @cached_property
    def keeps_start(self) -> bool:
        """Whether a start codon is where it was, or all of the coding part is left behind another leader."""
        return self.spliced.begins_with_start(self.bases) or self.spares_coding

    @cached_property
    def spares_coding(self) -> bool:
        """Whether it can as well be placed in the leader, the coding part being whole (a copy of the bases before)."""
        spliced = self.spliced
        if not spliced.transcript.complete_start or not self.size:
            return False
        return self.bases.endswith(spliced.bases[spliced.frame_start :])

    @cached_property
    def in_last_partial_codon(self) -> bool:
        """Whether it begins in bases behind the last whole codon of an incomplete coding part."""
        frame, end = self.spliced.frame_start, self.spliced.transcript.cds_end
        return self.start >= end - (end - frame) % 3
