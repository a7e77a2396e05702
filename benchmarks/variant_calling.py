"""Compare careloop's caller with bcftools and freebayes on simulated reads: errors, F1, processor time, peak memory.

    python benchmarks/variant_calling.py REFERENCE [--contig 20] [--settings "10x;30x"] [--seeds 5] [--small]

REFERENCE is an indexed FASTA of human chromosome 20 (GRCh37), such as Debian's vt-examples has. Needs `art_illumina`,
`bcftools` and `freebayes` (all in Debian). For each seed a person with 2,000 SNVs and 350 indels (a third in
homopolymers and tandem repeats) is planted in 2 Mb that the shipped network was never trained on, art simulates reads
(HiSeq 2500, 150 bases), minimap2 aligns them to the whole contig, and all callers read the same BAM. Judged by
`careloop.genome.variants.compare`: a wrong genotype counts as an error in "F1" and not in "allele F1". "best" is the
best allele F1 at any QUAL threshold, chosen with the truth in hand: what a peer could reach by tuning.
Variants and reads are simulated; the sequence is human. Time is user and system time of the processes (Linux).
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from careloop.genome.call.germline import CallSettings, call_variants
from careloop.genome.files.regions import Region, Regions, parse_region
from careloop.genome.simulate.art import ArtModel
from careloop.genome.simulate.sample import SamplePlan, simulate_sample
from careloop.genome.simulate.variants import Planting
from careloop.genome.variants.compare import compare
from careloop.genome.variants.comparison import Counts, CurvePoint

# Where, in Mb of chromosome 20; training and validation took none of these (scripts/variant_caller_weights.py).
REGIONS_MB = (10, 32, 42, 51, 53)
FIRST_SEED = 9001


@dataclass(frozen=True)
class Setting:
    """A kind of sample; `seeds` samples unless told otherwise. Low quality is 10 Phred less, ten times the errors."""

    name: str
    depth: float
    seeds: int
    contamination: float = 0.0
    quality_shift: int = 0


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("10x", 10, 5),
        Setting("30x", 30, 2),
        Setting("5x", 5, 2),
        Setting("15x", 15, 2),
        Setting("10x, 2 % contaminated", 10, 2, contamination=0.02),
        Setting("30x, 2 % contaminated", 30, 1, contamination=0.02),
        Setting("10x, low quality", 10, 2, quality_shift=-10),
        Setting("30x, low quality", 30, 1, quality_shift=-10),
    )
}
CALLERS = {
    "careloop network": "{python} {script} --call network {bam} {fasta} {region} {out}",
    "careloop engine": "{python} {script} --call engine {bam} {fasta} {region} {out}",
    "bcftools": "bcftools mpileup -Ou -f {fasta} -r {region} {bam} | bcftools call -mv -Ov -o {out}",
    "freebayes": "freebayes -f {fasta} -r {freebayes_region} {bam} > {out}",
}


@dataclass(frozen=True)
class Sample:
    """A simulated sample's files and region."""

    bam: Path
    truth: Path
    region: Region


@dataclass(frozen=True)
class Outcome:
    """One caller on one sample."""

    counts: dict[str, Counts]
    best: dict[str, float]
    seconds: float
    peak_mb: float


