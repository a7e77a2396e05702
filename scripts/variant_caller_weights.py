"""Train the variant caller's network and write genome/call/weights/germline.onnx.

    python scripts/variant_caller_weights.py REFERENCE --work FOLDER [--processes 2] [--epochs 16] [--out FILE]

REFERENCE is an indexed FASTA of human chromosome 20, GRCh37 (contig `20`; Debian's vt-examples has it). Needs
`art_illumina`. Samples are simulated, their candidates' evidence is kept in FOLDER (a finished sample is not made
again), the network is trained on one core and calibrated on the validation samples, whose errors are printed.
Training, validation and benchmarks/variant_calling.py use different regions and seeds. About 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from careloop.genome.call.evidence import Evidence
from careloop.genome.call.genotypes import CALL_THRESHOLD
from careloop.genome.call.train import (
    Density,
    Examples,
    Training,
    calibrate,
    examples_of,
    export,
    joined_examples,
    predict,
    train,
)
from careloop.genome.files.regions import Region
from careloop.genome.simulate.art import ArtModel
from careloop.genome.simulate.reads import ReadModel, low_quality
from careloop.genome.simulate.sample import SamplePlan, simulate_sample
from careloop.genome.simulate.variants import Planting

OUT = Path(__file__).parents[1] / "src" / "careloop" / "genome" / "call" / "weights" / "germline.onnx"
CONTIG = "20"
MB = 1_000_000
# Megabases of chromosome 20. The benchmark's are 10-12, 32-34, 42-44, 51-53 and 53-55; the gap is 26-30.
TRAINING_MB = (*range(1, 5), 7, *range(13, 19), *range(21, 26), 30, 31, *range(35, 41), *range(45, 51), 55, 56, 59, 60)
DEPTHS = (10, 30, 5, 15, 10, 20, 8, 40, 10, 15, 12, 30, 6, 10, 20, 10)
KINDS = (
    "HS25", "own", "HSXt", "own low quality", "HS25", "own four qualities", "own contaminated", "HSXn", "HS25",
    "own", "HS25 low quality", "HS25 contaminated",
)  # fmt: skip
DENSE = Planting(snvs=2500, indels=700)  # a megabase: more than a person has, corrected by the prior
USUAL = Planting(snvs=1000, indels=175)
VALIDATION = (
    (5, 10, "HS25"), (6, 10, "HS25"), (57, 10, "HS25"), (58, 10, "HS25"), (8, 10, "HS25"), (8, 30, "HS25"),
    (57, 5, "HS25"), (5, 15, "HS25"), (8, 10, "HS25 contaminated"), (6, 10, "HS25 low quality"), (58, 30, "own"),
)  # fmt: skip
CONTAMINATION = 0.02
RELIABILITY_EDGES = (-1, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1)


@dataclass(frozen=True)
class Job:
    """One simulated sample of a megabase, by name."""

    name: str
    plan: SamplePlan


def jobs() -> Iterator[Job]:
    """Training samples (a shuffled mixture of depths and machines), then those of validation."""
    places = np.random.default_rng(77).permutation(TRAINING_MB).tolist()
    for number, place in enumerate(places):
        kind = KINDS[(number * 5 + number // 12) % len(KINDS)]
        yield _job(
            f"training-{number:02}", place, DEPTHS[number % len(DEPTHS)], kind, variants=DENSE, seed=5000 + number
        )
    for number, (place, depth, kind) in enumerate(VALIDATION):
        yield _job(
            f"validation-{number:02}-{depth}x-{kind.replace(' ', '_')}",
            place,
            depth,
            kind,
            variants=USUAL,
            seed=7000 + number,
        )


def _job(name: str, place: int, depth: float, kind: str, *, variants: Planting, seed: int) -> Job:
    machine, _, state = kind.partition(" ")
    reads: ReadModel | ArtModel
    if machine == "own":
        reads = _own_machine(depth, np.random.default_rng(seed), binned="four" if state == "four qualities" else "no")
        reads = low_quality(reads) if state == "low quality" else reads
    else:
        reads = ArtModel(depth, machine, quality_shift=-10 if state == "low quality" else 0)
    contamination = CONTAMINATION if state == "contaminated" else 0.0
    region = Region(CONTIG, place * MB, (place + 1) * MB)
    return Job(name, SamplePlan(region, reads, variants, seed, contamination))


def _own_machine(depth: float, draw: np.random.Generator, *, binned: str) -> ReadModel:
    """A machine whose qualities, fragments, errors and duplicates are drawn, so that no one model is learned."""
    return ReadModel(
        depth=depth,
        quality_first=float(draw.uniform(34, 39)),
        quality_last=float(draw.uniform(28, 36)),
        fragment_mean=float(draw.uniform(300, 500)),
        fragment_sd=float(draw.uniform(40, 100)),
        error_scale=float(np.exp(draw.uniform(-0.3, 0.7))),
        duplicates=float(draw.choice([0, 0.05])),
        homopolymer_errors=float(np.exp(draw.uniform(-11, -7.5))),
        binned=binned,
    )


def make(job: Job, reference: Path, work: Path) -> str:
    """Simulates a sample and keeps its examples."""
    path = work / f"{job.name}.npz"
    if path.exists():
        return job.name
    plan, bases = job.plan.variants, job.plan.region.end - job.plan.region.start
    density = Density(plan.snvs / bases, plan.indels / bases, plan.heterozygous_share)
    region = (job.plan.region.contig, job.plan.region.start, job.plan.region.end)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        sample = simulate_sample(reference, job.plan, Path(folder))
        found = examples_of(sample.bam, reference, region, truth=sample.records, density=density)
    evidence = found.evidence
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        fragments=evidence.fragments.astype(np.float16),
        present=evidence.present.astype(bool),
        sites=evidence.sites,
        log_priors=found.log_priors,
        copies=found.copies,
    )
    part.rename(path)
    return job.name


def load(path: Path) -> Examples:
    """A sample's examples."""
    kept = np.load(path)
    evidence = Evidence(kept["fragments"].astype(np.float32), kept["present"].astype(np.float32), kept["sites"])
    return Examples(evidence, kept["log_priors"], kept["copies"])


