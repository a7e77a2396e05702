"""Variants inside a gene that no allele of the tables knows: reported, as what they do is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from careloop.genome.files.contigs import same_contig
from careloop.genome.files.site_evidence import Edit, trimmed_edit
from careloop.genome.pharmacogenes.definitions import GeneDefinition
from careloop.genome.variant import ANY_OTHER, SPANNING, Record, Variant

SPLICE_BASES = 8  # the splice region of the Sequence Ontology (SO:0001630): 3 to 8 bases into the intron


@dataclass(frozen=True)
class UnlistedVariant:
    """A called variant inside a gene that no allele of the table knows; `in_exon` counts 8 bases beside exons as well.

    `filtered` says that the file itself does not trust the call.
    """

    variant: Variant
    in_exon: bool
    filtered: bool = False


def unlisted_variants(
    gene: GeneDefinition, build: str, records: Iterable[Record], sample: str
) -> tuple[UnlistedVariant, ...]:
    """Return the variants of `records` that `sample` carries in the gene and that are at no base of the tables.

    Those in exons come first, then in order of position. A symbolic allele (`<DEL>`) is one as well.
    """
    listed = set(_listed_edits(gene, build))
    found = []
    for record in records:
        carried = {index for index in record.samples[sample].alleles if index}
        for index in sorted(carried):
            variant = Variant(record.contig, record.start, record.ref, record.alts[index - 1])
            end = max(record.end, variant.end)
            if _is_inside(gene, build, variant, end) and _is_unlisted(variant, listed):
                found.append(UnlistedVariant(variant, _in_exon(gene, build, variant.start, end), not record.passed))
    return tuple(sorted(found, key=lambda each: (not each.in_exon, each.variant.start, each.variant.alt)))


def _listed_edits(gene: GeneDefinition, build: str) -> Iterator[Edit]:
    for site in gene.sites(build):
        for alt in site.alts:
            yield trimmed_edit(site.start, site.ref, alt)


def _is_inside(gene: GeneDefinition, build: str, variant: Variant, end: int) -> bool:
    region = gene.regions[build]
    return same_contig(variant.contig, region.contig) and variant.start < region.end and end > region.start


def _is_unlisted(variant: Variant, listed: set[Edit]) -> bool:
    if variant.alt == SPANNING or variant.alt in ANY_OTHER:
        return False
    if not variant.is_sequence:
        return True
    edit = trimmed_edit(variant.start, variant.ref, variant.alt)
    if not edit.keeps_length:
        return edit not in listed
    changed = range(edit.start, edit.end)
    ref = variant.ref[edit.start - variant.start :]
    single = [
        Edit(place, place + 1, base) for place, base, was in zip(changed, edit.bases, ref, strict=False) if base != was
    ]
    return not set(single) <= listed


def _in_exon(gene: GeneDefinition, build: str, start: int, end: int) -> bool:
    return any(start < exon.end + SPLICE_BASES and end > exon.start - SPLICE_BASES for exon in gene.exons[build])
