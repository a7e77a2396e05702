"""Time, peak memory and result of comparing two call sets: careloop beside `bcftools norm` and `isec`, in one run.

The call sets are simulated on a real sequence where one is given (human chromosome 20 of Debian's vt-examples, with its
packed .gzi unpacked), else on a random one. Calls lack some of the truth, have false ones and wrong genotypes, and
spell a share otherwise: indels at the right end of their repeat, two SNVs as one MNP. isec knows neither genotypes nor
MNPs, so that its counts differ from careloop's by just these, which are planted and shown.

    python benchmarks/variant_compare.py --reference 20.fa.gz              # 5,000 variants in 2 Mb
    python benchmarks/variant_compare.py --reference 20.fa.gz --genome 22  # 4 million on 22 copies of the contig
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from careloop.genome.files.reference import open_reference
from careloop.genome.variants.compare import compare

BASES = "ACGT"
PER_GENOME = 4_000_000
MISSED, FALSE, WRONG_GENOTYPE, OTHER_SPELLING = 0.02, 0.02, 0.01, 0.3
Row = tuple[int, str, str, str]


def sequence(path: Path | None, megabases: float | None) -> str:
    """Bases to put variants on: the first contig of a FASTA from 5 Mb on, or random ones."""
    if path is None:
        return "".join(random.Random(0).choices(BASES, k=int((megabases or 2) * 1e6)))
    with open_reference(path) as reference:
        contig, length = next(iter(reference.contigs.items()))
        start = 5_000_000 if megabases else 0
        return reference.fetch(contig, start, start + int(megabases * 1e6) if megabases else length)


def planted(rng: random.Random, bases: str, count: int) -> Iterator[tuple[list[Row], list[Row], str]]:
    """Truth and calls of one site after another, with what was done to it."""
    spacing = len(bases) // count
    for start in range(100, len(bases) - 100 - spacing, spacing):
        at = start + rng.randrange(max(1, spacing - 12))
        if "N" in bases[at - 60 : at + 80]:
            continue
        truth = variant(rng, bases, at)
        done = rng.random()
        if done < MISSED:
            yield truth, [], "missed"
        elif done < MISSED + FALSE:
            yield [], truth, "false"
        elif done < MISSED + FALSE + WRONG_GENOTYPE:
            yield truth, [(*row[:3], {"0/1": "1/1", "1/1": "0/1"}[row[3]]) for row in truth], "genotype"
        elif rng.random() < OTHER_SPELLING:
            yield truth, respelled(bases, truth), "mnp" if len(truth) == 2 else "same"
        else:
            yield truth, truth, "same"


def variant(rng: random.Random, bases: str, at: int) -> list[Row]:
    """An SNV, two neighbouring ones, or an indel, on one chromosome or both."""
    genotype = rng.choice(["0/1", "0/1", "1/1"])
    kind = rng.random()
    if kind < 0.8:
        places = [at, at + 1] if kind < 0.04 else [at]
        genotype = "1/1" if len(places) == 2 else genotype  # neighbours that are surely on the same chromosomes
        return [(place, bases[place], rng.choice(BASES.replace(bases[place], "")), genotype) for place in places]
    size = rng.randint(1, 6)
    if kind < 0.9:
        return [(at, bases[at], bases[at] + "".join(rng.choices(BASES, k=size)), genotype)]
    return [(at, bases[at : at + size + 1], bases[at], genotype)]


def respelled(bases: str, rows: list[Row]) -> list[Row]:
    """Two SNVs as one MNP, an indel as far to the right as it goes."""
    start, ref, alt, genotype = rows[0]
    if len(rows) == 2:
        return [(start, ref + rows[1][1], alt + rows[1][2], genotype)]
    if len(ref) == len(alt):
        return rows
    unit = ref[1:] or alt[1:]
    while bases[start + len(ref)] == unit[0]:
        unit = unit[1:] + unit[0]
        start += 1
        ref = bases[start : start + len(ref)]
    anchor = bases[start]
    return [(start, anchor + unit, anchor, genotype) if len(ref) > 1 else (start, anchor, anchor + unit, genotype)]


def written(folder: Path, bases: str, contigs: list[str], count: int) -> Counter[str]:
    """Write reference, truth and calls; what was planted is returned."""
    with (folder / "reference.fa").open("w") as file:
        for contig in contigs:
            file.write(f">{contig}\n{bases}\n")
    done: Counter[str] = Counter()
    header = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    header += [f"##contig=<ID={contig},length={len(bases)}>" for contig in contigs]
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "S1"])
    with (folder / "truth.vcf").open("w") as truth, (folder / "calls.vcf").open("w") as calls:
        for file in (truth, calls):
            file.write("\n".join([*header, columns]) + "\n")
        for number, contig in enumerate(contigs):
            rows: tuple[list[Row], list[Row]] = ([], [])
            for one, other, what in planted(random.Random(number), bases, count // len(contigs)):
                done[what] += 1
                done[f"{what}: truth"] += len(one)
                done[f"{what}: calls"] += len(other)
                rows[0].extend(one)
                rows[1].extend(other)
            for file, mine in zip((truth, calls), rows, strict=True):
                for start, ref, alt, genotype in sorted(mine):
                    file.write(f"{contig}\t{start + 1}\t.\t{ref}\t{alt}\t50\tPASS\t.\tGT\t{genotype}\n")
    return done


# A child's peak memory counts from the process that starts it, so that a small one must: it prints CPU seconds and KB.
LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print("\\n", usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(1 if status else 0)
"""


