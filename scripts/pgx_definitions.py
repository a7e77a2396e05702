"""Make the tables of allele definitions of genome/pharmacogenes from pypgx, and compare them with CPIC's.

    python scripts/pgx_definitions.py make TABLES           writes pgx_genes, pgx_sites and pgx_definitions.csv
    python scripts/pgx_definitions.py compare DEFINITIONS   prints how they agree with CPIC's definitions on GRCh38

TABLES is the folder pypgx/api/data of pypgx 0.27.0 (MIT), installed in an environment of its own
(`pip install --no-deps pypgx==0.27.0`); only its CSV files are read. DEFINITIONS is a folder with files such as
CYP2C19_translation.json: PharmCAT's form of CPIC's allele definitions (in its repository under definition/alleles).

What is added to pypgx's tables stands in OPEN_BASES and SPELLINGS below, with the reason. Nothing is taken from
PharmVar, whose content is CC BY-SA. Positions in the tables count from 1, as in VCF. `compare` names CYP2C19*16, *30
and *34, as PharmCAT fills a base that they leave open from *38, the first row of CPIC's table.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from careloop.genome.pharmacogenes.definitions import GeneDefinition, read_definitions
from careloop.genome.pharmacogenes.phenotypes import TABLES

GENES = ("CYP2C19", "CYP2C9", "TPMT", "NUDT15", "DPYD", "VKORC1", "CYP3A5", "SLCO1B1", "UGT1A1")
INDEPENDENT = ("DPYD",)  # CPIC gives each variant its own activity; a strand may carry several
BUILDS = ("GRCh37", "GRCh38")
VERSION = "pypgx 0.27.0, open bases of CPIC 2025-11-05"
# Bases that an allele leaves open in CPIC's allele definitions (ClinPGx, 2025-11-05; CC0), which pypgx does not tell
# from bases that the allele has in common with the reference allele. CYP2C19*16, *30 and *34 were described without
# rs3758581.
OPEN_BASES = {
    ("CYP2C19", "*2", "rs58973490"): "A|G",
    ("CYP2C19", "*4", "rs12248560"): "C|T",
    ("CYP2C19", "*35", "rs17882687"): "A|C",
    ("CYP2C19", "*16", "rs3758581"): "A|G",
    ("CYP2C19", "*30", "rs3758581"): "A|G",
    ("CYP2C19", "*34", "rs3758581"): "A|G",
    ("CYP2C9", "*36", "rs28371686"): "C|G",
}
# pypgx writes the deletion of CYP2C9*25 five bases to the right of where left-alignment puts it (in CAATGGAAAGAAATGG
# both are the same deletion); CPIC has it as here.
SPELLINGS = {
    "10-96701967-GAAAGAAATGG-G": "10-96701962-CAATGGAAAGA-C",
    "10-94942210-GAAAGAAATGG-G": "10-94942205-CAATGGAAAGA-C",
}
Row = dict[str, str]


def make(tables: Path) -> None:
    """Write the three tables."""
    genes = {row["Gene"]: row for row in _read(tables, "gene")}
    variants = [row for row in _read(tables, "variant") if row["Gene"] in GENES]
    alleles = [row for row in _read(tables, "allele") if row["Gene"] in GENES]
    structural = defaultdict(list)
    for row in alleles:
        if row["SV"] == "TRUE":
            structural[row["Gene"]].append(row["StarAllele"])
    _write("genes", [_gene(genes[gene], structural[gene]) for gene in GENES])
    sites = {gene: _sites([row for row in variants if row["Gene"] == gene]) for gene in GENES}
    reference = _reference_bases(sites, alleles, genes)
    _write("sites", [_site_row(gene, site, reference[_name(site)]) for gene in GENES for site in sites[gene]])
    named = {row[f"{build}Name"]: site for own in sites.values() for site in own for row in site for build in BUILDS}
    _write("definitions", list(_definitions([r for r in alleles if r["SV"] == "FALSE"], named, genes)))


def _read(tables: Path, name: str) -> list[Row]:
    with (tables / f"{name}-table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(name: str, rows: list[Row]) -> None:
    with (TABLES / f"pgx_{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"pgx_{name}.csv: {len(rows)} rows")


def _gene(row: Row, structural: list[str]) -> Row:
    spans = {}
    for build in BUILDS:
        starts, ends = (row[f"{build}Exon{what}"].strip(",").split(",") for what in ("Starts", "Ends"))
        first, last = row[f"{build}Region"].partition(":")[2].split("-")
        spans |= {f"first_{build}": first, f"last_{build}": last}
        # pypgx's exons are counted from 0, half-open
        spans[f"exons_{build}"] = "|".join(f"{int(s) + 1}-{e}" for s, e in zip(starts, ends, strict=True))
    return {
        "gene": row["Gene"],
        "kind": "variants" if row["Gene"] in INDEPENDENT else "haplotypes",
        "chromosome": row["GRCh38Region"].partition(":")[0],
        "reference_allele": row["RefAllele"],
        "structural": "|".join(structural),
        **spans,
        "version": VERSION,
    }


def _sites(rows: list[Row]) -> list[list[Row]]:
    """Variants of one position together, in order of position; the one with the longest REF first."""
    by_position = defaultdict(list)
    for row in rows:
        by_position[_parts(row, "GRCh38")[1]].append(row)
    order = sorted(by_position)
    return [sorted(by_position[place], key=lambda row: -len(_parts(row, "GRCh38")[2])) for place in order]


def _parts(row: Row, build: str) -> tuple[str, int, str, str]:
    return _named(row[f"{build}Name"])


def _named(name: str) -> tuple[str, int, str, str]:
    """Chromosome, position, REF and ALT of pypgx's name of a variant."""
    chromosome, position, ref, alt = SPELLINGS.get(name, name).split("-")
    return chromosome, int(position), ref, alt


