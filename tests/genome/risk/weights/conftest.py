"""Simulated study people and their summary statistics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.genome.association.associate import associate
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, TraitModel, simulate_cohort

STUDY, TEST = np.arange(2_000), np.arange(2_000, 3_000)


@dataclass(frozen=True)
class Study:
    """A simulated cohort, its genotypes in memory, and statistics of the first 2,000 people in a file."""

    cohort: SimulatedCohort
    source: InMemoryGenotypes
    statistics: Path

    def part(self, rows: np.ndarray) -> InMemoryGenotypes:
        return InMemoryGenotypes(self.cohort.samples[rows], self.cohort.variants, self.cohort.genotypes[:, rows])


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """3,000 people, 1,000 linked variants on autosomes, 50 of them with an effect, heritability .5."""
    model = GenotypeModel(frequencies=(0.05, 0.5), correlation=0.8, contigs=("1", "2"))
    cohort = simulate_cohort(3_000, 1_000, seed=11, model=model, trait=TraitModel(causal=50, covariates=0))
    source = InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)
    made = Study(cohort, source, tmp_path_factory.mktemp("study") / "statistics.tsv")
    trait = cohort.phenotypes["trait"].to_numpy()[STUDY]
    associate(made.part(STUDY), Phenotypes(np.arange(STUDY.size), trait, "quantitative"), out=made.statistics)
    return made


@pytest.fixture(scope="session")
def swapped(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same statistics with every second variant told by its other allele."""
    table = pl.read_csv(study.statistics, separator="\t", infer_schema_length=None, null_values="#NA")
    turned = pl.int_range(pl.len()) % 2 == 1
    table = table.with_columns(
        effect_allele=pl.when(turned).then("other_allele").otherwise("effect_allele"),
        other_allele=pl.when(turned).then("effect_allele").otherwise("other_allele"),
        beta=pl.when(turned).then(-pl.col("beta")).otherwise("beta"),
        effect_allele_frequency=pl.when(turned)
        .then(1 - pl.col("effect_allele_frequency"))
        .otherwise("effect_allele_frequency"),
    )
    path = tmp_path_factory.mktemp("swapped") / "swapped.tsv"
    table.write_csv(path, separator="\t", null_value="#NA")
    return path