def measured(*commands: list[str]) -> tuple[str, str]:
    """Seconds by the clock and of CPU of all commands, the largest memory of one in MB; and the last one's output."""
    began, processor, peak, output = time.perf_counter(), 0.0, 0, ""
    for command in commands:
        run = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        output, _, usage = run.stdout.rstrip().rpartition("\n")
        seconds, kilobytes = usage.split()
        processor, peak = processor + float(seconds), max(peak, int(kilobytes))
    return f"{time.perf_counter() - began:>9.1f}{processor:>9.1f}{peak / 1024:>9.0f}", output


def of_bcftools(folder: Path) -> tuple[str, str]:
    """Figures and counts of normalising both files and intersecting them."""
    commands = []
    for name in ("truth", "calls"):
        out = str(folder / f"{name}.norm.vcf.gz")
        norm = ["bcftools", "norm", "-m-any", "-f", str(folder / "reference.fa"), "-Oz", "-o", out]
        commands += [[*norm, str(folder / f"{name}.vcf")], ["bcftools", "index", out]]
    normal = [str(folder / f"{name}.norm.vcf.gz") for name in ("truth", "calls")]
    figures, _ = measured(*commands, ["bcftools", "isec", "-p", str(folder / "isec"), *normal])
    counts = []
    for number in (2, 0, 1):
        with (folder / "isec" / f"000{number}.vcf").open() as file:
            counts.append(sum(not line.startswith("#") for line in file))
    return figures, f"both {counts[0]:,}, truth only {counts[1]:,}, calls only {counts[2]:,}"


def in_child(folder: Path) -> None:
    """What the measured process does."""
    found = compare(folder / "truth.vcf", folder / "calls.vcf", folder / "reference.fa")
    counts = found.counts["all"]
    print(
        f"truth matched {counts.truth_matched:,}, missed {counts.missed:,}, calls matched {counts.calls_matched:,}, "
        f"false {counts.false:,}, of them genotype errors {counts.genotype_errors:,}; "
        f"{found.clusters:,} clusters, {found.too_complex} too complex"
    )


def main() -> None:
    """Simulate, run both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="FASTA whose first contig is used; random bases without")
    parser.add_argument("--variants", type=int, default=5_000)
    parser.add_argument("--megabases", type=float, default=2)
    parser.add_argument("--genome", type=int, metavar="COPIES", help="4 million variants on copies of the whole contig")
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary one without")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        in_child(options.child)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bases = sequence(options.reference, None if options.genome else options.megabases)
        contigs = [f"contig{number}" for number in range(1, (options.genome or 1) + 1)]
        done = written(folder, bases, contigs, PER_GENOME if options.genome else options.variants)
        print(f"simulated on {len(contigs)} x {len(bases):,} bases; planted: {dict(done)}")
        print(f"{'program':<22}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}  result")
        figures, result = measured([sys.executable, __file__, "--child", str(folder)])
        print(f"{'careloop compare':<22}{figures}  {result.strip()}", flush=True)
        if shutil.which("bcftools"):
            figures, result = of_bcftools(folder)
            print(f"{'bcftools norm + isec':<22}{figures}  {result}")


if __name__ == "__main__":
    main()
