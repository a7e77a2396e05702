"""What was found in one sample's genome, as plain data: variants of interest, pharmacogenes, and what was not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from careloop.genome.pharmacogenes.results import PgxResult
from careloop.genome.variant import Variant

Presence = Literal["present", "indeterminate"]
SourceClass = Literal["germline", "somatic"]
PATHOGENIC = ("pathogenic", "likely pathogenic")
LONGEST_ALLELE = 60  # bases; a longer one is named by its length and a digest, so that identifiers stay readable


@dataclass(frozen=True)
class SampleOrigin:
    """The sample, the file that it is read from, and whose it is.

    `name` is the file's name in events' sources, `subject` the patient's identifier (with its namespace). `time` and
    `known_time` (UTC) are both None for a static fact, as a germline genome without a date is. `build` is the assembly
    or `unknown`, `callers` are the programs that the file names.
    """

    path: Path
    name: str
    sample: str
    subject: str
    build: str = "unknown"
    callers: tuple[str, ...] = ()
    time: datetime | None = None
    known_time: datetime | None = None

    @property
    def asset(self) -> str:
        """The file's URI."""
        return self.path.absolute().as_uri()

    @property
    def source(self) -> str:
        """What the sources of all events of this sample's findings begin with, without the last `//`."""
        return f"VCF//{self.name}//{self.sample}"


@dataclass(frozen=True)
class Evidence:
    """One flag of the ACMG/AMP evidence framework (`PM2`, `BP4`), and why it was set."""

    flag: str
    reason: str


@dataclass(frozen=True)
class VariantFinding:
    """One variant of interest in one sample.

    `copies` of the alternative allele among `ploidy` chromosomes, None where not called. `hgvs_c` and `hgvs_p` name
    their reference sequences (`NM_000769.4:c.681G>A`). `consequences` are Sequence Ontology terms, the gravest first.
    `significance` is one of ACMG's five classes in lower case, a suggestion, empty where none is made. An
    `indeterminate` variant was looked for and could not be judged: `reason` says why.
    """

    variant: Variant
    gene: str = ""
    hgvs_c: str = ""
    hgvs_p: str = ""
    hgvs_g: str = ""
    consequences: tuple[str, ...] = ()
    copies: int | None = None
    ploidy: int = 2
    genotype: str = ""
    depth: int | None = None
    allele_depth: int | None = None
    quality: float | None = None
    filters: tuple[str, ...] = ()
    significance: str = ""
    evidence: tuple[Evidence, ...] = ()
    known_as: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    presence: Presence = "present"
    reason: str = ""
    source_class: SourceClass = "germline"

    @property
    def zygosity(self) -> str:
        """`heterozygous`, `homozygous`, `hemizygous`; empty where the genotype is not known."""
        if self.copies is None or self.copies < 1:
            return ""
        if self.ploidy == 1:
            return "hemizygous"
        return "homozygous" if self.copies >= self.ploidy else "heterozygous"

    @property
    def place(self) -> str:
        """`chr:pos:ref:alt`, position from 1, long alleles shortened (`short_allele`)."""
        v = self.variant
        return f"{v.contig}:{v.start + 1}:{short_allele(v.ref)}:{short_allele(v.alt)}"


@dataclass(frozen=True)
class Coverage:
    """What was looked at and how deep; `not_covered` in words or as regions with positions from 1.

    `covered_share` is the share of the studied bases that were covered, `mean_depth` in reads.
    """

    described: str = ""
    mean_depth: float | None = None
    covered_share: float | None = None
    not_covered: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenomeFindings:
    """All findings of one sample.

    `pgx` and `variants` are None where they were not looked for; no variants is that none was found. `tables` says
    which versions of annotation were used, beside the versions of `pgx`.
    """

    origin: SampleOrigin
    pgx: PgxResult | None = None
    variants: tuple[VariantFinding, ...] | None = None
    coverage: Coverage = field(default_factory=Coverage)
    tables: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False


def short_allele(bases: str) -> str:
    """The allele, or, longer than `LONGEST_ALLELE`, its first bases, its length and the first of its SHA-256."""
    if len(bases) <= LONGEST_ALLELE:
        return bases
    return f"{bases[:12]}~{len(bases)}b~{hashlib.sha256(bases.encode()).hexdigest()[:12]}"
