"""Simulated genotypes of a few people, and the peers that read and write the same files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort


@pytest.fixture(scope="session")
def plink2() -> Callable[..., None]:
    """Run plink2 with some arguments."""
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")

    def run(*arguments: object) -> None:
        subprocess.run(["plink2", "--threads", "1", *map(str, arguments)], check=True, capture_output=True)

    return run


@pytest.fixture(scope="session")
def cohort() -> SimulatedCohort:
    """203 people of both sexes with missing and wrong genotypes, on an autosome, X, Y and the mitochondrion."""
    made = simulate_cohort(203, 400, seed=8, model=GenotypeModel(missing=0.05, contigs=("1", "X", "Y", "MT")))
    draws = np.random.default_rng(8)
    wrong = draws.random(made.genotypes.shape) < 0.02
    made.genotypes[wrong] = draws.choice([0, 1, 2], wrong.sum()).astype(np.int8)
    return made


@pytest.fixture(scope="session")
def cohort_bed(cohort: SimulatedCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as PLINK 1 files."""
    return write_bed(tmp_path_factory.mktemp("cohort") / "cohort", cohort.samples, cohort.variants, [cohort.genotypes])
