"""The tables of alleles against published positions, and what they must not be."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.pharmacogenes.definitions import BUILDS, read_definitions

GENES = ("CYP2C19", "CYP2C9", "TPMT", "NUDT15", "DPYD", "VKORC1", "CYP3A5", "SLCO1B1", "UGT1A1")
# dbSNP's positions of the best known variants on GRCh37 and GRCh38, and the allele that the changed base makes.
PUBLISHED = [
    ("CYP2C19", "rs4244285", 96541616, 94781859, "A", "*2"),
    ("CYP2C19", "rs4986893", 96540410, 94780653, "A", "*3"),
    ("CYP2C19", "rs12248560", 96521657, 94761900, "T", "*17"),
    ("CYP2C9", "rs1799853", 96702047, 94942290, "T", "*2"),
    ("CYP2C9", "rs1057910", 96741053, 94981296, "C", "*3"),
    ("TPMT", "rs1142345", 18130918, 18130687, "C", "*3C"),
    ("TPMT", "rs1800462", 18143955, 18143724, "G", "*2"),
    ("NUDT15", "rs116855232", 48619855, 48045719, "T", "*3"),
    ("DPYD", "rs3918290", 97915614, 97450058, "T", "c.1905+1G>A (*2A)"),
    ("DPYD", "rs67376798", 97547947, 97082391, "A", "c.2846A>T"),
    ("VKORC1", "rs9923231", 31107689, 31096368, "T", "rs9923231"),
    ("CYP3A5", "rs776746", 99270539, 99672916, "C", "*3"),
    ("SLCO1B1", "rs4149056", 21331549, 21178615, "C", "*5"),
    ("UGT1A1", "rs4148323", 234669144, 233760498, "A", "*6"),
]


@pytest.mark.parametrize(("gene", "site", "grch37", "grch38", "base", "allele"), PUBLISHED)
def test_positions_are_dbsnps(gene: str, site: str, grch37: int, grch38: int, base: str, allele: str) -> None:
    definition = read_definitions()[gene]
    position = next(each for each in definition.positions if each.name == site)
    assert {build: start + 1 for build, start in position.starts.items()} == {"GRCh37": grch37, "GRCh38": grch38}
    assert next(each for each in definition.alleles if each.name == allele).bases[site] == {base}


@pytest.mark.parametrize(
    ("gene", "build", "expected"),
    [
        ("CYP2C19", "GRCh37", "*1"),
        ("CYP2C19", "GRCh38", "*38"),
        ("CYP3A5", "GRCh37", "*3"),
        ("CYP3A5", "GRCh38", "*1"),
        ("DPYD", "GRCh37", "c.85T>C (*9A)"),
        ("DPYD", "GRCh38", "Reference"),
        ("VKORC1", "GRCh37", "Reference"),
        *((gene, build, "*1") for gene in ("CYP2C9", "TPMT", "NUDT15", "SLCO1B1", "UGT1A1") for build in BUILDS),
    ],
)
def test_the_allele_of_each_reference_sequence(gene: str, build: str, expected: str) -> None:
    definition = read_definitions()[gene]
    fitting = [a.name for a in definition.alleles if all(p.refs[build] in a.bases_at(p) for p in definition.positions)]
    assert fitting == [expected]


def test_genes_and_their_alleles_are_all_told_apart() -> None:
    assert tuple(read_definitions()) == GENES
    for definition in read_definitions().values():
        for one, other in combinations(definition.alleles, 2):
            assert any(not one.bases_at(p) & other.bases_at(p) for p in definition.positions), (one.name, other.name)


def test_positions_lie_in_their_gene_on_both_builds() -> None:
    for definition in read_definitions().values():
        for build in BUILDS:
            region = definition.regions[build]
            assert all(region.start <= p.starts[build] < region.end for p in definition.positions)
            assert all(region.start <= exon.start < exon.end <= region.end for exon in definition.exons[build])


def test_the_deletion_of_cyp2c9_25_is_left_aligned() -> None:
    position = next(
        p for p in read_definitions()["CYP2C9"].positions if "GRCh38" in p.refs and len(p.refs["GRCh38"]) > 5
    )
    ref, start = position.refs["GRCh38"], position.starts["GRCh38"]
    assert (ref, start + 1) == ("CAATGGAAAGA", 94942205)
    assert ref[0] != ref[-1]  # else it could be shifted one more base to the left


@pytest.mark.parametrize(
    ("table", "old", "new", "told"),
    [
        ("sites", "96541616,G", "0,G", "position is a number from 1"),
        ("sites", "rs4244285,10,96541616,G", "rs4244285,10,96541616,N", "bases must be A, C, G, T"),
        ("sites", "rs4244285,", "rs4986893,", "must stand in pgx_sites.csv"),
        ("sites", "gene,site", "gene,place", "missing column site"),
        ("definitions", "CYP2C19,*2,rs12769205,G", "CYP2C19,*2,rs12769205,T", "must stand in pgx_sites.csv"),
        ("definitions", "CYP2C19,*3,", "CYP2C19,*333,", "every allele must have a function"),
        (
            "definitions",
            "CYP2C19,*3,rs4986893,A",
            "CYP2C19,*3,rs28399504,G\nCYP2C19,*3,rs12248560,C|T",
            "alleles must differ",
        ),
        ("genes", "CYP2C19,haplotypes", "CYP2C19,others", "kind must be haplotypes or variants"),
    ],
)
def test_a_damaged_table_is_named(
    tmp_path: Path, tables_folder: Path, table: str, old: str, new: str, told: str
) -> None:
    for name in ("genes", "sites", "definitions"):
        shutil.copy(tables_folder / f"pgx_{name}.csv", tmp_path)
    path = tmp_path / f"pgx_{table}.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=told):
        read_definitions(tmp_path)
