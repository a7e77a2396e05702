"""How alleles of the genes are defined: at which positions, by which bases, on GRCh37 and on GRCh38.

Bases are told as they are, never as "reference" or "changed": neither assembly is *1 everywhere (CYP2C19 on GRCh38 is
*38, CYP3A5 on GRCh37 is *3, DPYD on GRCh37 carries c.85T>C), so that an assembly's base names no allele.

The tables are `pgx_genes.csv`, `pgx_sites.csv` and `pgx_definitions.csv`, made by scripts/pgx_definitions.py; where
they come from stands in `pgx_sources.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

from careloop import InputError
from careloop.genome.files.regions import Region
from careloop.genome.files.sites import Site
from careloop.genome.pharmacogenes.guidelines import table_rows
from careloop.genome.pharmacogenes.phenotypes import TABLES, table

Kind = Literal["haplotypes", "variants"]
BUILDS = ("GRCh37", "GRCh38")
GENE_COLUMNS = (
    "gene", "kind", "chromosome", "reference_allele", "structural", "version",
    "first_GRCh37", "last_GRCh37", "exons_GRCh37", "first_GRCh38", "last_GRCh38", "exons_GRCh38",
)  # fmt: skip
SITE_COLUMNS = (
    "gene", "site", "chromosome", "position_GRCh37", "ref_GRCh37", "position_GRCh38", "ref_GRCh38", "base", "bases",
    "effect",
)  # fmt: skip
DEFINITION_COLUMNS = ("gene", "allele", "site", "bases")


@dataclass(frozen=True)
class DefiningPosition:
    """A position that tells alleles apart: `starts` (0-based) and REF by build, bases on the plus strand.

    `base` is the reference allele's, `bases` all that some allele has or a build's reference; they span the REF.
    """

    name: str
    contig: str
    starts: Mapping[str, int]
    refs: Mapping[str, str]
    base: str
    bases: frozenset[str]
    effect: str = ""

    @property
    def changes_length(self) -> bool:
        """Whether some allele has an insertion or deletion here, which can be written in several ways."""
        return len({len(bases) for bases in self.bases}) > 1

    def site(self, build: str) -> Site:
        """The place to look up in a file on `build`."""
        ref = self.refs[build]
        return Site(self.contig, self.starts[build], ref, tuple(sorted(self.bases - {ref})), self.name)


@dataclass(frozen=True)
class AlleleDefinition:
    """A named allele: its bases at the positions where they are not the reference allele's; several are open."""

    name: str
    bases: Mapping[str, frozenset[str]]

    def bases_at(self, position: DefiningPosition) -> frozenset[str]:
        """The bases that this allele may have at a position of its gene."""
        return self.bases.get(position.name, frozenset({position.base}))


@dataclass(frozen=True)
class GeneDefinition:
    """A gene with its alleles, the reference allele first.

    `haplotypes`: a strand carries one allele, which has a say at every position. `variants`: each allele stands for
    itself, and a strand carries any number of them (DPYD). `structural` are alleles that no position shows. `regions`
    (with flanks) and `exons` are by build, 0-based, half-open.
    """

    gene: str
    kind: Kind
    positions: tuple[DefiningPosition, ...]
    alleles: tuple[AlleleDefinition, ...]
    structural: tuple[str, ...]
    regions: Mapping[str, Region]
    exons: Mapping[str, tuple[Region, ...]]
    version: str

    @property
    def reference_allele(self) -> AlleleDefinition:
        """The allele that others are told from: *1, or `Reference`."""
        return self.alleles[0]

    def sites(self, build: str) -> list[Site]:
        """The places to look up in a file on `build`, in the order of `positions`."""
        return [position.site(build) for position in self.positions]


