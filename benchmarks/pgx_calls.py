"""Every pair of alleles of every pharmacogene as a file, called by careloop and, where phased, by pypgx.

    OMP_NUM_THREADS=1 python benchmarks/pgx_calls.py [--every 1] [--genes TPMT ...] [--peer PYTHON]

Simulated: for each pair of alleles in careloop's tables a sample is written with a record at every defining position,
on GRCh37 and on GRCh38, phased and not. Printed by gene and build: pairs; phased files whose diplotype is the pair and
nothing else; unphased files whose diplotypes are exactly the pairs with the same genotype at every position (found by
grouping all pairs by genotype, from the CSV tables, apart from careloop's code); how many unphased ones stay ambiguous;
positions, and for how many of them a *1/*1 without the record is indeterminate and names no allele; milliseconds a
file.

`--peer` is the Python of an environment of its own with pypgx 0.27.0 (`pip install pypgx==0.27.0 "pandas<3"`), which
calls the phased samples from one file a gene, each variant spelled as in its own tables; how many of its calls are the
pair is printed with the first that is not. Its unphased path needs Beagle and its 1000 Genomes panels and infers the
phase, so that it is not compared. Alleles come from pypgx's tables on both sides: this shows whether the calls are
right, not the tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path

from careloop.genome.pharmacogenes.panel import pharmacogenes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "genome" / "pharmacogenes"))
from conftest import LENGTHS, GeneTable, Strand, read_tables, vcf_lines

BUILDS = ("GRCh37", "GRCh38")
Pair = frozenset[str]
# Runs in the peer's environment: VCF, gene and assembly as arguments, {sample: genotype} on standard output.
PEER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from fuc import pyvcf
from pypgx.api import genotype, utils
vcf, gene, assembly = sys.argv[1:]
variants = utils.import_variants(gene, pyvcf.VcfFrame.from_file(vcf), assembly=assembly)
calls = genotype.call_genotypes(alleles=utils.predict_alleles(variants))
print(json.dumps(dict(calls.data["Genotype"])))
"""


@dataclass
class Sample:
    """One simulated person: the pair of alleles, and the bases of its two strands."""

    names: tuple[str, str]
    strands: tuple[Strand, Strand]


def samples_of(table: GeneTable, every: int) -> list[Sample]:
    """One sample for every Nth pair of alleles."""
    pairs = list(combinations_with_replacement(table.haplotypes, 2))[::every]
    return [Sample(pair, (table.haplotypes[pair[0]][0], table.haplotypes[pair[1]][0])) for pair in pairs]


def genotype_of(strands: tuple[Strand, Strand]) -> tuple[frozenset[str], ...]:
    """What is left of two strands where the phase is not known."""
    return tuple(map(frozenset, zip(*strands, strict=True)))


def alike(table: GeneTable) -> dict[tuple[frozenset[str], ...], set[Pair]]:
    """The pairs of alleles that give each genotype; of DPYD two variants on one strand as well."""
    found = defaultdict(set)
    for one, other in combinations_with_replacement(table.haplotypes, 2):
        for strands in product(table.haplotypes[one], table.haplotypes[other]):
            found[genotype_of(strands)].add(frozenset((one, other)))
            if table.gene == "DPYD" and one != other and table.reference not in (one, other):
                found[genotype_of(strands)].add(frozenset((f"{one} + {other}", table.reference)))
    return found


def header(build: str, samples: list[str]) -> str:
    """The header of a VCF."""
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID=chr{name},length={n}>" for name, n in LENGTHS[build].items())]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]
    return "\n".join([*lines, "\t".join(columns)]) + "\n"


def called(path: Path, gene: str, lines: Iterator[str], build: str) -> set[Pair]:
    """The diplotypes that careloop names from one sample's records."""
    order = sorted(lines, key=lambda line: int(line.split("\t")[1]))
    path.write_text(header(build, ["S1"]) + "\n".join(order) + "\n")
    result = pharmacogenes(path, genes=[gene]).genes[0]
    if result.status == "indeterminate":
        assert not result.diplotype_text
        return set()
    return {frozenset((pair.first, pair.second)) for pair in result.diplotypes}