def _over(site: list[Row], build: str, alt_of: Row | None) -> str:
    """The bases over the site's REF of a build that a variant gives, or the REF itself."""
    ref = _parts(site[0], build)[2]
    if alt_of is None:
        return ref
    _, _, own, alt = _parts(alt_of, build)
    return alt + ref[len(own) :]


def _all_bases(site: list[Row]) -> list[str]:
    found = [_over(site, build, row) for build in BUILDS for row in (None, *site)]
    return list(dict.fromkeys(found))


def _reference_bases(sites: dict[str, list[list[Row]]], alleles: list[Row], genes: dict[str, Row]) -> dict[str, str]:
    """Bases of each gene's reference allele by site: a build's REF unless the allele is listed with a variant there."""
    found = {}
    listed = {row["Gene"]: row for row in alleles if row["StarAllele"] == genes[row["Gene"]]["RefAllele"]}
    for gene in GENES:
        for site in sites[gene]:
            told = set()
            for build in BUILDS:
                core = listed[gene][f"{build}Core"].split(",")
                own = next((row for row in site if row[f"{build}Name"] in core), None)
                told.add(_over(site, build, own))
            if len(told) != 1:
                raise SystemExit(f"{gene} {site[0]['GRCh38Name']}: the builds give the reference allele {sorted(told)}")
            found[_name(site)] = told.pop()
    return found


def _name(site: list[Row]) -> str:
    chromosome, position, _, _ = _parts(site[0], "GRCh38")
    return site[0]["rsID"] if site[0]["rsID"] != "N/A" else f"{chromosome}:{position} (GRCh38)"


def _site_row(gene: str, site: list[Row], base: str) -> Row:
    place = {}
    for build in BUILDS:
        chromosome, position, ref, _ = _parts(site[0], build)
        place |= {f"position_{build}": str(position), f"ref_{build}": ref}
    return {
        "gene": gene,
        "site": _name(site),
        "chromosome": chromosome,
        **place,
        "base": base,
        "bases": "|".join(_all_bases(site)),
        "effect": "|".join(dict.fromkeys(row["Impact"] for row in site if row["Impact"] != "N/A")),
    }


def _definitions(alleles: list[Row], named: dict[str, list[Row]], genes: dict[str, Row]) -> Iterator[Row]:
    """Each allele's bases where they differ from the reference allele's: what either build lists it with.

    A build lists an allele without the bases that its own reference sequence has (*38 on GRCh38, *3 on GRCh37).
    """
    for row in alleles:
        gene, allele = row["Gene"], row["StarAllele"]
        if allele == genes[gene]["RefAllele"]:
            continue
        bases: dict[str, str] = {}
        for build in BUILDS:
            for name in filter(lambda text: text != "N/A", row[f"{build}Core"].split(",")):
                site = named[name]
                variant = next(each for each in site if each[f"{build}Name"] == name)
                bases[_name(site)] = _over(site, build, variant)
        for (owner, other, site_name), both in OPEN_BASES.items():
            if (owner, other) == (gene, allele):
                bases[site_name] = both
        if not bases:
            raise SystemExit(f"{gene} {allele}: no defining base")
        for site_name, text in bases.items():
            yield {"gene": gene, "allele": allele, "site": site_name, "bases": text}


def compare(folder: Path) -> None:
    """Print, gene by gene, how many alleles have the same bases in CPIC's definitions, and every difference."""
    print(f"{'gene':8} {'sites':>6} {'in CPIC':>8} {'alleles':>8} {'in CPIC':>8} {'alike':>6}  not alike")
    for gene, definition in read_definitions().items():
        cpic = json.loads((folder / f"{gene}_translation.json").read_text())
        places = {position.starts["GRCh38"] + 1: position.name for position in definition.positions}
        shared = [variant["position"] for variant in cpic["variants"] if variant["position"] in places]
        known = {_cpic_name(gene, each["name"]): each for each in cpic["namedAlleles"]}
        both = [allele.name for allele in definition.alleles if allele.name in known]
        unlike = [name for name in both if not _alike(definition, name, _cpic_bases(cpic, known[name], places))]
        counts = (len(places), len(shared), len(definition.alleles), len(both), len(both) - len(unlike))
        print("{:8} {:6} {:8} {:8} {:8} {:6}  {}".format(gene, *counts, ", ".join(unlike) or "-"))


def _cpic_name(gene: str, name: str) -> str:
    if gene == "VKORC1":
        return "Reference" if "reference" in name else "rs9923231"
    return name


def _alike(definition: GeneDefinition, name: str, cpic: dict[str, frozenset[str]]) -> bool:
    allele = next(each for each in definition.alleles if each.name == name)
    shared = [position for position in definition.positions if position.name in cpic]
    return all(allele.bases_at(position) == cpic[position.name] for position in shared)


def _cpic_bases(cpic: dict, allele: dict, places: dict[int, str]) -> dict[str, frozenset[str]]:
    """CPIC's bases over the sites that both have; what it leaves empty is its reference row's, as in PharmCAT."""
    codes = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
    reference = next(each for each in cpic["namedAlleles"] if each["reference"])
    found = {}
    for variant, own, default in zip(cpic["variants"], allele["cpicAlleles"], reference["cpicAlleles"], strict=True):
        text = own or default
        spelled = variant["cpicToVcfAlleleMap"].get(text, text)
        if variant["position"] in places:
            found[places[variant["position"]]] = frozenset(codes.get(spelled, [spelled]))
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    {"make": make, "compare": compare}[arguments.what](arguments.folder)


if __name__ == "__main__":
    main()
