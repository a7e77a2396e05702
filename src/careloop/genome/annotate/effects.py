"""All effects of an allele, one for each transcript near it, and the one shown first for each gene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from careloop.genome.annotate.coding import STOP, CodingChange, SplicedSequences
from careloop.genome.annotate.consequence import (
    Change,
    coding_change,
    consequence,
    distance_to,
    touches_splice_site,
)
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.hgvs_dna import Fetch, shift, transcript_name
from careloop.genome.annotate.hgvs_protein import protein_name
from careloop.genome.annotate.severity import impact, rank
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.annotate.transcripts import Genes
from careloop.genome.variant import Variant
from careloop.genome.variants.alleles import trim

INTERGENIC = "intergenic_variant"
_BESIDE = frozenset({"upstream_gene_variant", "downstream_gene_variant", INTERGENIC})


def change_of(variant: Variant) -> Change:
    """The allele without what it shares with the reference at its ends."""
    start, (ref, alt) = trim(variant.start, (variant.ref, variant.alt))
    return Change(start, start + len(ref), ref, alt)


def effects_of(variant: Variant, genes: Genes, sequences: SplicedSequences, fetch: Fetch) -> tuple[Effect, ...]:
    """The effects of an allele (bases) on all transcripts within 5,000 bases, the most severe first.

    `fetch` gives bases of the variant's contig. One effect of no transcript, `intergenic_variant`, where there is none
    near.
    """
    change = change_of(variant)
    found = []
    for transcript in genes.near(variant.contig, change.start, change.end):
        placed = _placed(change, transcript, fetch)
        coding = coding_change(placed, transcript, sequences)
        terms = consequence(placed, transcript, coding)
        if not terms:
            continue
        effect = Effect(transcript, variant.alt, terms, impact(terms[0]))
        if terms[0] in _BESIDE:
            found.append(replace(effect, distance=distance_to(placed, transcript)))
        else:
            found.append(_within(effect, transcript, placed, coding, fetch))
    if not found:
        return (Effect(None, variant.alt, (INTERGENIC,), impact(INTERGENIC)),)
    return tuple(sorted(found, key=lambda effect: (rank(effect.terms[0]), _preference(effect))))


def _placed(change: Change, transcript: Transcript, fetch: Fetch) -> Change:
    """An indel where its consequence is judged: at its most 3' place on the transcript, as HGVS names it.

    Where it would touch a splice site there and does not at its most 5' place, it is judged there: the changed sequence
    is the same, and has the site whole. So the strand and a file's habit of aligning to the left make no difference.
    """
    last = shift(change, fetch, transcript.strand)
    if not touches_splice_site(last, transcript):
        return last
    first = shift(change, fetch, -transcript.strand)
    return last if touches_splice_site(first, transcript) else first


def _within(
    effect: Effect, transcript: Transcript, change: Change, coding: CodingChange | None, fetch: Fetch
) -> Effect:
    """The effect with names and numbers, for an allele that touches the transcript."""
    exon, intron = _numbers(change, transcript)
    effect = replace(effect, hgvs_c=transcript_name(change, transcript, fetch), exon=exon, intron=intron)
    return effect if coding is None else _coding(effect, coding)


def _numbers(change: Change, transcript: Transcript) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """The first exon and the first intron touched, numbered along the transcript.

    Of an insertion both neighbours count; between exon and intron it is the exon's.
    """
    ends = (change.start - 1, change.start) if change.insertion else (change.start, change.end - 1)
    within = [min(max(at, transcript.start), transcript.end - 1) for at in ends][:: transcript.strand]
    exon = next((number for at in within if (number := transcript.exon_number(at))), None)
    intron = next((number for at in within if (number := transcript.intron_number(at))), None)
    if change.insertion and exon:
        intron = None
    count = len(transcript.exons)
    return (exon, count) if exon else None, (intron, count - 1) if intron else None


def _coding(effect: Effect, change: CodingChange) -> Effect:
    spliced = change.spliced
    first = spliced.transcript.cds_start
    stops = change.translated and change.protein.endswith(STOP)
    return replace(
        effect,
        hgvs_p=protein_name(change),
        cds_start=change.start - first,
        cds_end=change.end - first,
        protein_start=change.codon + spliced.first_codon,
        ref_protein=change.ref_residues,
        alt_protein=change.alt_residues,
        stop_codon=len(change.protein) + spliced.first_codon - 1 if stops else None,
    )


def picked(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """One effect for each gene: MANE Select before the canonical transcript, before the longest coding part.

    Among a gene's transcripts those that the allele lies in come before those that it lies beside.
    """
    by_gene: dict[str, Effect] = {}
    for effect in effects:
        gene = effect.transcript.gene_id if effect.transcript else ""
        if gene not in by_gene or _preference(effect) < _preference(by_gene[gene]):
            by_gene[gene] = effect
    return tuple(by_gene.values())


def _preference(effect: Effect) -> tuple[object, ...]:
    transcript = effect.transcript
    if transcript is None:
        return (True, True, True, 0, 0, "")
    beside = effect.terms[0] in _BESIDE
    return (
        beside, not transcript.mane, not transcript.canonical, -transcript.cds_length, -transcript.length, transcript.id
    )  # fmt: skip
