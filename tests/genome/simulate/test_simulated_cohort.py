"""Simulated cohorts are what was asked for: frequencies, correlation, populations, heritability, prevalence."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.genotypes.source import MISSING, SAMPLES, VARIANTS
from careloop.genome.simulate.cohort import NOT_CALLED, GenotypeModel, TraitModel, simulate_cohort


def test_tables_are_those_of_genotype_files() -> None:
    made = simulate_cohort(10, 20, seed=1)
    assert (made.samples.schema, made.variants.schema) == (SAMPLES, VARIANTS)
    assert NOT_CALLED == MISSING
    assert made.variants["variant_id"].is_unique().all()
    assert made.variants["position"].is_sorted()
    assert (made.variants["ref"] != made.variants["alt"]).all()


def test_the_same_for_the_same_seed() -> None:
    one, same, other = (simulate_cohort(20, 30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.genotypes, same.genotypes)
    assert one.phenotypes.equals(same.phenotypes)
    assert not np.array_equal(one.genotypes, other.genotypes)


def test_frequencies_missing_genotypes_and_independence() -> None:
    made = simulate_cohort(4000, 200, seed=2, model=GenotypeModel(frequencies=(0.1, 0.4), missing=0.1))
    called = np.ma.masked_equal(made.genotypes, NOT_CALLED)
    assert np.abs(called.mean(axis=1) / 2 - made.frequencies[:, 0]).max() < 5 * np.sqrt(0.25 / 7200)
    assert made.frequencies.min() >= 0.1
    assert made.frequencies.max() <= 0.4
    assert np.abs(np.ma.getmaskarray(called).mean() - 0.1) < 0.005
    assert np.abs(np.corrcoef(called.filled(0)) - np.eye(200)).max() < 0.1


def test_neighbours_are_correlated_within_a_contig() -> None:
    model = GenotypeModel(frequencies=(0.5, 0.5), correlation=0.9, contigs=("1", "2"))
    made = simulate_cohort(3000, 40, seed=3, model=model)
    found = np.corrcoef(made.genotypes)
    for distance in (1, 2, 5):
        # Of two halves of a normal the correlation is 2/pi arcsin of the latent one.
        expected = 2 / np.pi * np.arcsin(0.9**distance)
        assert found[5, 5 + distance] == pytest.approx(expected, abs=0.06)
    assert abs(found[19, 20]) < 0.08


def test_populations_are_fst_apart() -> None:
    made = simulate_cohort(300, 4000, seed=4, model=GenotypeModel(frequencies=(0.2, 0.8), populations=3, fst=0.1))
    one, two = made.frequencies[:, 0], made.frequencies[:, 1]
    # Hudson's Fst of true frequencies (Bhatia 2013, equation 10) is that of Balding and Nichols.
    fst = ((one - two) ** 2).mean() / (one * (1 - two) + two * (1 - one)).mean()
    assert fst == pytest.approx(0.1, abs=0.01)
    first = made.genotypes[:, made.population == 0].mean(axis=1) / 2
    assert np.corrcoef(first, one)[0, 1] > 0.98


def test_heritability_is_explained_by_the_effects() -> None:
    trait = TraitModel(heritability=0.4, causal=50, covariates=2, covariate_share=0.2, prevalence=0.1)
    made = simulate_cohort(3000, 300, seed=5, trait=trait)
    assert np.count_nonzero(made.effects) == 50
    genetic = made.effects @ made.genotypes
    np.testing.assert_allclose(genetic - genetic.mean(), made.genetic_values, atol=1e-9)
    assert made.genetic_values.var() == pytest.approx(0.4)
    value = made.phenotypes["trait"].to_numpy()
    assert value.var() == pytest.approx(1, abs=0.08)
    assert np.corrcoef(made.genetic_values, value)[0, 1] ** 2 == pytest.approx(0.4, abs=0.05)
    covariates = made.phenotypes["covariate_1", "covariate_2"].to_numpy().sum(axis=1)
    assert np.corrcoef(covariates, value)[0, 1] ** 2 == pytest.approx(0.2, abs=0.04)
    case = made.phenotypes["case"].to_numpy() == 1
    assert case.mean() == pytest.approx(0.1, abs=0.02)
    assert value[case].min() > value[~case].max()


def test_males_have_no_or_two_copies_on_x() -> None:
    made = simulate_cohort(200, 40, seed=6, model=GenotypeModel(contigs=("1", "X")))
    male = (made.samples["sex"] == "male").to_numpy()
    assert set(made.genotypes[20:, male].ravel().tolist()) == {0, 2}
    assert 1 in made.genotypes[20:, ~male]
    assert 1 in made.genotypes[:20, male]


def test_a_shift_between_populations_is_no_heritability() -> None:
    model, trait = GenotypeModel(populations=2, fst=0.05), TraitModel(heritability=0, population_share=0.3)
    made = simulate_cohort(2000, 50, seed=7, model=model, trait=trait)
    value = made.phenotypes["trait"].to_numpy()
    assert np.corrcoef(made.population, value)[0, 1] ** 2 == pytest.approx(0.3, abs=0.05)
    assert not made.genetic_values.any()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: GenotypeModel(frequencies=(0.6, 0.5)),
        lambda: GenotypeModel(fst=1),
        lambda: GenotypeModel(contigs=()),
        lambda: TraitModel(heritability=0.95),
        lambda: TraitModel(prevalence=0),
        lambda: simulate_cohort(10, 5, seed=1, trait=TraitModel(causal=6)),
        lambda: simulate_cohort(2, 50, seed=1, model=GenotypeModel(populations=3)),
    ],
)
def test_what_cannot_be_simulated_is_refused(ask: object) -> None:
    with pytest.raises(InputError):
        ask()  # type: ignore[operator]
