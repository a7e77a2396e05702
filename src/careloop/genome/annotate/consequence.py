"""What an allele does to a transcript, as Sequence Ontology terms (as Ensembl VEP defines them)."""

from __future__ import annotations

from dataclasses import dataclass

from careloop.genome.annotate.coding import STOP, CodingChange, SplicedSequences
from careloop.genome.annotate.severity import by_severity
from careloop.genome.annotate.transcript import Span, Transcript, reverse_complement
from careloop.genome.annotate.transcripts import FLANK

DONOR_BASES = 2  # of an intron's ends, without which it is not spliced
REGION_EXON, REGION_INTRON = 3, 8  # bases beside an exon's end that make the splice region (SO:0001630)


@dataclass(frozen=True)
class Change:
    """A trimmed allele on the genome: bases [start, end) replaced by `alt`; start == end for an insertion."""

    start: int
    end: int
    ref: str
    alt: str

    @property
    def insertion(self) -> bool:
        """Whether nothing is removed."""
        return self.start == self.end

    def overlaps(self, start: int, end: int) -> bool:
        """Whether a base of [start, end) is replaced, or bases are inserted between two of it."""
        if self.insertion:
            return start < self.start < end
        return self.start < end and start < self.end

    def within(self, start: int, end: int) -> bool:
        """Whether nothing outside [start, end) is touched; an insertion at an end is within."""
        return start <= self.start and self.end <= end


def consequence(change: Change, transcript: Transcript, coding: CodingChange | None) -> tuple[str, ...]:
    """Terms for an allele on a transcript, the most severe first; empty where it is over 5,000 bases away.

    `coding` is the allele's `coding_change` on this transcript.
    """
    if not _touches(change, transcript):
        return _beside(change, transcript)
    if not change.insertion and change.start <= transcript.start and transcript.end <= change.end:
        return ("transcript_ablation",)
    terms = _splicing(change, transcript)
    if coding is not None:
        terms |= coding_terms(coding)
    elif transcript.coding:
        terms |= _parts_of_coding_transcript(change, transcript)
    else:
        terms |= _parts_of_other_transcript(change, transcript)
    if transcript.biotype == "nonsense_mediated_decay":
        terms.add("NMD_transcript_variant")
    return by_severity(terms)


def _touches(change: Change, transcript: Transcript) -> bool:
    return change.overlaps(transcript.start, transcript.end)


def distance_to(change: Change, transcript: Transcript) -> int:
    """Bases from the nearest one touched (of an insertion, the nearer of its two neighbours) to the transcript."""
    if change.start >= transcript.end:
        return change.start - transcript.end + (not change.insertion or change.start == transcript.end)
    return transcript.start - change.end + (not change.insertion or change.end == transcript.start)


def _beside(change: Change, transcript: Transcript) -> tuple[str, ...]:
    if distance_to(change, transcript) > FLANK:
        return ()
    behind = (change.start >= transcript.end) == (transcript.strand > 0)
    return ("downstream_gene_variant" if behind else "upstream_gene_variant",)


def _splicing(change: Change, transcript: Transcript) -> set[str]:
    """Splice and intron terms; an insertion that leaves an intron's end whole is not in it."""
    terms = set()
    left_site, right_site = ("donor", "acceptor") if transcript.strand > 0 else ("acceptor", "donor")
    for start, end in transcript.introns:
        if not change.overlaps(start - REGION_EXON, end + REGION_EXON):
            continue
        sites = ((start, start + DONOR_BASES, left_site), (end - DONOR_BASES, end, right_site))
        terms |= {f"splice_{site}_variant" for a, b, site in sites if change.overlaps(a, b)}
        if _in_splice_region(change, (start, end)):
            terms.add("splice_region_variant")
        if change.overlaps(start + DONOR_BASES, end - DONOR_BASES):
            terms.add("intron_variant")
    return terms


def touches_splice_site(change: Change, transcript: Transcript) -> bool:
    """Whether one of the two bases at an intron's ends is replaced, or bases are inserted between them."""
    return any(
        change.overlaps(start, start + DONOR_BASES) or change.overlaps(end - DONOR_BASES, end)
        for start, end in transcript.introns
    )


def _in_splice_region(change: Change, intron: Span) -> bool:
    """Whether a base of the region is touched that is not one of the intron's two last."""
    start, end = intron
    regions = (
        (start - REGION_EXON, start),
        (start + DONOR_BASES, start + REGION_INTRON),
        (end - REGION_INTRON, end - DONOR_BASES),
        (end, end + REGION_EXON),
    )
    if change.insertion:  # beside a base of the region, but not between two bases of a splice site
        return any(a <= change.start <= b for a, b in regions) and change.start not in (
            start - REGION_EXON, start + REGION_INTRON, end - REGION_INTRON, end + REGION_EXON
        )  # fmt: skip
    return any(change.overlaps(a, b) for a, b in regions)


def coding_change(change: Change, transcript: Transcript, sequences: SplicedSequences) -> CodingChange | None:
    """The allele on the spliced sequence, where it lies in one exon and begins in a whole codon; else None.

    Bases inserted between exon and intron leave the intron whole, and so count as the exon's.
    """
    if not transcript.coding or not _touches(change, transcript):
        return None
    exon = next(((start, end) for start, end in transcript.exons if change.within(start, end)), None)
    if exon is None:
        return None
    spliced = sequences.of(transcript)
    if change.insertion:
        start = _insertion_offset(change.start, exon, transcript)
        end = start
    else:
        offsets = [transcript.place(at).offset for at in (change.start, change.end - 1)]
        start, end = min(offsets), max(offsets) + 1
    inside = spliced.frame_start <= start < transcript.cds_end
    if not inside or (change.insertion and start == transcript.cds_start):
        return None
    return CodingChange(spliced, start, end, change.alt if transcript.strand > 0 else reverse_complement(change.alt))


