"""Test every variant for association beside plink2: the whole command's time and memory, and the worst differences.

    python benchmarks/association.py [--samples 5000] [--variants 50000] [--covariates 10] [--small] [--genotypes P]

Needs `plink2`. Genotypes and traits are simulated (frequencies from 1 % to 50 %; without and with 2 % missing), with
prefix P only the traits: 50 causal variants of those PLINK 1 files, heritability 0.3. Each row is one command from
start to written table, on two threads (Linux). Differences are the largest over all variants that both estimate; plink2
prints six digits, and its Firth fits, which stop early, are counted but not compared. For case/control 300 variants are
also fitted in double precision until nothing moves, since plink2 stops a step earlier: "from the maximum" is the
largest relative difference of the standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from launched import launched
from numpy.typing import NDArray

from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, TraitModel, simulate_cohort

CHECKED = 300  # variants fitted to the end in double precision
CAUSAL, HERITABILITY = 50, 0.3
NAMES = {"beta": "BETA", "standard_error": "SE", "p_value": "P"}  # ours, plink2's


def write_cohort(folder: Path, samples: int, variants: int, covariates: int, missing: float) -> Path:
    """A simulated cohort as PLINK 1 files with tables; returns the prefix."""
    contigs = tuple(map(str, range(1, 23)))
    model = GenotypeModel(missing=missing, contigs=contigs)
    trait = TraitModel(HERITABILITY, causal=CAUSAL, covariates=covariates, covariate_share=0.1 if covariates else 0.0)
    made = simulate_cohort(samples, variants, seed=1, model=model, trait=trait)
    write_bed(folder / "g", made.samples, made.variants, [made.genotypes])
    found = made.phenotypes
    traits = found.select(pl.col("trait").round(6).alias("QT"), (pl.col("case") + 1).alias("BT"))
    write_tables(folder, made.samples, traits, found.drop("sample_id", "trait", "case"))
    return folder / "g"


def write_traits_of(prefix: Path, folder: Path, covariates: int) -> Path:
    """Simulated traits of the people in PLINK 1 files."""
    source, random = open_genotypes(prefix), np.random.default_rng(1)
    rows = np.sort(random.choice(source.variants.height, CAUSAL, replace=False))
    copies = np.maximum(source.genotypes(rows), 0).astype(float)
    genetic = random.normal(size=CAUSAL) @ copies
    people = source.samples.height
    trait = np.sqrt(HERITABILITY) * (genetic - genetic.mean()) / genetic.std()
    trait += np.sqrt(1 - HERITABILITY) * random.normal(size=people)
    case = trait > np.quantile(trait, 0.6)
    beside = {f"covariate_{at + 1}": random.normal(size=people) for at in range(covariates)}
    write_tables(folder, source.samples, pl.DataFrame({"QT": trait.round(6), "BT": 1 + case}), pl.DataFrame(beside))
    return prefix


def write_tables(folder: Path, samples: pl.DataFrame, traits: pl.DataFrame, covariates: pl.DataFrame) -> None:
    """traits.txt (QT, BT as 1 and 2) and covariates.txt, by family and sample id as plink2 wants them."""
    ids = [samples["family_id"].fill_null("0").alias("#FID"), samples["sample_id"].alias("IID")]
    for name, table in (("traits", traits), ("covariates", covariates)):
        pl.DataFrame([*ids, *table.get_columns()]).write_csv(folder / f"{name}.txt", separator="\t")


def compare(prefix: Path, folder: Path, name: str) -> None:
    """Print one row for each trait."""
    for trait in ("QT", "BT"):
        tables = [folder / "traits.txt", folder / "covariates.txt"]
        plink = ["plink2", "--bfile", str(prefix), "--pheno", str(tables[0]), "--pheno-name", trait, "--threads", "2"]
        plink += ["--glm", "omit-ref", "hide-covar", "cols=+beta,-orbeta", "--out", str(folder / "plink2")]
        ours = [
            str(Path(sys.executable).with_name("careloop")),
            "genome",
            "associate",
            str(prefix),
            "--phenotypes",
            str(tables[0]),
        ]
        ours += ["--trait", trait, "--out", str(folder / "ours.tsv")]
        if len(pl.read_csv(tables[1], separator="\t", n_rows=1).columns) > 2:
            plink += ["--covar", str(tables[1]), "--covar-variance-standardize"]
            ours += ["--covariates", str(tables[1])]
        else:
            plink.insert(plink.index("hide-covar"), "allow-no-covars")
        peer, own = launched(plink), launched(ours)
        written = next(folder.glob(f"plink2.{trait}.glm.*"))
        differences = worst(folder / "ours.tsv", written)
        if trait == "BT":
            differences += from_maximum(open_genotypes(prefix), folder, written)
        kind = {"QT": "linear", "BT": "logistic"}[trait]
        print(f"{name:<12} {kind:<9} {peer!s:<30} {own!s:<30} {differences}", flush=True)
        written.unlink()


def worst(ours: Path, plink: Path) -> str:
    """The largest differences: of effects and P values, of effects by standard error, of standard errors relatively."""
    left = pl.read_csv(ours, separator="\t", null_values="#NA")
    right = pl.read_csv(plink, separator="\t", null_values="NA", schema_overrides={"#CHROM": pl.String})
    firth = np.zeros(len(left), bool) if "FIRTH?" not in right.columns else (right["FIRTH?"] == "Y").to_numpy()
    both = {key: (left[key].to_numpy(), right[theirs].to_numpy()) for key, theirs in NAMES.items()}
    apart = np.flatnonzero(left["p_value"].is_null().to_numpy() != right["P"].is_null().to_numpy())
    kept = ~firth & np.isfinite(both["beta"][0]) & np.isfinite(both["beta"][1])
    beta, error, p = (np.abs(a - b)[kept] for a, b in both.values())
    size = both["standard_error"][1][kept]
    text = f"beta {beta.max():.1e} ({(beta / size).max():.1e} SE), SE {error.max():.1e} ({(error / size).max():.1e}), "
    text += f"P {p.max():.1e}"
    text += f"; Firth {firth.sum()}" if firth.any() else ""
    return text + (f"; {apart.size} estimated by one only" if apart.size else "")


def from_maximum(source: GenotypeSource, folder: Path, plink: Path) -> str:
    """How far standard errors are from those of fits in double precision until nothing moves."""
    left = pl.read_csv(folder / "ours.tsv", separator="\t", null_values="#NA")
    right = pl.read_csv(plink, separator="\t", null_values="NA", schema_overrides={"#CHROM": pl.String})
    plain = np.flatnonzero(((right["FIRTH?"] == "N") & right["P"].is_not_null()).to_numpy())
    rows = plain[:: max(1, len(plain) // CHECKED)]
    case = pl.read_csv(folder / "traits.txt", separator="\t")["BT"].to_numpy() - 1.0
    beside = pl.read_csv(folder / "covariates.txt", separator="\t").drop("#FID", "IID").to_numpy()
    exact = np.array([_exact_error(copies, case, beside) for copies in source.genotypes(rows)])
    ours = np.abs(left["standard_error"].to_numpy()[rows] / exact - 1).max()
    theirs = np.abs(right["SE"].to_numpy()[rows] / exact - 1).max()
    return f"; SE from the maximum: ours {ours:.1e}, plink2 {theirs:.1e}"


def _exact_error(copies: NDArray[np.int8], case: NDArray[np.float64], beside: NDArray[np.float64]) -> float:
    known = copies >= 0
    x = np.column_stack([np.ones(known.sum()), beside[known], copies[known]])
    at = np.zeros(x.shape[1])
    for _ in range(15):
        p = 1 / (1 + np.exp(-x @ at))
        covariance = np.linalg.inv(x.T @ ((p * (1 - p))[:, None] * x))
        at = at + covariance @ x.T @ (case[known] - p)
    return float(np.sqrt(covariance[-1, -1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--variants", type=int, default=50_000)
    parser.add_argument("--covariates", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="500 samples, 2,000 variants")
    parser.add_argument("--genotypes", type=Path, metavar="PREFIX")
    given = parser.parse_args()
    samples, variants = (500, 2_000) if given.small else (given.samples, given.variants)
    heads = ("plink2: clock, processors, peak", "careloop: clock, processors, peak", "largest differences")
    print(f"{'':<22} {heads[0]:<30} {heads[1]:<30} {heads[2]}")
    with tempfile.TemporaryDirectory() as folder:
        if given.genotypes:
            compare(
                write_traits_of(given.genotypes, Path(folder), given.covariates),
                Path(folder),
                given.genotypes.name[:12],
            )
            return
        for missing in (0.0, 0.02):
            prefix = write_cohort(Path(folder), samples, variants, given.covariates, missing)
            compare(prefix, Path(folder), f"{100 * missing:.0f} % missing")


if __name__ == "__main__":
    main()
