"""Annotate 10,000 simulated variants with careloop and `bcftools csq`: time, peak memory, and how often terms agree.

    python benchmarks/variant_annotation.py REFERENCE [--contig 20] [--megabases 20] [--variants 10000] [--small]

REFERENCE is an indexed FASTA, such as human chromosome 20 of Debian's vt-examples. Simulated genes (both strands, one
transcript each) are written into a stretch of it from base 10,000,000 on, and simulated SNVs and indels are placed,
four in five within 12 bases of exons. Both programs read the same files, each in a process of its own; memory is the
peak of that process. careloop also writes HGVS names and judges evidence, which `bcftools csq` does not. Terms are
compared on the alleles' most severe term, names of one thing (`SAME`) counted as one; bcftools has a single term for
all of a non-coding transcript, its splice sites too, and judges indels where the file has them (careloop: at their most
3' place). tests/genome/annotate/test_consequences.py explains the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from careloop.genome.annotate.severity import TERMS, rank
from careloop.genome.files.reference import open_reference
from careloop.genome.files.variant_file import open_variants
from careloop.genome.simulate.gene_models import SimulatedGene, gff3_lines, simulate_genes
from careloop.genome.variants.alleles import left_align

START = 10_000_000
FASTA, GFF, VCF = "reference.fa", "genes.gff3", "variants.vcf"
COMMANDS = {
    "careloop": [
        sys.executable, "-c",
        "from pathlib import Path; from careloop.genome.annotate.annotate import annotate; "
        f"annotate(Path('{VCF}'), Path('careloop.vcf'), reference=Path('{FASTA}'), genes=Path('{GFF}'))",
    ],
    "bcftools csq": [
        sys.executable, "-c",
        f"from pysam import bcftools; bcftools.csq('-l', '-f', '{FASTA}', '-g', '{GFF}', '-O', 'v', '-o', "
        f"'bcftools.vcf', '{VCF}', catch_stdout=False)",
    ],
}  # fmt: skip
# A small process in between: a child's peak memory is at least that of the process that started it.
LAUNCHER = """
import os, subprocess, sys, time
before = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - before, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(1 if status else 0)
"""
# bcftools' short names, and terms that it does not tell apart.
SAME = {
    "3_prime_utr": "3_prime_UTR_variant",
    "5_prime_utr": "5_prime_UTR_variant",
    "non_coding": "non_coding_transcript_variant",
    "non_coding_transcript_exon_variant": "non_coding_transcript_variant",
    "inframe_altering": "protein_altering_variant",
}


def write_files(folder: Path, reference: Path, contig: str, bases: int, count: int) -> None:
    """Write a stretch of the reference with genes in it, the genes, and the variants."""
    rng = np.random.default_rng(20)
    with open_reference(reference) as opened:
        sequence = opened.fetch(contig, START, START + bases)
    sequence, genes = simulate_genes(sequence, rng)
    lines = "\n".join(sequence[at : at + 60] for at in range(0, len(sequence), 60))
    (folder / FASTA).write_text(f">{contig}\n{lines}\n")
    (folder / GFF).write_text("\n".join(gff3_lines(contig, genes)) + "\n")
    alleles: set[tuple[int, str, str]] = set()
    while len(alleles) < count:
        start, ref, alt = _allele(sequence, _spot(sequence, genes, rng), rng)
        if ref != alt and "N" not in ref:
            alleles.add((start, ref, alt))
    with (folder / VCF).open("w") as file:
        file.write(f"##fileformat=VCFv4.2\n##contig=<ID={contig},length={len(sequence)}>\n")
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for start, ref, alt in sorted(alleles):
            file.write(f"{contig}\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")


def _spot(sequence: str, genes: list[SimulatedGene], rng: np.random.Generator) -> int:
    if rng.random() < 0.2:
        return int(rng.integers(100, len(sequence) - 100))
    exons = genes[int(rng.integers(len(genes)))].exons
    start, end = exons[int(rng.integers(len(exons)))]
    return int(rng.integers(start - 12, end + 12))


def _allele(sequence: str, at: int, rng: np.random.Generator) -> tuple[int, str, str]:
    """An SNV in four of five, else an insertion or deletion of up to eight bases, left-aligned."""
    made = "".join(rng.choice(list("ACGT"), size=8))
    if rng.random() < 0.8:
        return at, sequence[at], made[0]
    size = int(rng.integers(1, 9))
    pair = (
        (sequence[at], sequence[at] + made[:size])
        if rng.random() < 0.5
        else (sequence[at : at + size + 1], sequence[at])
    )
    start, (ref, alt) = left_align(lambda a, b: sequence[max(0, a) : b], at, pair)
    return start, ref, alt


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds of wall clock and of processor, and peak memory in MB, of a process."""
    launched = [sys.executable, "-c", LAUNCHER, *command]
    told = subprocess.run(launched, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    wall, processor, memory = (float(word) for word in told.split()[-3:])
    return wall, processor, memory


def most_severe(path: Path, key: str, column: int) -> dict[tuple[int, str, tuple[str, ...]], str]:
    """The most severe term of each allele, in one spelling for both programs."""
    found = {}
    for record in open_variants(path).records():
        values = record.info.get(key) or ()
        texts = [values] if isinstance(values, str) else values
        terms = [SAME.get(name, name) for text in texts for name in text.split("|")[column].split("&")]
        whole = [term if term in TERMS else f"{term}_variant" for term in terms]
        # Beside and between genes bcftools says nothing.
        inside = [term for term in whole if term in TERMS and "stream" not in term and "intergenic" not in term]
        found[record.start, record.ref, record.alts] = min(inside, key=rank, default="")
    return found


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--contig", default="20")
    parser.add_argument("--megabases", type=int, default=20)
    parser.add_argument("--variants", type=int, default=10_000)
    parser.add_argument("--small", action="store_true", help="2 megabases, 1,000 variants")
    asked = parser.parse_args()
    bases, count = (2_000_000, 1_000) if asked.small else (asked.megabases * 1_000_000, asked.variants)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, asked.reference, asked.contig, bases, count)
        print(f"{count:,} simulated variants, {bases:,} bases")
        print(f"{'program':<14}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
        for program, command in COMMANDS.items():
            wall, processor, memory = measured(command, folder)
            print(f"{program:<14}{wall:>9.1f}{processor:>9.1f}{memory:>9.0f}")
        ours, theirs = (most_severe(folder / file, key, column) for file, key, column in
                        (("careloop.vcf", "CSQ", 1), ("bcftools.vcf", "BCSQ", 0)))  # fmt: skip
    for kind, keys in (("SNV", [k for k in ours if len(k[1]) == len(k[2][0]) == 1]),
                       ("indel", [k for k in ours if len(k[1]) != len(k[2][0])])):  # fmt: skip
        same = sum(ours[key] == theirs.get(key) for key in keys)
        apart = Counter((ours[key], theirs.get(key)) for key in keys if ours[key] != theirs.get(key))
        print(f"{kind}: the same most severe term for {same:,} of {len(keys):,} ({100 * same / len(keys):.2f} %)")
        for (one, other), times in apart.most_common(6):
            print(f"  {times:>4} careloop {one or 'none'}, bcftools {other or 'none'}")


if __name__ == "__main__":
    main()
