"""A simulated cohort with missing genotypes, rare variants, X, Y and mitochondria, as a PLINK 1 file with tables."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING, GenotypeSource
from careloop.genome.genotypes.write_bed import write_bed

CONTIGS = ["1"] * 160 + ["X"] * 40 + ["Y"] * 20 + ["MT"] * 20


@dataclass(frozen=True)
class Cohort:
    """`folder` holds g.bed, traits.txt (QT, BT, one person without either), covariates.txt (AGE, PC1)."""

    folder: Path
    source: GenotypeSource
    genotypes: np.ndarray
    quantitative: np.ndarray
    case: np.ndarray
    covariates: np.ndarray

    def plink2(self, *arguments: str) -> pl.DataFrame:
        """The rows of plink2 --glm, numbers as text."""
        program = shutil.which("plink2")
        if program is None:
            pytest.skip("plink2 is not installed")
        where = ["--bfile", str(self.folder / "g"), "--pheno", str(self.folder / "traits.txt")]
        where += ["--covar", str(self.folder / "covariates.txt"), "--covar-variance-standardize"]
        glm = ["--glm", "omit-ref", "hide-covar", "cols=+a1freq"]
        out = self.folder / "plink2"
        for old in self.folder.glob("plink2*.glm.*"):
            old.unlink()
        command = [program, *where, *glm, *arguments, "--threads", "1", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        return pl.read_csv(next(self.folder.glob("plink2*.glm.*")), separator="\t", infer_schema=False)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    random = np.random.default_rng(10)
    people, variants = 400, len(CONTIGS)
    frequency = 10 ** random.uniform(-2.3, -0.3, variants)
    genotypes = random.binomial(2, frequency[:, None], (variants, people)).astype(np.int8)
    male = np.arange(people) % 2 == 0
    haploid = np.isin(CONTIGS, ["Y", "MT"])[:, None] | ((np.array(CONTIGS) == "X")[:, None] & male)
    genotypes = np.where(haploid, 2 * (genotypes > 0), genotypes).astype(np.int8)
    genotypes[random.random(genotypes.shape) < 0.03] = MISSING
    genotypes[3], genotypes[4], genotypes[5] = 0, 2, MISSING
    covariates = np.column_stack([60 + 9 * random.normal(size=people), random.normal(size=people)])
    called = np.where(genotypes < 0, 0, genotypes).astype(float)
    quantitative = 0.4 * called[1] + 0.03 * covariates[:, 0] + random.normal(size=people)
    case = random.logistic(size=people) + 0.5 * called[2] + covariates[:, 1] > 1.0
    genotypes[6] = np.where(case & (random.random(people) < 0.2), 1, 0)
    samples = pl.DataFrame({"sample_id": [f"p{at}" for at in range(people)]}).with_columns(
        family_id=pl.lit("0"), father_id=pl.lit("0"), mother_id=pl.lit("0"),
        sex=pl.Series(np.where(male, "male", "female")),
    )  # fmt: skip
    table = pl.DataFrame({"contig": CONTIGS, "position": np.arange(1, variants + 1)}).with_columns(
        variant_id=pl.format("v{}", pl.int_range(variants)), ref=pl.lit("G"), alt=pl.lit("A")
    )
    folder = tmp_path_factory.mktemp("cohort")
    write_bed(folder / "g", samples, table, [genotypes])
    rows = [f"p{at}\t{quantitative[at]:.7f}\t{1 + case[at]}" for at in range(people - 1)]
    (folder / "traits.txt").write_text("\n".join(["#IID\tQT\tBT", *rows, f"p{people - 1}\tNA\tNA"]) + "\n")
    rows = [f"p{at}\t{covariates[at, 0]:.7f}\t{covariates[at, 1]:.7f}" for at in range(people)]
    (folder / "covariates.txt").write_text("\n".join(["#IID\tAGE\tPC1", *rows]) + "\n")
    source = open_genotypes(folder / "g.bed")
    return Cohort(folder, source, genotypes, quantitative, case, covariates)
