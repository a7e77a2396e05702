"""Alleles of known files in the one spelling in which they are compared, and what a file says of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from careloop.genome.annotate.known.request import FILTERS, IDENTIFIER, QUALITY
from careloop.genome.files.reference import Reference
from careloop.genome.files.variant_header import VariantHeader
from careloop.genome.variant import Record, Variant
from careloop.genome.variants.alleles import left_align
from careloop.genome.variants.sequence import ContigWindow

# Bases that an indel may stand to the right of its leftmost spelling and still be found: files of known variants are
# left-aligned as a rule, and what is written otherwise lies in repeats that are rarely longer.
MAX_SHIFT = 1_000
NEAR = 100  # bases; population files have a variant every 4 to 13 bases where they looked


@dataclass(frozen=True)
class KnownAllele:
    """One allele of a known file: spelled leftmost on the reference's contig, with the values asked for."""

    variant: Variant
    identifier: str
    filters: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether no filter was failed."""
        return not set(self.filters) - {"PASS", "."}


class AlleleSource(Protocol):
    """A known file that is looked up by allele; variants are spelled leftmost on the reference's contigs."""

    def find(self, variant: Variant) -> tuple[KnownAllele, ...]:
        """The file's records of an allele."""

    def within(self, contig: str, start: int, end: int) -> tuple[KnownAllele, ...]:
        """The alleles that replace bases of [start, end) (0-based, half-open)."""

    def looked_near(self, contig: str, start: int) -> bool:
        """Whether the file has any record within 100 bases, so that an absent allele says something."""


class Speller:
    """Spells alleles leftmost and trimmed, on the contig names of a reference."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._windows: dict[str, ContigWindow] = {}

    def spelled(self, variant: Variant) -> Variant | None:
        """The allele in its one spelling; None where it is symbolic, on no contig of the reference, or off its REF."""
        contig = self.reference.name_of(variant.contig)
        if contig is None or not variant.is_sequence:
            return None
        if variant.is_snv:
            return variant if contig == variant.contig else Variant(contig, variant.start, variant.ref, variant.alt)
        window = self._windows.get(contig)
        if window is None:
            window = ContigWindow(self.reference, contig, self.reference.contigs[contig])
            self._windows = {contig: window}  # contigs come one after another
        if not window.agrees(variant.start, variant.ref):
            return None
        start, (ref, alt) = left_align(window.fetch, variant.start, (variant.ref, variant.alt))
        return Variant(contig, start, ref, alt)


def changed_span(variant: Variant) -> tuple[int, int]:
    """The bases that are replaced, 0-based half-open; of an insertion the two that it parts."""
    if len(variant.ref) == len(variant.alt):
        return variant.start, variant.end
    anchored = variant.ref[:1] == variant.alt[:1]
    start = variant.start + anchored
    return (start, variant.end) if start < variant.end else (start - 1, start + 1)


def record_values(record: Record, allele: int, keys: tuple[str, ...], header: VariantHeader) -> dict[str, str]:
    """The values of one alternative allele (0 the first) as text; keys that the record does not have are left out."""
    columns: dict[str, Any] = {
        IDENTIFIER: record.identifier,
        FILTERS: ";".join(record.filters),
        QUALITY: "" if record.quality is None else f"{record.quality:g}",
    }
    values = {}
    for key in keys:
        text = columns[key] if key in columns else _info_text(record.info.get(key), allele, key, header)
        if text:
            values[key] = text
    return values


def _info_text(value: Any, allele: int, key: str, header: VariantHeader) -> str:
    if isinstance(value, tuple):
        index = {"A": allele, "R": allele + 1}.get(header.info_type(key).number)
        if index is not None:
            value = value[index] if index < len(value) else None
        else:
            return ",".join("." if one is None else str(one) for one in value)
    if value is None:
        return ""
    return "1" if value is True else str(value)
