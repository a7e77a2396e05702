"""Score people beside plink2 --score: whole commands' time, processor time and peak memory, and whether sums agree.

    python benchmarks/score.py [--samples 5000] [--variants 50000] [--small] [--genotypes PREFIX]

Needs `plink2`. Genotypes and weights are simulated (independent variants, frequencies from 1 % to 50 %, 1 % missing)
unless PREFIX names PLINK 1 files, whose weights are then simulated. Each row is a command of its own, which reads the
genotypes and weights, matches them, fills in missing genotypes by the frequency, and writes its table; the best of
three runs by time. plink2 is given ids and alleles that fit; careloop finds out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from launched import Run, launched

SCORES = 10  # of the row with many scores in one pass
RUNS = 3


def prepare(folder: Path, asked: str) -> None:
    """Write genotypes as BED and PGEN, and scores; `asked` is the prefix of PLINK files, or `samples,variants`."""
    import numpy as np
    import polars as pl

    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.genotypes.write_bed import write_bed
    from careloop.genome.risk.scores.write_pgs import write_pgs
    from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

    samples, comma, variants = asked.partition(",")
    if comma:
        made = simulate_cohort(int(samples), int(variants), seed=1, model=GenotypeModel(missing=0.01))
        write_bed(folder / "people", made.samples, made.variants, [made.genotypes])
    else:
        subprocess.run(["plink2", "--bfile", asked, "--make-bed", "--out", str(folder / "people")], check=True)
    table = open_genotypes(folder / "people").variants
    draws = np.random.default_rng(2)
    weights = draws.normal(size=(SCORES, table.height)) / np.sqrt(table.height)
    as_alt = pl.Series(draws.random(table.height) < 0.5)
    rows = table.select(
        "variant_id",
        "position",
        pl.col("contig").alias("chromosome"),
        pl.when(as_alt).then("alt").otherwise("ref").alias("effect_allele"),
        pl.when(as_alt).then("ref").otherwise("alt").alias("other_allele"),
    )
    for number, column in enumerate(weights):
        write_pgs(rows.with_columns(weight=column), folder / f"S{number}.txt", name=f"S{number}")
    names = [f"S{number}" for number in range(SCORES)]
    theirs = rows.select("variant_id", "effect_allele").with_columns(
        pl.Series(name, column) for name, column in zip(names, weights, strict=True)
    )
    theirs.write_csv(folder / "all.txt", separator="\t")


def careloop(folder: Path, genotypes: str, scores: int) -> list[str]:
    """The command that scores by the first `scores` files."""
    weights = [part for number in range(scores) for part in ("--weights", str(folder / f"S{number}.txt"))]
    out = ["--ambiguous", "keep", "--out", str(folder / "ours.tsv")]
    return ["careloop", "genome", "score", str(folder / genotypes), *weights, *out]


def plink2(folder: Path, genotypes: list[str], scores: int) -> list[str]:
    """plink2's command for the first `scores` columns."""
    asked = ["--score", str(folder / "all.txt"), "1", "2", "header-read", "cols=+scoresums"]
    columns = ["--score-col-nums", f"3-{2 + scores}" if scores > 1 else "3"]
    return ["plink2", *genotypes, *asked, *columns, "--out", str(folder / "theirs")]


def measured(command: list[str]) -> Run:
    """Wall seconds, processor seconds and MB at peak: the best of some runs, each in a process of its own."""
    return min(launched(command) for _ in range(RUNS))


def agreement(folder: Path) -> str:
    """The largest difference of any score from plink2's, in standard deviations of that score."""
    import polars as pl

    ours = pl.read_csv(folder / "ours.tsv", separator="\t", schema_overrides={"sample_id": pl.String})
    theirs = pl.read_csv(folder / "theirs.sscore", separator="\t", infer_schema_length=None)
    names = [name for name in ours.columns if name.startswith("S")]
    worst = max(
        float(((ours[name] - theirs[f"{name}_SUM"]).abs() / theirs[f"{name}_SUM"].std()).max())  # type: ignore[arg-type]
        for name in names
    )
    return f"{len(names)} scores of {ours.height:,} people: largest difference {worst:.1e} standard deviations"


def main() -> None:
    """Write the files, score with both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--variants", type=int, default=50_000)
    parser.add_argument("--small", action="store_true", help="1,000 samples and 5,000 variants")
    parser.add_argument("--genotypes", type=Path, metavar="PREFIX")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(Path(asked.prepare[0]), asked.prepare[1])
        return
    numbers = "1000,5000" if asked.small else f"{asked.samples},{asked.variants}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [sys.executable, __file__, "--prepare", name, str(asked.genotypes or numbers)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        bed = ["--bfile", str(folder / "people")]
        pgen = ["plink2", *bed, "--make-pgen", "--out", str(folder / "turned")]
        subprocess.run(pgen, check=True, stdout=subprocess.DEVNULL)
        print(f"{'':<24} {'':<9} {'seconds':>8} {'processor':>10} {'MB':>6}")
        for what, genotypes, theirs, scores in (
            ("BED, one score", "people.bed", bed, 1),
            ("PGEN, one score", "turned.pgen", ["--pfile", str(folder / "turned")], 1),
            (f"BED, {SCORES} scores", "people.bed", bed, SCORES),
        ):
            commands = {"careloop": careloop(folder, genotypes, scores), "plink2": plink2(folder, theirs, scores)}
            for at, (who, command) in enumerate(commands.items()):
                print(f"{'' if at else what:<24} {who:<9} {measured(command)}", flush=True)
            print(f"{'':<24} {agreement(folder)}", flush=True)


if __name__ == "__main__":
    main()
