"""Simulated samples with known diplotypes, and the tables read by themselves: nothing of the code under test."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

TABLES = Path(__file__).parents[3] / "src/careloop/genome/pharmacogenes/tables"
# Lengths of the chromosomes, as the assemblies' reports give them.
LENGTHS = {
    "GRCh37": {"1": 249250621, "2": 243199373, "6": 171115067, "7": 159138663, "10": 135534747, "12": 133851895}
    | {"13": 115169878, "16": 90354753},
    "GRCh38": {"1": 248956422, "2": 242193529, "6": 170805979, "7": 159345973, "10": 133797422, "12": 133275309}
    | {"13": 114364328, "16": 90338345},
}
Strand = tuple[str, ...]


def read_rows(name: str) -> list[dict[str, str]]:
    with (TABLES / f"pgx_{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class GeneTable:
    """One gene's tables: sites in order, and each allele's haplotypes, one for each choice of its open bases."""

    gene: str
    sites: list[dict[str, str]] = field(default_factory=list)
    haplotypes: dict[str, list[Strand]] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return next(iter(self.haplotypes))


def read_tables() -> dict[str, GeneTable]:
    genes = {row["gene"]: GeneTable(row["gene"]) for row in read_rows("genes")}
    for row in read_rows("sites"):
        genes[row["gene"]].sites.append(row)
    own: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in read_rows("genes"):
        own[row["gene"], row["reference_allele"]] = {}
    for row in read_rows("definitions"):
        own.setdefault((row["gene"], row["allele"]), {})[row["site"]] = row["bases"].split("|")
    for (gene, allele), bases in own.items():
        choices = [bases.get(site["site"], [site["base"]]) for site in genes[gene].sites]
        genes[gene].haplotypes[allele] = list(product(*choices))
    return genes


@pytest.fixture(scope="session")
def tables() -> dict[str, GeneTable]:
    """The definitions, gene by gene."""
    return read_tables()


def vcf_lines(table: GeneTable, strands: tuple[Strand, Strand], build: str, joint: str) -> Iterator[tuple[str, str]]:
    """(site, line) of one gene; `joint` is `|` for phased genotypes, `/` for others (then in VCF's usual order)."""
    for place, site in enumerate(table.sites):
        ref, bases = site[f"ref_{build}"], [strand[place] for strand in strands]
        alts = list(dict.fromkeys(base for base in bases if base != ref))
        indices = [[ref, *alts].index(base) for base in bases]
        call = joint.join(map(str, indices if joint == "|" else sorted(indices)))
        where = f"chr{site['chromosome']}\t{site[f'position_{build}']}"
        yield site["site"], f"{where}\t.\t{ref}\t{','.join(alts) or '.'}\t60\tPASS\t.\tGT\t{call}"


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Write a VCF with the contigs of a build (None: without lengths) from its lines; returns its path."""

    def write(lines: Iterable[str], build: str | None, name: str = "sample.vcf") -> Path:
        lengths = LENGTHS[build or "GRCh38"]
        told = (f"##contig=<ID=chr{name}" + (f",length={n}>" if build else ">") for name, n in lengths.items())
        formats = ('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',)
        formats += tuple(f'##FORMAT=<ID={key},Number=1,Type=Integer,Description="{key}">' for key in ("DP", "GQ", "PS"))
        info = '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base">'
        columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1"
        order = list(lengths)
        body = sorted(lines, key=lambda line: (order.index(line.split("\t")[0][3:]), int(line.split("\t")[1])))
        path = tmp_path / name
        path.write_text("\n".join(["##fileformat=VCFv4.2", *told, info, *formats, columns, *body]) + "\n")
        return path

    return write


@pytest.fixture
def write_sample(tables: dict[str, GeneTable], write_lines: Callable[..., Path]) -> Callable[..., Path]:
    """Write a simulated sample's VCF: {gene: two strands of bases}; all sites, less those `without`."""

    def write(
        strands: dict[str, tuple[Strand, Strand]],
        build: str,
        *,
        joint: str = "|",
        without: Iterable[str] = (),
        header_build: str | None = "",
    ) -> Path:
        lines = (each for gene, pair in strands.items() for each in vcf_lines(tables[gene], pair, build, joint))
        kept = [line for site, line in lines if site not in without]
        return write_lines(kept, build if header_build == "" else header_build)

    return write


@pytest.fixture(scope="session")
def reference_strands(tables: dict[str, GeneTable]) -> dict[str, tuple[Strand, Strand]]:
    """Every gene with two reference alleles (*1/*1)."""
    return {gene: (table.haplotypes[table.reference][0],) * 2 for gene, table in tables.items()}


@pytest.fixture(scope="session")
def tables_folder() -> Path:
    """Where the tables lie."""
    return TABLES


@pytest.fixture(scope="session")
def rows() -> Callable[[str], list[dict[str, str]]]:
    """The rows of `pgx_NAME.csv`."""
    return read_rows