def careloop_counts(table: GeneTable, build: str, every: int, path: Path) -> dict[str, float]:
    """The columns of one line, less the peer's."""
    expected, samples = alike(table), samples_of(table, every)
    counts: dict[str, float] = defaultdict(float)
    started = time.perf_counter()
    for sample in samples:
        for joint in "|/":
            lines = (line for _, line in vcf_lines(table, sample.strands, build, joint))
            found = called(path, table.gene, lines, build)
            wanted = {frozenset(sample.names)} if joint == "|" else expected[genotype_of(sample.strands)]
            counts[joint] += found == wanted
            counts["ambiguous"] += joint == "/" and len(found) > 1
    counts["ms"] = (time.perf_counter() - started) * 1000 / (2 * len(samples))
    reference = (table.haplotypes[table.reference][0],) * 2
    for site in table.sites:
        lines = (line for name, line in vcf_lines(table, reference, build, "|") if name != site["site"])
        counts["indeterminate"] += not called(path, table.gene, lines, build)
    return counts | {"pairs": len(samples), "sites": len(table.sites)}


def peer_lines(table: GeneTable, samples: list[Sample], build: str) -> Iterator[str]:
    """One record a variant in pypgx's own spelling, all samples in columns."""
    for place, site in enumerate(table.sites):
        ref = site[f"ref_{build}"]
        for alt in site["bases"].split("|"):
            if alt == ref:
                continue
            calls = ["|".join(str(int(strand[place] == alt)) for strand in sample.strands) for sample in samples]
            position, own_ref, own_alt = pypgx_spelling(int(site[f"position_{build}"]), ref, alt)
            yield "\t".join(
                [f"chr{site['chromosome']}", str(position), ".", own_ref, own_alt, ".", ".", ".", "GT", *calls]
            )


def pypgx_spelling(position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """A variant as pypgx writes it: trimmed, and one deletion (CYP2C9*25) five bases to the right."""
    if ref == "CAATGGAAAGA":
        return position + 5, "GAAAGAAATGG", "G"
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    return position, ref, alt


def peer_calls(python: str, table: GeneTable, samples: list[Sample], build: str, folder: Path) -> list[Pair]:
    """The diplotype that pypgx gives each phased sample."""
    path = folder / "peer.vcf"
    body = sorted(peer_lines(table, samples, build), key=lambda line: int(line.split("\t")[1]))
    path.write_text(header(build, [f"S{i}" for i in range(len(samples))]) + "\n".join(body) + "\n")
    run = subprocess.run(
        [python, "-c", PEER, str(path), table.gene, build], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(run.stderr[-2000:])
    found = json.loads(run.stdout.splitlines()[-1])
    return [frozenset(found[f"S{i}"].split("/")) for i in range(len(samples))]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take every Nth pair")
    parser.add_argument("--genes", nargs="*", default=[])
    parser.add_argument("--peer", help="the Python of pypgx's environment")
    arguments = parser.parse_args()
    tables = {gene: table for gene, table in read_tables().items() if gene in arguments.genes or not arguments.genes}
    print(
        f"{'gene':8} {'build':7} {'pairs':>6} {'phased':>7} {'unphased':>9} {'ambiguous':>10} {'positions':>10} "
        f"{'indeterminate':>14} {'ms':>5} {'pypgx phased':>13}  first that pypgx has otherwise"
    )
    with tempfile.TemporaryDirectory() as folder:
        for table, build in product(tables.values(), BUILDS):
            counts = careloop_counts(table, build, arguments.every, Path(folder) / "sample.vcf")
            numbers = "{pairs:6.0f} {|:7.0f} {/:9.0f} {ambiguous:10.0f} {sites:10.0f} {indeterminate:14.0f} {ms:5.1f}"
            line = f"{table.gene:8} {build:7} " + numbers.format(**counts)
            if arguments.peer:
                samples = samples_of(table, arguments.every)
                found = peer_calls(arguments.peer, table, samples, build, Path(folder))
                wrong = [(s.names, call) for s, call in zip(samples, found, strict=True) if frozenset(s.names) != call]
                first = f"{'/'.join(wrong[0][0])}: {'/'.join(sorted(wrong[0][1]))}" if wrong else "-"
                line += f" {len(samples) - len(wrong):13}  {first}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
