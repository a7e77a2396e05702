"""What a genome says of the genes that decide on drugs, as plain data: nothing in here reads a file or draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from careloop.genome.files.sites import SiteCall
from careloop.genome.pharmacogenes.guidelines import Recommendation
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE, Genotype
from careloop.genome.pharmacogenes.unlisted_variants import UnlistedVariant

Status = Literal["called", "ambiguous", "indeterminate", "unlisted"]


@dataclass(frozen=True, order=True)
class Diplotype:
    """Two strands of a gene, each by the name of its allele; the order of the two has no meaning.

    A strand of a gene of independent variants (DPYD) may carry several, joined by ` + `.
    """

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first}/{self.second}"


@dataclass(frozen=True)
class DefiningSite:
    """One position that tells alleles apart, and what the file says there.

    `known` is whether that tells the bases of both strands; `reason` says why not.
    """

    name: str
    call: SiteCall
    known: bool
    reason: str = ""


@dataclass(frozen=True)
class GeneResult:
    """What is known of one gene.

    - `called`: every defining site is known, and one diplotype of the table fits.
    - `ambiguous`: every site is known, and several diplotypes fit, as the variants are not phased; all are given.
    - `indeterminate`: sites are not known (`unknown_sites`), so that no allele is named; `diplotypes` are those of the
      table that what is known leaves possible.
    - `unlisted`: the sites are known, and no diplotype of the table fits.

    `genotype` holds CPIC's phenotype, `Indeterminate` unless every possible diplotype gives the same one and every
    site is known; `possible_phenotypes` are those of all the diplotypes.
    """

    gene: str
    status: Status
    diplotypes: tuple[Diplotype, ...]
    genotype: Genotype
    possible_phenotypes: tuple[str, ...]
    sites: tuple[DefiningSite, ...]
    recommendations: tuple[Recommendation, ...] = ()
    unlisted_variants: tuple[UnlistedVariant, ...] = ()
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    table_version: str = ""

    @property
    def phenotype(self) -> str:
        """CPIC's term, or `Indeterminate`."""
        return self.genotype.phenotype

    @property
    def activity_score(self) -> float | None:
        """CPIC's activity score, for genes that have one and where it is known."""
        return self.genotype.score

    @property
    def settled(self) -> bool:
        """Whether the phenotype is known, so that recommendations follow."""
        return self.status in ("called", "ambiguous") and self.phenotype != INDETERMINATE

    @property
    def diplotype_text(self) -> str:
        """All diplotypes as a laboratory writes them (`*1/*3A or *3B/*3C`); empty where no allele may be named."""
        named = self.status in ("called", "ambiguous")
        return " or ".join(map(str, self.diplotypes)) if named else ""

    @property
    def unknown_sites(self) -> tuple[DefiningSite, ...]:
        """The defining sites of which the file does not say enough."""
        return tuple(site for site in self.sites if not site.known)


@dataclass(frozen=True)
class RefusedGene:
    """A gene that a plain variant file cannot settle: why, and which test can."""

    gene: str
    reason: str
    test: str


@dataclass(frozen=True)
class PgxResult:
    """All genes of one sample, with the assembly and the versions of the tables that they were read with."""

    sample: str
    build: str
    file: str
    genes: tuple[GeneResult, ...]
    refused: tuple[RefusedGene, ...] = ()
    caveats: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def gene(self, name: str) -> GeneResult | None:
        """The result of one gene, None where it was not asked for or was refused."""
        return next((each for each in self.genes if each.gene == name.upper()), None)
