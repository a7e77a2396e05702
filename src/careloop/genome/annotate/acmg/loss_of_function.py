"""PVS1 by the decision tree of Abou Tayoun et al. (Hum Mutat 2018;39:1517, figure 1), by sequence and genes.

What the tree asks of other data (whether the lost part is critical to function, whether the exon carries frequent loss
of function variants) is not answered here: the reason says so, and the branch for an unknown role is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from careloop.genome.annotate.acmg.criteria import Strength
from careloop.genome.annotate.coding import STOP, Spliced, translate, up_to_stop
from careloop.genome.annotate.consequence import DONOR_BASES, Change
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.transcript import Span, Transcript

NULL_TERMS = (
    "transcript_ablation",
    "splice_acceptor_variant",
    "splice_donor_variant",
    "stop_gained",
    "frameshift_variant",
    "start_lost",
)
ESCAPE_BASES = 50  # of the penultimate exon's end, in which a premature stop escapes decay
LARGE_SHARE = 0.10  # of the protein, above which its loss is strong evidence
_ROLE_UNKNOWN = "whether the lost part is critical to function was not looked at"


@dataclass(frozen=True)
class Outcome:
    """Where the tree ends: the strength, None where it does not apply or cannot be followed, and why."""

    strength: Strength | None
    reason: str
    followed: bool = True


def null_term(effect: Effect) -> str | None:
    """The effect's gravest term that is a null variant's, None where it is no null variant."""
    return next((term for term in effect.terms if term in NULL_TERMS), None)


def truncation(change: Change, effect: Effect, spliced: Spliced) -> Outcome:
    """The branch of nonsense and frameshift variants."""
    if effect.cds_end is None or effect.protein_start is None:
        return Outcome(None, "the change reaches out of an exon; the outcome is not predicted", followed=False)
    if effect.stop_codon is None:
        return Outcome(None, "the new reading frame meets no stop codon, which the tree does not cover", followed=False)
    transcript = spliced.transcript
    stop = transcript.cds_start + transcript.phase + 3 * (effect.stop_codon - spliced.first_codon)
    lengths = _exon_lengths(transcript)
    shift = len(change.alt) - len(change.ref)
    if transcript.cds_start + effect.cds_end <= sum(lengths[:-1]):
        lengths = _lengthened(lengths, transcript.cds_start + effect.cds_end, shift)
    return _by_decay(stop, lengths, _lost_share(effect.protein_start, spliced))


def splice_site(change: Change, spliced: Spliced) -> Outcome:
    """The branch of canonical splice sites: what the mRNA without the exon codes for."""
    transcript = spliced.transcript
    exons = _exons_at_risk(change, transcript)
    if len(exons) != 1:
        return Outcome(None, "more than one exon's splice sites are hit; the outcome is not predicted", followed=False)
    (number,) = exons
    lengths = _exon_lengths(transcript)
    if number in (1, len(lengths)):
        return Outcome(
            None, f"exon {number} of {len(lengths)} cannot be skipped; the outcome is not predicted", followed=False
        )
    start = sum(lengths[: number - 1])
    end = start + lengths[number - 1]
    coding = min(end, transcript.cds_end) - max(start, transcript.cds_start)
    if coding <= 0:
        return Outcome(None, f"exon {number}, which would be skipped, is not coding")
    if start < spliced.frame_start + 3:
        told = f"exon {number}, which would be skipped, holds the start codon; the outcome is not predicted"
        return Outcome(None, told, followed=False)
    bases = spliced.bases[:start] + spliced.bases[end:]
    protein = up_to_stop(translate(bases, spliced.table, first=spliced.frame_start))
    if not protein.endswith(STOP):
        return Outcome(
            None, f"without exon {number} no stop codon is met, which the tree does not cover", followed=False
        )
    share = coding / 3 / _residues(spliced)
    if len(spliced.protein) - len(protein) == coding / 3 and end <= transcript.cds_end:
        kept = f"skipping exon {number} would keep the reading frame and lose {share:.0%} of the protein"
        return Outcome(_by_share(share), f"{kept}; {_ROLE_UNKNOWN}")
    stop = spliced.frame_start + 3 * (len(protein) - 1)
    lost = 1 - (start - spliced.frame_start) / 3 / _residues(spliced)
    outcome = _by_decay(stop, [*lengths[: number - 1], *lengths[number:]], lost)
    return Outcome(outcome.strength, f"skipping exon {number} would change the reading frame: {outcome.reason}")


def start_loss(spliced: Spliced, others: Sequence[Transcript], pathogenic_before_next: int | None) -> Outcome:
    """The branch of the start codon.

    `others` are the gene's other coding transcripts, `pathogenic_before_next` how many known pathogenic variants lie
    before the next start codon in frame (`next_start`), None where that was not looked up.
    """
    own = _first_coding_base(spliced.transcript)
    elsewhere = [one.id for one in others if one.complete_start and _first_coding_base(one) != own]
    if elsewhere:
        return Outcome(None, f"another transcript of the gene ({elsewhere[0]}) begins at another start codon")
    if pathogenic_before_next:
        told = f"{pathogenic_before_next} known pathogenic variants lie before the next start codon in frame"
        return Outcome("moderate", f"no other transcript begins elsewhere, and {told}")
    told = "were looked for in no file" if pathogenic_before_next is None else "are not known"
    return Outcome(
        "supporting",
        f"no other transcript begins elsewhere; pathogenic variants before the next start codon in frame {told}",
    )


def next_start(spliced: Spliced) -> int:
    """Offset in the spliced sequence of the next methionine codon in frame, or of the coding part's end."""
    at = spliced.codons.find("M", 1)
    return spliced.transcript.cds_end if at < 0 else spliced.frame_start + 3 * at


