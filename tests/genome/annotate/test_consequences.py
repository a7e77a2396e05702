"""Consequences beside `bcftools csq`, each class of difference named and explained."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from careloop.genome.annotate.coding import SplicedSequences
from careloop.genome.annotate.consequence import coding_change, consequence
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.effects import change_of, effects_of
from careloop.genome.annotate.severity import TERMS, by_severity
from careloop.genome.annotate.transcript import reverse_complement
from careloop.genome.annotate.transcripts import Genes
from careloop.genome.variant import Variant
from careloop.genome.variants.alleles import left_align

pysam = pytest.importorskip("pysam")

# bcftools' names of what Sequence Ontology and VEP write out.
LONG = {
    "3_prime_utr": "3_prime_UTR_variant",
    "5_prime_utr": "5_prime_UTR_variant",
    "inframe_altering": "protein_altering_variant",
    "non_coding": "non_coding_transcript_variant",
}
SIZE = {"feature_truncation", "feature_elongation"}  # bcftools adds them to a delins; VEP only to large variants
NON_CODING = {"non_coding_transcript_exon_variant", "non_coding_transcript_variant"}
SPLICE_SITES = {"splice_donor_variant", "splice_acceptor_variant"}
LENGTH = {"frameshift_variant", "inframe_insertion", "inframe_deletion", "protein_altering_variant"}
ENDS = {"stop_lost", "stop_retained_variant", "start_lost", "3_prime_UTR_variant", "5_prime_UTR_variant"}


def by_bcftools(world: Any, folder: Path) -> dict[tuple[int, str, str], dict[str, set[str]]]:
    """Terms by allele and transcript."""
    out = folder / "csq.vcf"
    vcf = world.write_vcf(folder / "in.vcf")
    pysam.bcftools.csq(
        "-l", "-f", str(world.fasta), "-g", str(world.gff), "-O", "v", "-o", str(out), str(vcf), catch_stdout=False
    )
    found: dict[tuple[int, str, str], dict[str, set[str]]] = {}
    for record in pysam.VariantFile(str(out)):
        terms: dict[str, set[str]] = defaultdict(set)
        for text in record.info.get("BCSQ", ()):
            names, gene, transcript = text.split("|")[:3]
            terms[transcript or "T" + gene.removeprefix("GENE")] |= {_long(name) for name in names.split("&")} - SIZE
        found[record.start, record.ref, record.alts[0]] = dict(terms)
    return found


def _long(name: str) -> str:
    name = LONG.get(name, name)
    plain = {f"{name}_variant", name} & set(TERMS)
    return plain.pop() if plain else name


def difference(ours: set[str], theirs: set[str], kind: str) -> str:
    """Why two sets of terms differ, "" where they agree; "unexplained" is an error of one of the two."""
    ours, theirs = set(ours), set(theirs)
    if ours & NON_CODING:  # bcftools has one term for exons and introns of such transcripts
        return "" if theirs & NON_CODING else "unexplained"
    if ours == theirs:
        return ""
    if (ours | theirs) & SPLICE_SITES or "splice_region_variant" in ours & theirs:
        # VEP names every part that is touched; bcftools leaves intron_variant out beside splice terms, and what
        # a variant over an exon's end does to the protein is told by one of them only, or not at all.
        ours, theirs = ours - {"intron_variant"}, theirs - {"intron_variant"}
        if ours & theirs & SPLICE_SITES:
            return "" if ours == theirs else "over a splice site"
    if ours == theirs:
        return ""
    if kind == "insertion" and (ours ^ theirs) <= {"splice_region_variant"}:
        return "insertion at the splice region's edge"
    if kind == "insertion" and (theirs & SPLICE_SITES or "splice_region_variant" in ours | theirs):
        return "insertion between exon and intron"  # we count it as the exon's, as the intron stays whole
    if ours & theirs and (ours ^ theirs) <= {"stop_gained"}:
        return "stop at the first changed codon of a frameshift"  # VEP names both, bcftools the frameshift
    if (ours ^ theirs) <= LENGTH - {"frameshift_variant"}:
        return "inframe that changes neighbours"  # VEP: protein_altering_variant where residues are not all kept
    if (ours | theirs) & {"start_lost", "start_retained_variant"} or ("5_prime_UTR_variant" in ours & theirs):
        return "at the start codon"  # bcftools: lost by any indel in it; we look whether a start codon is left in frame
    if (ours | theirs) & {"stop_lost", "stop_retained_variant"}:
        return "at the stop codon"  # bcftools adds the frame to deletions that reach beyond it
    return "unexplained"


def test_terms_are_those_of_bcftools_but_for_explained_differences(gene_world: Any, tmp_path: Path) -> None:
    theirs = by_bcftools(gene_world, tmp_path)
    reasons: Counter[str] = Counter()
    examples = defaultdict(list)
    for variant in gene_world.variants:
        change = change_of(variant)
        kind = "insertion" if change.insertion else "snv" if variant.is_snv else "other"
        ours = {
            transcript.id: set(terms)
            for transcript in gene_world.genes.near("1", change.start, change.end)
            if (terms := consequence(change, transcript, coding_change(change, transcript, gene_world.sequences)))
            and "stream" not in terms[0]
        }
        found = theirs[variant.start, variant.ref, variant.alt]
        for transcript in ours.keys() | found.keys():
            reason = difference(ours.get(transcript, set()), found.get(transcript, set()), kind)
            if kind == "snv" and reason:
                reason = f"SNV: {reason}"
            reasons[reason] += 1
            examples[reason].append((str(variant), ours.get(transcript), found.get(transcript)))
    assert not examples["unexplained"], examples["unexplained"][:5]
    assert not [reason for reason in reasons if reason.startswith("SNV")], examples
    total = sum(reasons.values())
    assert total > 1000
    assert reasons[""] > 0.85 * total, reasons


def test_terms_are_ordered_by_severity() -> None:
    assert by_severity(["intron_variant", "splice_donor_variant", "stop_gained"]) == (
        "splice_donor_variant",
        "stop_gained",
        "intron_variant",
    )
    assert len(set(TERMS)) == len(TERMS)


def test_the_other_strand_gives_the_same_effects(gene_world: Any) -> None:
    """The whole world turned round: every transcript is on the other strand, every indel is aligned the other way."""
    world, length = gene_world, len(gene_world.sequence)
    turned = reverse_complement(world.sequence)

    def spans(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((length - end, length - start) for start, end in reversed(spans))

    class Turned:
        def fetch(self, contig: str, start: int, end: int) -> str:
            return turned[start:end]

    transcripts = tuple(
        replace(t, strand=-t.strand, exons=spans(t.exons), cds=spans(t.cds)) for t in world.genes.transcripts
    )
    genes, sequences = Genes(world.gff, transcripts, world.genes.rejects, "unknown"), SplicedSequences(Turned())
    for variant in world.variants:
        change = change_of(variant)
        ref, alt = (reverse_complement(bases) for bases in (change.ref, change.alt))
        start, (ref, alt) = left_align(lambda a, b: turned[max(0, a) : b], length - change.end, (ref, alt))
        ours = effects_of(variant, world.genes, world.sequences, world.fetch)
        theirs = effects_of(Variant("1", start, ref, alt), genes, sequences, lambda a, b: turned[max(0, a) : b])
        assert [told(effect) for effect in ours] == [told(effect) for effect in theirs], variant


def told(effect: Effect) -> tuple[Any, ...]:
    identifier = effect.transcript.id if effect.transcript else ""
    return identifier, effect.terms, effect.hgvs_c, effect.hgvs_p, effect.exon, effect.intron, effect.stop_codon