def report(network: object, paths: list[Path]) -> None:
    """Errors among each validation sample's candidates (alleles that are no candidate are not counted), by type."""
    kinds = "".join(f"{f'{kind}: missed':>15}{'false':>7}{'GT':>5}" for kind in ("SNV", "indel"))
    print(f"{'validation sample':42}{kinds}  expected/true")
    for path in paths:
        examples = load(path)
        found = predict(network, examples)
        is_indel = examples.evidence.sites[:, 10:12].any(axis=1)
        cells = f"{path.stem:42}"
        for rows in (~is_indel, is_indel):
            truth, called = examples.copies[rows] > 0, 1 - found[rows, 0] > CALL_THRESHOLD
            wrong = called & truth & (found[rows, 1:].argmax(axis=1) + 1 != examples.copies[rows])
            cells += f"{(truth & ~called).sum():>15}{(called & ~truth).sum():>7}{wrong.sum():>5}"
        print(cells + f"{(1 - found[:, 0]).sum():>10.1f} / {(examples.copies > 0).sum()}")


def report_reliability(title: str, network: object, paths: list[Path]) -> None:
    """How often the validation samples' candidates are variants, by the probability that the network gives them."""
    tables = [(1 - predict(network, examples)[:, 0], examples.copies > 0) for examples in map(load, paths)]
    stated, true = (np.concatenate(column) for column in zip(*tables, strict=True))
    print(f"{title}: stated probability: candidates, mean stated, share that are variants")
    for low, high in itertools.pairwise(RELIABILITY_EDGES):
        inside = (stated > low) & (stated <= high)
        if inside.any():
            print(f"{low:>8} to {high:<8}{inside.sum():>8}{stated[inside].mean():>10.5f}{true[inside].mean():>10.5f}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=Training().epochs)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.processes) as pool:
        waiting = [pool.submit(make, job, arguments.reference, arguments.work) for job in jobs()]
        for done, one in enumerate(waiting, start=1):
            print(f"{done}/{len(waiting)} {one.result()} {time.monotonic() - started:.0f} s", flush=True)
    examples = joined_examples([load(path) for path in sorted(arguments.work.glob("training-*.npz"))])
    plan = Training(epochs=arguments.epochs)
    network = train(examples, plan, progress=lambda what, done, total: print(what, done, total, flush=True))
    validation = sorted(arguments.work.glob("validation-*.npz"))
    report_reliability("before calibration", network, validation)
    calibrate(network, joined_examples([load(path) for path in validation]))
    print(f"scale {network.evidence_scale.item():.3f}, shift {network.variant_shift.item():+.3f}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    export(
        network,
        arguments.out,
        metadata={
            "trained_on": "reads simulated from human chromosome 20 (GRCh37)",
            "candidates": str(len(examples.copies)),
            "epochs": str(plan.epochs),
        },
    )
    report(network, validation)
    report_reliability("after calibration (fitted on these)", network, validation)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