@dataclass
class Table:
    """Outcomes by caller, in the order of the samples."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)


def simulate(reference: Path, region: Region, setting: Setting, *, seed: int, folder: Path) -> Sample:
    """A simulated sample, made in a process of its own: minimap2's index must not count as a caller's memory."""
    command = [
        sys.executable,
        __file__,
        "--simulate",
        str(reference),
        str(region),
        setting.name,
        str(seed),
        str(folder),
    ]
    subprocess.run(command, check=True)
    return Sample(folder / "reads.bam", folder / "truth.vcf.gz", region)


def _simulate(reference: str, region: str, setting: str, seed: str, folder: str) -> None:
    chosen, where = SETTINGS[setting], parse_region(region)
    megabases = (where.end - where.start) / 1e6
    variants = Planting(snvs=round(1000 * megabases), indels=round(175 * megabases))
    reads = ArtModel(chosen.depth, quality_shift=chosen.quality_shift)
    plan = SamplePlan(where, reads, variants, int(seed), chosen.contamination)
    simulate_sample(Path(reference), plan, Path(folder))


def run(caller: str, sample: Sample, reference: Path, folder: Path) -> Outcome:
    """Runs a caller as a process and judges its calls."""
    region = sample.region
    out = folder / f"{caller.replace(' ', '_')}.vcf"
    command = CALLERS[caller].format(
        python=shlex.quote(sys.executable),
        script=__file__,
        bam=sample.bam,
        fasta=reference,
        out=out,
        region=f"{region.contig}:{region.start + 1}-{region.end}",
        freebayes_region=f"{region.contig}:{region.start}-{region.end}",
    )
    process = subprocess.Popen(["bash", "-o", "pipefail", "-c", command], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{caller} failed: {command}")
    found = compare(sample.truth, out, reference, regions=Regions([region]))
    best = {kind: _best(found.curve[kind], found.counts[kind]) for kind in ("snp", "indel")}
    return Outcome(dict(found.counts), best, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _best(curve: Sequence[CurvePoint], counts: Counts) -> float:
    """The highest allele F1 along the curve; wrong genotypes are taken as right at every threshold."""
    truth = counts.truth_matched + counts.missed
    found = [allele_f1(counts)]
    for point in curve:
        matched = point.truth_matched + counts.genotype_errors
        false = max(point.false - counts.genotype_errors, 0)
        found.append(2 * matched / (truth + matched + false))
    return max(found)


def allele_f1(counts: Counts) -> float:
    """F1 where a called allele is right whatever its genotype."""
    matched = counts.truth_matched + counts.genotype_errors
    errors = counts.missed + counts.false - 2 * counts.genotype_errors
    return 2 * matched / (2 * matched + errors)


def rows(table: Table) -> Iterator[str]:
    """The table as text: errors are missed + false + wrong genotypes a sample, means over the samples."""
    yield (
        f"{'caller':18}{'SNV: missed':>12}{'false':>7}{'GT':>7}{'F1':>8}{'allele F1':>11}{'best':>8}"
        f"{'indel: missed':>15}{'false':>7}{'GT':>7}{'F1':>8}{'allele F1':>11}{'best':>8}{'CPU s':>8}{'MB':>6}"
    )
    for caller, outcomes in table.outcomes.items():
        cells = f"{caller:18}"
        for kind, width in (("snp", 12), ("indel", 15)):
            counts = [outcome.counts[kind] for outcome in outcomes]
            wrong = np.mean([one.genotype_errors for one in counts])
            cells += f"{np.mean([one.missed for one in counts]) - wrong:>{width}.1f}"
            cells += f"{np.mean([one.false for one in counts]) - wrong:>7.1f}{wrong:>7.1f}"
            cells += (
                f"{np.mean([one.f1 or 0 for one in counts]):>8.4f}{np.mean([allele_f1(one) for one in counts]):>11.4f}"
            )
            cells += f"{np.mean([outcome.best[kind] for outcome in outcomes]):>8.4f}"
        yield cells + f"{np.mean([o.seconds for o in outcomes]):>8.1f}{max(o.peak_mb for o in outcomes):>6.0f}"


def paired(table: Table) -> Iterator[str]:
    """The network's gain in allele F1 over each other caller, sample by sample."""
    ours = table.outcomes["careloop network"]
    for caller, outcomes in table.outcomes.items():
        if caller == "careloop network":
            continue
        for kind in ("snp", "indel"):
            gains = [allele_f1(a.counts[kind]) - allele_f1(b.counts[kind]) for a, b in zip(ours, outcomes, strict=True)]
            best = [allele_f1(a.counts[kind]) - b.best[kind] for a, b in zip(ours, outcomes, strict=True)]
            yield f"  over {caller}, {kind}: {_gains(gains)}; over its best threshold: {_gains(best)}"


def _gains(gains: list[float]) -> str:
    each = " ".join(f"{gain:+.4f}" for gain in gains)
    return f"{np.mean(gains):+.4f} ({each})"


def measure(name: str, reference: Path, *, contig: str, seeds: int, bases: int) -> None:
    """Prints one setting's table."""
    table = Table()
    for number in range(seeds):
        start = REGIONS_MB[number % len(REGIONS_MB)] * 1_000_000
        with tempfile.TemporaryDirectory() as folder:
            sample = simulate(
                reference,
                Region(contig, start, start + bases),
                SETTINGS[name],
                seed=FIRST_SEED + number,
                folder=Path(folder),
            )
            for caller in CALLERS:
                table.outcomes.setdefault(caller, []).append(run(caller, sample, reference, Path(folder)))
    print(f"\n{name}: {seeds} simulated samples, {bases / 1e6:g} Mb each (means; MB: the most of any process)")
    print("\n".join([*rows(table), *paired(table)]), flush=True)


def _call(scorer: str, bam: str, fasta: str, region: str, out: str) -> None:
    settings = CallSettings(scorer=scorer)  # type: ignore[arg-type]
    call_variants(Path(bam), Path(fasta), Path(out), regions=[parse_region(region)], settings=settings)


def main() -> None:
    """Reads the command line; `--call` and `--simulate` are the steps that need processes of their own."""
    if sys.argv[1:2] == ["--call"]:
        return _call(*sys.argv[2:])
    if sys.argv[1:2] == ["--simulate"]:
        return _simulate(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--contig", default="20")
    parser.add_argument("--settings", default=";".join(SETTINGS), help="separated by ';'")
    parser.add_argument("--seeds", type=int, help="samples for each setting")
    parser.add_argument("--small", action="store_true", help="one sample of 500 kb for each setting")
    arguments = parser.parse_args()
    for name in arguments.settings.split(";"):
        seeds = 1 if arguments.small else arguments.seeds or SETTINGS[name].seeds
        measure(
            name,
            arguments.reference,
            contig=arguments.contig,
            seeds=seeds,
            bases=500_000 if arguments.small else 2_000_000,
        )
    return None


if __name__ == "__main__":
    main()
