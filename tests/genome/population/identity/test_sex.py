"""Sex by genotypes: F beside plink 1.9's --check-sex, planted sexes found, and what is not clear said."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.population.components import autosomal_rows
from careloop.genome.population.identity.heterozygosity import heterozygosity
from careloop.genome.population.identity.sex import check_sex, found_sex
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort

MODEL = GenotypeModel(frequencies=(0.1, 0.5), missing=0.02, contigs=("1", "X", "Y"))


@pytest.fixture(scope="module")
def cohort() -> SimulatedCohort:
    """X behind what it shares with Y, and Y called in males only."""
    made = simulate_cohort(60, 900, seed=6, model=MODEL)
    male = (made.samples["sex"] == "male").to_numpy()
    made.genotypes[600:][:, ~male] = MISSING
    made.genotypes[600:][made.genotypes[600:] == 1] = 2
    variants = made.variants.with_columns(pl.col("position") + 5_000_000)
    return SimulatedCohort(made.samples, variants, *(getattr(made, name) for name in REST))


REST = ("genotypes", "phenotypes", "effects", "genetic_values", "population", "frequencies")


def as_source(cohort: SimulatedCohort, sex: pl.Series | None = None, rows: int = 900) -> InMemoryGenotypes:
    samples = cohort.samples if sex is None else cohort.samples.with_columns(sex.alias("sex"))
    return InMemoryGenotypes(samples, cohort.variants[:rows], cohort.genotypes[:rows])


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="needs plink1.9")
def test_f_is_plinks(cohort: SimulatedCohort, tmp_path: Path) -> None:
    bed = write_bed(tmp_path / "c", cohort.samples, cohort.variants, [cohort.genotypes])
    command = ["plink1.9", "--bfile", tmp_path / "c", "--check-sex", "--out", tmp_path / "c"]
    subprocess.run(command, check=True, capture_output=True)
    found = check_sex(open_genotypes(bed))
    sexes = np.genfromtxt(tmp_path / "c.sexcheck", names=True, dtype=None, encoding="utf-8")
    chromosomes = 2 * 60 - (cohort.samples["sex"] == "male").sum()
    uncorrected = chromosomes * 0.98 / (chromosomes * 0.98 - 1)  # --check-sex does not allow for the sample's size
    assert 1 - (1 - found["x_inbreeding"].to_numpy()) * uncorrected == pytest.approx(sexes["F"], abs=5e-4)


@pytest.mark.skipif(shutil.which("plink2") is None, reason="needs plink2")
def test_heterozygosity_is_plink2s(cohort: SimulatedCohort, tmp_path: Path) -> None:
    bed = write_bed(tmp_path / "c", cohort.samples, cohort.variants, [cohort.genotypes])
    command = ["plink2", "--bfile", tmp_path / "c", "--het", "small-sample", "--out", tmp_path / "c"]
    subprocess.run(command, check=True, capture_output=True)
    peer = pl.read_csv(tmp_path / "c.het", separator="\t")
    source = open_genotypes(bed)
    found = heterozygosity(source, autosomal_rows(source))
    assert found.homozygous.tolist() == peer["O(HOM)"].to_list()
    assert found.called.tolist() == peer["OBS_CT"].to_list()
    assert found.expected == pytest.approx(peer["E(HOM)"].to_numpy(), abs=2e-3)
    assert found.inbreeding == pytest.approx(peer["F"].to_numpy(), abs=1e-5)


def test_stated_sex_is_confirmed_and_what_differs_is_said(cohort: SimulatedCohort) -> None:
    sex = cohort.samples["sex"].to_list()
    wrong = pl.Series(["female" if sex[0] == "male" else "male", None, *sex[2:]])
    found = check_sex(as_source(cohort, wrong))
    assert found["found"].to_list() == sex
    assert found["verdict"].to_list() == ["differs", "not stated", *["agrees"] * 58]
    assert found["y_variants"].unique().to_list() == [300]


def test_without_y_x_decides_and_without_x_nothing_does(cohort: SimulatedCohort) -> None:
    assert check_sex(as_source(cohort, rows=600))["found"].to_list() == cohort.samples["sex"].to_list()
    alone = check_sex(as_source(cohort, rows=300))
    assert alone["found"].null_count() == 60
    assert alone["note"].unique().to_list() == ["fewer than 20 variants of X"]


def test_two_people_in_a_tube_are_not_a_sex(cohort: SimulatedCohort) -> None:
    male = np.flatnonzero((cohort.samples["sex"] == "male").to_numpy())[:2]
    genotypes = cohort.genotypes.copy()
    mixed = genotypes[300:600, male]
    genotypes[300:600, male[0]] = np.where((mixed < 0).any(axis=1), MISSING, (mixed.sum(axis=1) // 2)).astype(np.int8)
    found = check_sex(InMemoryGenotypes(cohort.samples, cohort.variants, genotypes))
    assert found["verdict"][int(male[0])] == "not clear"
    assert found["note"][int(male[0])] == "two X and a Y, or two people in one sample"


@pytest.mark.parametrize(
    ("f", "y", "sex", "said"),
    [
        (0.95, 0.99, "male", None),
        (0.95, float("nan"), "male", None),
        (0.02, 0.01, "female", None),
        (0.95, 0.0, None, "one X and no Y"),
        (0.5, 0.9, None, "between"),
        (float("nan"), 0.9, None, "fewer than"),
    ],
)
def test_sex_of_f_and_y(f: float, y: float, sex: str | None, said: str | None) -> None:
    found, note = found_sex(f, y)
    assert found == sex
    assert (note is None) if said is None else said in (note or "")


def test_what_x_and_y_share_is_left_out(cohort: SimulatedCohort) -> None:
    variants = cohort.variants.with_columns(
        pl.when(pl.col("contig") == "X").then(pl.col("position") % 2_000_000 + 100_000).otherwise("position")
    )
    found = check_sex(InMemoryGenotypes(cohort.samples, variants, cohort.genotypes))
    assert found["x_variants"].to_list() == [0] * 60
