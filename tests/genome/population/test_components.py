"""Principal components beside plink2's and scikit-learn's, exact and iterated, and variants chosen for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.population import components as components_module
from careloop.genome.population.choice import ChoiceOptions, variants_for_components
from careloop.genome.population.components import principal_components
from careloop.genome.population.eigenvectors import leading_eigenvectors
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort

STRUCTURED = GenotypeModel(frequencies=(0.05, 0.5), populations=4, fst=0.05, contigs=("1", "2"))


def source_of(cohort: SimulatedCohort) -> InMemoryGenotypes:
    return InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)


@pytest.fixture(scope="module")
def cohort() -> SimulatedCohort:
    return simulate_cohort(200, 1500, seed=1, model=STRUCTURED)


@pytest.fixture(scope="module")
def with_gaps() -> SimulatedCohort:
    return simulate_cohort(200, 1500, seed=2, model=GenotypeModel((0.05, 0.5), 0, 4, 0.05, 0.03, ("1", "X")))


@pytest.mark.skipif(shutil.which("plink2") is None, reason="needs plink2")
def test_components_are_plink2s(with_gaps: SimulatedCohort, tmp_path: Path) -> None:
    bed = write_bed(tmp_path / "c", with_gaps.samples, with_gaps.variants, [with_gaps.genotypes])
    command = ["plink2", "--bfile", tmp_path / "c", "--pca", "5", "meanimpute", "--out", tmp_path / "c"]
    subprocess.run(command, check=True, capture_output=True)
    found = principal_components(open_genotypes(bed), count=5)
    vectors = pl.read_csv(tmp_path / "c.eigenvec", separator="\t").select(pl.selectors.starts_with("PC")).to_numpy()
    assert found.eigenvalues == pytest.approx(np.loadtxt(tmp_path / "c.eigenval"), rel=2e-5)
    assert np.abs((vectors * found.vectors).sum(axis=0)) == pytest.approx(np.ones(5), abs=1e-5)


def test_components_are_scikit_learns(cohort: SimulatedCohort) -> None:
    from sklearn.decomposition import PCA

    p = cohort.genotypes.mean(axis=1) / 2
    standard = (cohort.genotypes - 2 * p[:, None]) / np.sqrt(2 * p * (1 - p))[:, None]
    peer = PCA(5, svd_solver="full").fit(standard.T)
    found = principal_components(source_of(cohort), count=5)
    assert np.abs(found.scores) == pytest.approx(np.abs(peer.transform(standard.T)), abs=1e-3)
    assert found.singular_values == pytest.approx(peer.singular_values_, rel=1e-5)
    assert found.share == pytest.approx(peer.explained_variance_ratio_, rel=1e-5)
    assert np.linalg.norm(found.loadings, axis=0) == pytest.approx(np.ones(5), abs=1e-5)


def test_iterated_components_are_the_exact_ones(cohort: SimulatedCohort, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = principal_components(source_of(cohort), count=6)
    monkeypatch.setattr(components_module, "EXACT_PEOPLE", 10)
    iterated = principal_components(source_of(cohort), count=6, seed=5)
    assert iterated.rounds > exact.rounds
    assert iterated.eigenvalues == pytest.approx(exact.eigenvalues, rel=1e-5)
    assert (iterated.vectors * exact.vectors).sum(axis=0) == pytest.approx(np.ones(6), abs=1e-3)  # and the same signs


def test_components_separate_populations_and_few_suffice(cohort: SimulatedCohort) -> None:
    found = principal_components(source_of(cohort), count=6)
    explained = [
        sum(50 * found.vectors[cohort.population == number, axis].mean() ** 2 for number in range(4))
        for axis in range(6)
    ]
    assert min(explained[:3]) > 0.95
    assert max(explained[3:]) < 0.3
    assert found.table().columns == ["sample_id", *(f"PC{number}" for number in range(1, 7))]


def test_components_do_not_depend_on_which_allele_is_counted(cohort: SimulatedCohort) -> None:
    turned = InMemoryGenotypes(cohort.samples, cohort.variants, (2 - cohort.genotypes).astype(np.int8))
    one, other = principal_components(source_of(cohort), count=3), principal_components(turned, count=3)
    assert np.abs(one.vectors) == pytest.approx(np.abs(other.vectors), abs=1e-5)


@pytest.mark.parametrize("count", [0, 200])
def test_too_many_components_are_refused(cohort: SimulatedCohort, count: int) -> None:
    with pytest.raises(InputError, match="need more people and variants"):
        principal_components(source_of(cohort), count=count)


def test_genotypes_that_hardly_vary_are_refused(cohort: SimulatedCohort) -> None:
    same = np.zeros_like(cohort.genotypes)
    same[0, :5] = 1
    with pytest.raises(InputError, match="fewer than 3 directions"):
        principal_components(InMemoryGenotypes(cohort.samples, cohort.variants, same), count=3)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(size=st.integers(8, 60), rank=st.integers(2, 60), seed=st.integers(0, 100))
def test_leading_eigenvectors_are_lapacks(size: int, rank: int, seed: int) -> None:
    factors = np.random.default_rng(seed).standard_normal((size, rank))
    matrix = factors @ factors.T
    found = leading_eigenvectors(lambda columns: matrix @ columns.astype(np.float64), size, 2, seed=seed)
    assert found.values == pytest.approx(np.linalg.eigvalsh(matrix)[::-1][:2], rel=1e-3)
    assert found.vectors.T @ found.vectors == pytest.approx(np.eye(2), abs=1e-6)


def test_variants_are_chosen_and_what_is_left_out_is_counted() -> None:
    model = GenotypeModel(frequencies=(0.0, 0.5), correlation=0.7, missing=0.02, contigs=("1", "6", "X"))
    cohort = simulate_cohort(150, 900, seed=3, model=model)
    variants = cohort.variants.with_columns(
        pl.when(pl.col("contig") == "6").then(pl.col("position") + 24_800_000).otherwise("position").alias("position")
    )
    source = InMemoryGenotypes(cohort.samples, variants, cohort.genotypes)
    chosen = variants_for_components(source, ChoiceOptions(min_frequency=0.05, max_missing=0.03))
    assert chosen.left_out["not on an autosome"] == 300
    assert chosen.left_out["in long-range linkage disequilibrium"] == int(
        ((variants["contig"] == "6") & (variants["position"] >= 24_900_000)).sum()
    )
    assert {"rarer allele below the least frequency", "too often missing", "correlated with a neighbour"} <= set(
        chosen.left_out
    )
    assert chosen.rows.size + sum(chosen.left_out.values()) == 900
