"""Principal components and relatives beside plink2: whole commands' time and memory, and whether they agree.

    python benchmarks/population.py [--samples 3000] [--variants 30000] [--small]

Needs `plink2`. Genotypes are simulated: three populations (fst .02), neighbouring variants correlated, 1 % missing.
`ancestry` chooses variants (frequency, gaps, pruning) and computes ten components; plink2 is given the same limits in
three commands, whose time is added up and whose highest peak is shown. `check` looks for gaps, heterozygosity and
relatives on at most 20,000 variants; plink2 --make-king-table on all. Components agree as far as the smallest absolute
correlation of the first two with plink2's says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from launched import Run, launched

from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

CONTIGS = tuple(map(str, range(1, 23)))
COMPONENTS = 10


def write_people(prefix: Path, samples: int, variants: int) -> None:
    """Simulated people as PLINK 1 files."""
    model = GenotypeModel(populations=3, fst=0.02, correlation=0.5, missing=0.01, contigs=CONTIGS)
    made = simulate_cohort(samples, variants, seed=1, model=model)
    write_bed(prefix, made.samples, made.variants, [made.genotypes])


def by_plink(prefix: Path, folder: Path) -> tuple[Run, Run]:
    """plink2's components, and its relatives."""
    files = ["plink2", "--bfile", str(prefix)]
    chosen = ["--maf", "0.01", "--geno", "0.05", "--indep-pairwise", "500kb", "0.2", "--out", str(folder / "pruned")]
    counted = ["--freq", "--out", str(folder / "pruned")]
    wanted = ["--extract", str(folder / "pruned.prune.in"), "--read-freq", str(folder / "pruned.afreq")]
    steps = [chosen, counted, [*wanted, "--pca", str(COMPONENTS), "--out", str(folder / "plink")]]
    runs = [launched([*files, *step]) for step in steps]
    components = Run(
        sum(run.seconds for run in runs),
        sum(run.processor_seconds for run in runs),
        max(run.megabytes for run in runs),
    )
    relatives = [*files, "--make-king-table", "--king-table-filter", "0.0442", "--out", str(folder / "plink")]
    return components, launched(relatives)


def by_careloop(prefix: Path, folder: Path) -> tuple[Run, Run]:
    """careloop's, by the commands that users type."""
    genome = [str(Path(sys.executable).with_name("careloop")), "genome"]
    components = [*genome, "ancestry", str(prefix), "--components", str(COMPONENTS), "--out", str(folder / "ancestry")]
    return launched(components), launched([*genome, "check", str(prefix), "--out", str(folder / "check")])


def agreement(folder: Path) -> float:
    """The smallest absolute correlation of the first two components with plink2's."""
    ours = pl.read_csv(folder / "ancestry" / "components.tsv", separator="\t")
    theirs = pl.read_csv(folder / "plink.eigenvec", separator="\t")
    return min(abs(float(np.corrcoef(ours[name], theirs[name])[0, 1])) for name in ("PC1", "PC2"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--variants", type=int, default=30_000)
    parser.add_argument("--small", action="store_true", help="500 samples, 3,000 variants")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_people(folder / "people", *((500, 3_000) if given.small else (given.samples, given.variants)))
        print(f"{'':<12} {'components: clock, processors, peak':<36} relatives: clock, processors, peak")
        for who, runs in (
            ("careloop", by_careloop(folder / "people", folder)),
            ("plink2", by_plink(folder / "people", folder)),
        ):
            print(f"{who:<12} {runs[0]!s:<36} {runs[1]}")
        print(f"smallest correlation of the first two components with plink2's: {agreement(folder):.6f}")


if __name__ == "__main__":
    main()
