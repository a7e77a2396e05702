"""A variant, a sample's call of it, and a record of a variant file, as the rooms of genome hand them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPANNING = "*"  # the allele is missing, as an upstream deletion spans the site (VCF 4.5 section 1.6.1.5)
ANY_OTHER = ("<*>", "<NON_REF>")  # "any other allele" in blocks of covered reference (gVCF)


@dataclass(frozen=True, slots=True)
class Variant:
    """One alternative allele: `start` is 0-based, `ref` and `alt` are bases, `*` or a symbolic allele (`<DEL>`)."""

    contig: str
    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """The first base after the reference allele, 0-based."""
        return self.start + len(self.ref)

    @property
    def is_snv(self) -> bool:
        """Whether one base is replaced by another."""
        return len(self.ref) == len(self.alt) == 1 and self.alt != SPANNING

    @property
    def is_sequence(self) -> bool:
        """Whether both alleles are written as bases, so that the variant's effect on the sequence is known."""
        return not set(self.ref + self.alt) - set("ACGTNacgtn")

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1}:{self.ref}:{self.alt}"


@dataclass(frozen=True, slots=True)
class SampleCall:
    """What a record says of one sample: `alleles` are indices (0 the reference, None not called).

    `fields` are the other FORMAT values by their VCF key, as pysam gives them (DP, GQ, AD, PL, PS ...).
    """

    alleles: tuple[int | None, ...]
    phased: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> bool:
        """Whether every allele is known."""
        return bool(self.alleles) and None not in self.alleles

    @property
    def phase_set(self) -> int | str | None:
        """The PS value: phased calls of one phase set are on the same two chromosomes; None where not given."""
        return self.fields.get("PS") if self.phased else None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a variant file: `start` 0-based, `end` the first base after it (INFO/END for blocks)."""

    contig: str
    start: int
    end: int
    ref: str
    alts: tuple[str, ...]
    identifier: str = ""
    quality: float | None = None
    filters: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, SampleCall] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """One Variant for each alternative allele, in order, those of blocks ("any other allele") left out."""
        return tuple(Variant(self.contig, self.start, self.ref, alt) for alt in self.alts if alt not in ANY_OTHER)

    @property
    def passed(self) -> bool:
        """Whether no filter was failed; `.` (not filtered) counts as passed."""
        return not set(self.filters) - {"PASS", "."}