def genomic_spans(transcript: Transcript, start: int, end: int) -> list[Span]:
    """The stretches of the genome that spliced bases [start, end) lie on, along the transcript."""
    spans = []
    offset = 0
    for first, last in transcript.exons[:: transcript.strand]:
        low, high = max(start - offset, 0), min(end - offset, last - first)
        if low < high:
            spans.append((first + low, first + high) if transcript.strand > 0 else (last - high, last - low))
        offset += last - first
    return spans


def _by_decay(stop: int, exons: Sequence[int], lost_share: float) -> Outcome:
    """Whether a stop codon at an offset of an mRNA of such exons leads to decay, and what follows."""
    junction = sum(exons[:-1])
    limit = junction - min(ESCAPE_BASES, exons[-2]) if len(exons) > 1 else 0
    if stop + 3 <= limit:
        return Outcome(
            "very strong",
            f"the stop codon lies {junction - stop - 3} bases before the last junction: decay is expected",
        )
    if len(exons) == 1:
        place = "the transcript has one exon"
    elif stop >= junction:
        place = "the stop codon lies in the last exon"
    else:
        place = f"the stop codon lies within the last {ESCAPE_BASES} bases of the penultimate exon"
    told = f"{place}, so that no decay is expected, and {lost_share:.0%} of the protein is lost"
    return Outcome(_by_share(lost_share), f"{told}; {_ROLE_UNKNOWN}")


def _by_share(lost: float) -> Strength:
    return "strong" if lost > LARGE_SHARE else "moderate"


def _lost_share(first_changed: int, spliced: Spliced) -> float:
    return 1 - (first_changed - spliced.first_codon) / _residues(spliced)


def _residues(spliced: Spliced) -> int:
    return max(len(spliced.protein.rstrip(STOP)), 1)


def _exon_lengths(transcript: Transcript) -> list[int]:
    """Lengths of the exons along the transcript."""
    return [end - start for start, end in transcript.exons[:: transcript.strand]]


def _lengthened(lengths: list[int], end: int, by: int) -> list[int]:
    """Exon lengths when the exon that holds the spliced base before `end` grows or shrinks."""
    index = next(i for i, upto in enumerate(accumulate(lengths)) if end <= upto)
    return [length + by if i == index else length for i, length in enumerate(lengths)]


def _exons_at_risk(change: Change, transcript: Transcript) -> set[int]:
    """Numbers of the exons whose splice site bases are touched: of a donor the exon before, of an acceptor behind."""
    exons = set()
    for number, (start, end) in enumerate(transcript.introns[:: transcript.strand], start=1):
        left, right = (start, start + DONOR_BASES), (end - DONOR_BASES, end)
        donor, acceptor = (left, right) if transcript.strand > 0 else (right, left)
        if change.overlaps(*donor):
            exons.add(number)
        if change.overlaps(*acceptor):
            exons.add(number + 1)
    return exons


def _first_coding_base(transcript: Transcript) -> int:
    return transcript.cds[0][0] if transcript.strand > 0 else transcript.cds[-1][1]