def _insertion_offset(at: int, exon: Span, transcript: Transcript) -> int:
    """How many bases of the spliced sequence are before what is inserted before the genomic base `at`."""
    if transcript.strand > 0:
        return transcript.place(at - 1).offset + 1 if at > exon[0] else transcript.place(at).offset
    return transcript.place(at).offset + 1 if at < exon[1] else transcript.place(at - 1).offset


def coding_terms(change: CodingChange) -> set[str]:
    """Terms for an allele in the coding part."""
    spliced = change.spliced
    if change.end > spliced.transcript.cds_end:
        kept = change.translated and change.protein == spliced.protein
        return {"3_prime_UTR_variant", "stop_retained_variant" if kept else "stop_lost"}
    if change.in_last_partial_codon:
        return {"incomplete_terminal_codon_variant", "coding_sequence_variant"}
    terms = set()
    if change.touches_start and not change.keeps_start:
        terms.add("start_lost")
    elif change.spares_coding:
        return {"start_retained_variant", "5_prime_UTR_variant"}
    return terms | (_length_terms(change) if change.size else _substitution_terms(change))


def _substitution_terms(change: CodingChange) -> set[str]:
    ref, alt = change.ref_residues, change.alt_residues
    if ref == alt:
        return {"stop_retained_variant"} if ref == STOP else {"synonymous_variant"}
    if "X" in ref or "X" in alt:
        return {"coding_sequence_variant"}
    terms = set()
    if STOP in ref and not _same_stop(ref, alt):
        terms.add("stop_lost")
    elif STOP in alt and STOP not in ref:
        terms.add("stop_gained")
    elif not change.touches_start or change.keeps_start:
        terms.add("missense_variant")
    return terms


def _same_stop(ref: str, alt: str) -> bool:
    return STOP in alt and alt.index(STOP) <= ref.index(STOP)


def _length_terms(change: CodingChange) -> set[str]:
    """Terms for an allele that changes the length of the coding part."""
    spliced = change.spliced
    ref, alt = change.ref_residues, change.alt_residues
    stop_codon = spliced.frame_start + 3 * len(spliced.codons) - 3
    reaches_stop = change.end > stop_codon or (change.frameshift and change.end == change.start == stop_codon)
    reaches_stop &= spliced.codons.endswith(STOP)
    if reaches_stop and change.translated and change.protein == spliced.protein:
        return {"stop_retained_variant"}
    terms = {"stop_lost"} if reaches_stop and STOP not in change.alt_residues else set()
    if change.frameshift:
        return terms | {"frameshift_variant"} | ({"stop_gained"} if _stops_at_once(change) else set())
    if STOP in alt and STOP not in ref:
        terms.add("stop_gained")
    keeps = alt.startswith(ref) or alt.endswith(ref) if change.size > 0 else ref.startswith(alt) or ref.endswith(alt)
    if not keeps:
        return terms | {"protein_altering_variant"}
    return terms | {"inframe_insertion" if change.size > 0 else "inframe_deletion"}


def _stops_at_once(change: CodingChange) -> bool:
    """Whether the first residue that differs is a stop."""
    before, after = change.spliced.protein, change.protein
    return change.translated and after.endswith(STOP) and len(after) < len(before) and before.startswith(after[:-1])


def _parts_of_coding_transcript(change: Change, transcript: Transcript) -> set[str]:
    """Terms by the parts touched, where no single codon change can be told."""
    terms = set()
    cds_left, cds_right = transcript.cds[0][0], transcript.cds[-1][1]
    left, right = ("5_prime_UTR_variant", "3_prime_UTR_variant")[:: transcript.strand]
    for start, end in transcript.exons:
        if not (change.overlaps(start, end) or (change.insertion and change.within(start, end))):
            continue
        if change.start < cds_left and start < cds_left:
            terms.add(left)
        if change.end > cds_right and end > cds_right:
            terms.add(right)
        if change.insertion:
            terms.add(left if change.start <= cds_left else right if change.start >= cds_right else "")
        if change.overlaps(max(start, cds_left), min(end, cds_right)) and max(start, cds_left) < min(end, cds_right):
            terms.add("coding_sequence_variant")
    return (terms | _codon_ends(change, transcript)) - {""}


def _codon_ends(change: Change, transcript: Transcript) -> set[str]:
    """Start or stop lost by a deletion that reaches beyond the coding part or an exon."""
    if change.insertion:
        return set()
    terms = set()
    first, last = transcript.cds[0][0], transcript.cds[-1][1] - 1
    start_codon, stop_codon = (first, last)[:: transcript.strand]
    if change.start <= start_codon < change.end and transcript.complete_start:
        terms.add("start_lost")
    if change.start <= stop_codon < change.end:
        terms.add("stop_lost")
    return terms


def _parts_of_other_transcript(change: Change, transcript: Transcript) -> set[str]:
    if any(change.overlaps(*exon) or (change.insertion and change.start in exon) for exon in transcript.exons):
        return {"non_coding_transcript_exon_variant"}
    return {"non_coding_transcript_variant"}
