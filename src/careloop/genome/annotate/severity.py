"""Sequence Ontology terms by severity, and their impact ratings (Ensembl VEP, "Calculated consequences")."""

from __future__ import annotations

from collections.abc import Iterable

_BY_IMPACT = {
    "HIGH": (
        "transcript_ablation",
        "splice_acceptor_variant",
        "splice_donor_variant",
        "stop_gained",
        "frameshift_variant",
        "stop_lost",
        "start_lost",
    ),
    "MODERATE": (
        "inframe_insertion",
        "inframe_deletion",
        "missense_variant",
        "protein_altering_variant",
    ),
    "LOW": (
        "splice_region_variant",
        "incomplete_terminal_codon_variant",
        "start_retained_variant",
        "stop_retained_variant",
        "synonymous_variant",
    ),
    "MODIFIER": (
        "coding_sequence_variant",
        "5_prime_UTR_variant",
        "3_prime_UTR_variant",
        "non_coding_transcript_exon_variant",
        "intron_variant",
        "NMD_transcript_variant",
        "non_coding_transcript_variant",
        "upstream_gene_variant",
        "downstream_gene_variant",
        "intergenic_variant",
    ),
}
TERMS = tuple(term for terms in _BY_IMPACT.values() for term in terms)  # the most severe first
_RANK = {term: rank for rank, term in enumerate(TERMS)}
_IMPACT = {term: impact for impact, terms in _BY_IMPACT.items() for term in terms}


def rank(term: str) -> int:
    """Place of a term in the order of severity, 0 the most severe."""
    return _RANK[term]


def by_severity(terms: Iterable[str]) -> tuple[str, ...]:
    """Terms, each once, the most severe first."""
    return tuple(sorted(set(terms), key=rank))


def impact(term: str) -> str:
    """HIGH, MODERATE, LOW or MODIFIER."""
    return _IMPACT[term]
