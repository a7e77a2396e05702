"""Names of DNA changes by the HGVS nomenclature (21.1): `g.` and `m.` on the genome, `c.` and `n.` on transcripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from careloop.genome.annotate.consequence import Change
from careloop.genome.annotate.transcript import Place, Transcript, reverse_complement
from careloop.genome.files.builds import UNKNOWN
from careloop.genome.files.contigs import CHROMOSOMES, MITOCHONDRION, build_of_accession, canonical_contig
from careloop.genome.variants.alleles import MAX_SHIFT, STEP, Fetch, room_right

_NEWEST_VERSION = 14  # of the accessions of GRCh38's chromosomes
_SERIES = {"T2T-CHM13v2.0": ("NC_", 60_925)}


def shift(change: Change, fetch: Fetch, strand: int) -> Change:
    """The change moved as far as possible towards the 3' end of a strand (HGVS general recommendations, 3' rule).

    Only pure insertions and deletions can be moved; they move over exon ends, as the sequence named is the genome's.
    """
    if bool(change.ref) == bool(change.alt):
        return change
    unit = change.ref or change.alt
    moved = room_right(fetch, change.end, unit) if strand > 0 else _room_left(fetch, change.start, unit)
    if not moved:
        return change
    turn = moved % len(unit)
    unit = unit[turn:] + unit[:turn] if strand > 0 else unit[len(unit) - turn :] + unit[: len(unit) - turn]
    by = moved * strand
    return Change(change.start + by, change.end + by, unit if change.ref else "", unit if change.alt else "")


def _room_left(fetch: Fetch, start: int, unit: str) -> int:
    count = 0
    while count < min(MAX_SHIFT, start):
        known = fetch(max(0, start - count - STEP), start - count)
        for base in reversed(known):
            if base != unit[-1 - count % len(unit)]:
                return count
            count += 1
    return count


@dataclass(frozen=True)
class _Numbered:
    """How a reference sequence numbers genomic bases; `strand` is its direction on the genome."""

    number: Callable[[int], str]
    strand: int

    def span(self, start: int, end: int) -> str:
        """The first and last of genomic bases [start, end), in this sequence's direction; one where it is one."""
        first, last = (start, end - 1) if self.strand > 0 else (end - 1, start)
        return self.number(first) if first == last else f"{self.number(first)}_{self.number(last)}"


def _name(change: Change, fetch: Fetch, numbered: _Numbered) -> str:
    """The change in one sequence's numbers, without the letter before: `76A>T`, `76_78del`, `76dup`, `76_77insT`."""
    change = shift(change, fetch, numbered.strand)
    turned = (lambda bases: bases) if numbered.strand > 0 else reverse_complement
    ref, alt = turned(change.ref), turned(change.alt)
    if not ref:
        before = (change.start - len(alt), change.start) if numbered.strand > 0 else (change.end, change.end + len(alt))
        if before[0] >= 0 and fetch(*before) == change.alt:
            return f"{numbered.span(*before)}dup"
        return f"{numbered.span(change.start - 1, change.start + 1)}ins{alt}"
    where = numbered.span(change.start, change.end)
    if not alt:
        return f"{where}del"
    if len(ref) == len(alt) == 1:
        return f"{where}{ref}>{alt}"
    if len(ref) > 1 and alt == reverse_complement(ref):
        return f"{where}inv"
    return f"{where}delins{alt}"


def genomic_name(change: Change, contig: str, fetch: Fetch, *, build: str = UNKNOWN) -> str:
    """The change on the genome: `NC_000020.11:g.76A>T`; the contig's own name where its accession is not known."""
    letter = "m" if canonical_contig(contig) == MITOCHONDRION else "g"
    numbered = _Numbered(lambda position: str(position + 1), 1)
    return f"{accession(contig, build)}:{letter}.{_name(change, fetch, numbered)}"


@lru_cache(maxsize=4096)
def accession(contig: str, build: str) -> str:
    """RefSeq's accession with version of a chromosome in a build, else the name as it is."""
    if build_of_accession(contig):
        return contig
    plain = canonical_contig(contig)
    if plain == MITOCHONDRION and build != UNKNOWN:
        return "NC_012920.1"
    if plain not in CHROMOSOMES:
        return contig
    number = CHROMOSOMES.index(plain)
    prefix, first = _SERIES.get(build, ("NC_", 1))
    names = (f"{prefix}{first + number:06d}.{version}" for version in range(1, _NEWEST_VERSION + 1))
    return next((name for name in names if build_of_accession(name) == build), contig)


def transcript_name(change: Change, transcript: Transcript, fetch: Fetch) -> str:
    """The change on a transcript: `c.76A>T`, `c.88+2T>G`, `c.-14G>C`, `c.*46T>A`, `n.76A>T` where nothing is coded.

    Empty for a change that reaches beyond the transcript, whose bases have no numbers there.
    """
    letter = "c" if transcript.coding else "n"
    inside = _Within(transcript)
    try:
        return f"{letter}.{_name(change, fetch, _Numbered(inside.number, transcript.strand))}"
    except _BeyondError:
        return ""


class _BeyondError(ValueError):
    """A genomic base that is not within the transcript."""


@dataclass(frozen=True)
class _Within:
    """Numbers of genomic bases within a transcript."""

    transcript: Transcript

    def number(self, position: int) -> str:
        """The number of a genomic base (0-based) of the transcript."""
        if not self.transcript.start <= position < self.transcript.end:
            raise _BeyondError
        return place_number(self.transcript.place(position), self.transcript)


def place_number(place: Place, transcript: Transcript) -> str:
    """A place in a transcript as HGVS numbers it: `76`, `-14`, `*46`, `88+2`, `89-1`."""
    beside = f"{place.distance:+d}" if place.distance else ""
    if not transcript.coding:
        return f"{place.offset + 1}{beside}"
    if place.offset < transcript.cds_start:
        return f"{place.offset - transcript.cds_start}{beside}"
    if place.offset >= transcript.cds_end:
        return f"*{place.offset - transcript.cds_end + 1}{beside}"
    return f"{place.offset - transcript.cds_start + 1}{beside}"
