"""A record of a variant file, as one sample's finding: copies, depth, and whether the call can be relied on."""

from __future__ import annotations

from collections.abc import Sequence

from careloop.genome.files.variant_writing import genotype_text
from careloop.genome.findings.finding import VariantFinding
from careloop.genome.variant import ANY_OTHER, Record, SampleCall, Variant


def called_variant(record: Record, sample: str, *, allele: int = 1) -> VariantFinding | None:
    """Return what a record says of one alternative allele (`allele`, from 1) in a sample; None where it has no copy.

    A genotype that is not called whole, and a call that the file's own filters reject, is `indeterminate`: neither
    present nor absent. The record's identifiers (rs numbers) come along; names and consequence are added by
    `dataclasses.replace`.
    """
    call = record.samples[sample]
    copies = sum(each == allele for each in call.alleles)
    if call.called and not copies:
        return None
    reason = _why_not_reliable(record, call)
    return VariantFinding(
        Variant(record.contig, record.start, record.ref, record.alts[allele - 1]),
        copies=copies if call.called else None,
        ploidy=len(call.alleles) or 2,
        genotype=genotype_text(call),
        depth=_whole(call.fields.get("DP")),
        allele_depth=_of_allele(call.fields.get("AD"), allele),
        quality=record.quality,
        filters=tuple(each for each in record.filters if each not in ("PASS", ".")),
        known_as=tuple(each for each in record.identifier.split(";") if each not in ("", ".")),
        presence="indeterminate" if reason else "present",
        reason=reason,
    )


def called_variants(record: Record, sample: str) -> list[VariantFinding]:
    """The findings of all alternative alleles of a record that the sample has, or of which it is not known."""
    alleles = [number for number, alt in enumerate(record.alts, start=1) if alt not in ANY_OTHER]
    found = (called_variant(record, sample, allele=number) for number in alleles)
    return [each for each in found if each is not None]


def _why_not_reliable(record: Record, call: SampleCall) -> str:
    if not call.called:
        return f"no call ({genotype_text(call)})"
    if not record.passed:
        return f"filtered by the caller: {', '.join(record.filters)}"
    return ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _of_allele(depths: object, allele: int) -> int | None:
    if isinstance(depths, Sequence) and not isinstance(depths, str) and len(depths) > allele:
        return _whole(depths[allele])
    return None