@cache
def read_definitions(folder: Path = TABLES) -> dict[str, GeneDefinition]:
    """Read and check the tables of a folder: {gene: definition}.

    Raises:
        InputError: a column is missing; a cell cannot be read; a site, allele or base that another table does not
            have; two alleles that no position tells apart; an allele without function in `pgx_alleles.csv`.
    """
    positions: dict[str, list[DefiningPosition]] = {}
    for where, row in table_rows(folder, "sites", SITE_COLUMNS):
        positions.setdefault(row["gene"], []).append(_position(row, where))
    bases: dict[str, dict[str, dict[str, frozenset[str]]]] = {}
    for where, row in table_rows(folder, "definitions", DEFINITION_COLUMNS):
        known = {position.name: position for position in positions.get(row["gene"], ())}
        found = frozenset(row["bases"].split("|"))
        if row["site"] not in known or not found <= known[row["site"]].bases:
            raise InputError(f"{where}: site and bases must stand in pgx_sites.csv; got {row['site']} {row['bases']}")
        bases.setdefault(row["gene"], {}).setdefault(row["allele"], {})[row["site"]] = found
    genes = {}
    for where, row in table_rows(folder, "genes", GENE_COLUMNS):
        gene = _gene(row, tuple(positions.get(row["gene"], ())), bases.get(row["gene"], {}), where)
        _check(gene, where)
        genes[gene.gene] = gene
    if not genes:
        raise InputError(
            f"{folder}: no genes in pgx_genes.csv, or no such file; make it with scripts/pgx_definitions.py"
        )
    return genes


def _position(row: Mapping[str, str], where: str) -> DefiningPosition:
    all_bases = frozenset(row["bases"].split("|"))
    refs = {build: row[f"ref_{build}"] for build in BUILDS}
    if not {row["base"], *refs.values()} <= all_bases or set("".join(all_bases)) - set("ACGT"):
        raise InputError(f"{where}: bases must be A, C, G, T, with both REFs and the base among them; correct the row")
    starts = {build: _number(row[f"position_{build}"], where) - 1 for build in BUILDS}
    return DefiningPosition(row["site"], row["chromosome"], starts, refs, row["base"], all_bases, row["effect"])


def _gene(
    row: Mapping[str, str],
    positions: tuple[DefiningPosition, ...],
    bases: Mapping[str, Mapping[str, frozenset[str]]],
    where: str,
) -> GeneDefinition:
    if row["kind"] not in ("haplotypes", "variants"):
        raise InputError(f"{where}: kind must be haplotypes or variants, got {row['kind']!r}; correct the cell")
    spans = {build: f"{row[f'first_{build}']}-{row[f'last_{build}']}" for build in BUILDS}
    return GeneDefinition(
        gene=row["gene"],
        kind="variants" if row["kind"] == "variants" else "haplotypes",
        positions=positions,
        alleles=(
            AlleleDefinition(row["reference_allele"], {}),
            *(AlleleDefinition(name, own) for name, own in bases.items()),
        ),
        structural=tuple(filter(None, row["structural"].split("|"))),
        regions={build: _region(row["chromosome"], span, where) for build, span in spans.items()},
        exons={
            build: tuple(_region(row["chromosome"], span, where) for span in row[f"exons_{build}"].split("|"))
            for build in BUILDS
        },
        version=row["version"],
    )


def _region(contig: str, span: str, where: str) -> Region:
    first, _, last = span.partition("-")
    return Region(contig, _number(first, where) - 1, _number(last, where))


def _number(text: str, where: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{where}: a position is a number from 1, got {text!r}; correct the cell")
    return int(text)


def _check(gene: GeneDefinition, where: str) -> None:
    functions = {row["allele"] for row in table("alleles") if row["gene"] == gene.gene}
    unknown = {allele.name for allele in gene.alleles} - functions
    if unknown or not gene.positions:
        told = ", ".join(sorted(unknown)) or "none"
        raise InputError(f"{where}: every allele must have a function in pgx_alleles.csv, and a site; not so: {told}")
    if len({position.name for position in gene.positions}) < len(gene.positions):
        raise InputError(f"{where}: each site of a gene must have a name of its own; correct pgx_sites.csv")
    seen: dict[tuple[frozenset[str], ...], str] = {}
    for allele in gene.alleles:
        haplotype = tuple(allele.bases_at(position) for position in gene.positions)
        if haplotype in seen:
            raise InputError(f"{where}: alleles must differ; {seen[haplotype]} and {allele.name} have the same bases")
        seen[haplotype] = allele.name
    for build in BUILDS:
        spans = sorted((p.starts[build], p.starts[build] + len(p.refs[build])) for p in gene.positions)
        if any(second[0] < first[1] for first, second in pairwise(spans)):
            raise InputError(f"{where}: sites must not overlap on {build}; join those of one place")
