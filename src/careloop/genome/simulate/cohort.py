"""A simulated cohort: genotypes of known frequencies, correlation and populations, and traits of known heritability.

For tests and benchmarks. Frequencies of populations follow Balding and Nichols, Genetica 1995;96:3; diseases the
liability threshold model (Falconer, Ann Hum Genet 1965;29:51).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError

NOT_CALLED = -9  # as genotypes.source has it, which is a room behind this one
_AT_ONCE = 500  # variants made at once
_SPACING = 1_000  # bases between two variants
_ALLELES = np.array([("A", "C"), ("A", "G"), ("C", "A"), ("C", "T"), ("G", "A"), ("G", "T"), ("T", "C"), ("T", "G")])


@dataclass(frozen=True)
class GenotypeModel:
    """How genotypes are made.

    `frequencies`: lowest and highest of `alt`, uniform between. `correlation`: between the latent normal values of a
    haplotype's neighbouring variants of a contig (a Gaussian copula, so that it falls off with distance); 0 for
    independent variants. `populations` of equal size, `fst` apart. `missing`: the share of genotypes not called.
    `contigs` have equal parts of the variants; on `X` males have 0 or 2 copies.
    """

    frequencies: tuple[float, float] = (0.01, 0.5)
    correlation: float = 0.0
    populations: int = 1
    fst: float = 0.0
    missing: float = 0.0
    contigs: tuple[str, ...] = ("1",)

    def __post_init__(self) -> None:
        low, high = self.frequencies
        if not (0 <= low <= high <= 1 and 0 <= self.correlation < 1 and 0 <= self.fst < 1 and 0 <= self.missing < 1):
            raise InputError("a simulated cohort needs frequencies, correlation, fst and missing from 0 to below 1")
        if self.populations < 1 or not self.contigs:
            raise InputError("a simulated cohort needs a population and a contig at least")


@dataclass(frozen=True)
class TraitModel:
    """How traits come about: shares of the variance of the quantitative trait, and of liability to the disease.

    `heritability` is shared by `causal` variants (None: all) with normal effects on standardised genotypes. Each of
    `covariates` normal covariates explains an equal part of `covariate_share`; `population_share` is a shift between
    populations that is not genetic. The rest is noise. The disease has those whose liability is among the highest
    `prevalence`.
    """

    heritability: float = 0.5
    causal: int | None = None
    covariates: int = 2
    covariate_share: float = 0.1
    population_share: float = 0.0
    prevalence: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.heritability, self.covariate_share, self.population_share)
        if min(shares) < 0 or sum(shares) > 1 or not 0 < self.prevalence < 1:
            raise InputError("shares of a simulated trait's variance are 0 or above and at most 1 in all")


@dataclass(frozen=True)
class SimulatedCohort:
    """Simulated people. Tables have the columns of SAMPLES and VARIANTS of `genotypes.source`.

    `genotypes`: (variants, samples) copies of `alt`, `NOT_CALLED` where missing. `phenotypes`: sample_id, trait, case
    (0 or 1), covariate_1 ... `effects`: (variants,) of one copy of `alt` on the trait. `genetic_values`: (samples,) the
    genetic part of the trait, mean 0, of the genotypes before any was missing. `population`: (samples,) from 0.
    """

    samples: pl.DataFrame
    variants: pl.DataFrame
    genotypes: NDArray[np.int8]
    phenotypes: pl.DataFrame
    effects: NDArray[np.float64]
    genetic_values: NDArray[np.float64]
    population: NDArray[np.int64]
    frequencies: NDArray[np.float64] = field(repr=False)  # (variants, populations) that genotypes were drawn with


def simulate_cohort(
    samples: int,
    variants: int,
    *,
    seed: int,
    model: GenotypeModel = GenotypeModel(),
    trait: TraitModel = TraitModel(),
) -> SimulatedCohort:
    """Simulate people with genotypes and traits; the same numbers for the same seed.

    Within the sample the trait's genetic part has exactly the share `heritability` of the expected variance 1.

    Raises:
        InputError: fewer samples or variants than populations or contigs, or more causal variants than variants.
    """
    if samples < model.populations or variants < max(len(model.contigs), trait.causal or 1):
        raise InputError(f"a simulated cohort of this model needs more than {samples} samples and {variants} variants")
    draws = np.random.default_rng(seed)
    table = _variants(variants, model, draws)
    population = np.arange(samples) % model.populations
    male = draws.random(samples) < 0.5
    frequencies = _frequencies(variants, model, draws)
    genotypes = np.empty((variants, samples), np.int8)
    on_x = (table["contig"] == "X").to_numpy()
    for rows, block in _genotype_blocks(table["contig"], (frequencies, population), model, draws):
        one_copy = on_x[rows, None] & male
        block[one_copy, 1] = block[one_copy, 0]
        genotypes[rows] = block.sum(axis=2, dtype=np.int8)
    effects, genetic = _genetic_values(genotypes, trait, draws)
    people = _samples(samples, male)
    phenotypes = _phenotypes(people["sample_id"], genetic, population, trait, draws)
    if model.missing:
        for at in range(0, variants, _AT_ONCE):
            part = genotypes[at : at + _AT_ONCE]
            part[draws.random(part.shape, np.float32) < model.missing] = NOT_CALLED
    return SimulatedCohort(people, table, genotypes, phenotypes, effects, genetic, population, frequencies)


def _variants(variants: int, model: GenotypeModel, draws: np.random.Generator) -> pl.DataFrame:
    numbers = np.arange(variants)
    contig = numbers * len(model.contigs) // variants
    first = np.searchsorted(contig, contig)
    alleles = _ALLELES[draws.integers(0, len(_ALLELES), variants)]
    return pl.DataFrame(
        {
            "contig": np.array(model.contigs)[contig].astype(str),
            "position": (numbers - first + 1) * _SPACING + draws.integers(0, _SPACING, variants),
            "variant_id": [f"rs{number + 1}" for number in numbers],
            "ref": alleles[:, 0],
            "alt": alleles[:, 1],
        }
    )


def _samples(samples: int, male: NDArray[np.bool_]) -> pl.DataFrame:
    nobody = pl.Series([None] * samples, dtype=pl.String())
    return pl.DataFrame(
        {
            "sample_id": [f"P{number + 1:06d}" for number in range(samples)],
            "family_id": nobody,
            "father_id": nobody,
            "mother_id": nobody,
            "sex": np.where(male, "male", "female"),
        }
    )


def _frequencies(variants: int, model: GenotypeModel, draws: np.random.Generator) -> NDArray[np.float64]:
    ancestral = draws.uniform(*model.frequencies, variants)
    if not model.fst or model.populations == 1:
        return np.repeat(ancestral[:, None], model.populations, axis=1)
    spread = (1 - model.fst) / model.fst
    shape = (model.populations, variants)
    return draws.beta(np.maximum(ancestral * spread, 1e-9), np.maximum((1 - ancestral) * spread, 1e-9), shape).T


def _genotype_blocks(
    contigs: pl.Series,
    drawn_with: tuple[NDArray[np.float64], NDArray[np.int64]],
    model: GenotypeModel,
    draws: np.random.Generator,
) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Yield rows and whether each haplotype has `alt`: (variants, samples, 2).

    `drawn_with` are the populations' frequencies (variants, populations) and whose population is which (samples,).
    """
    frequencies, population = drawn_with
    variants, samples = len(frequencies), population.size
    latent = np.zeros((samples, 2), np.float32)
    for at in range(0, variants, _AT_ONCE):
        rows = slice(at, min(at + _AT_ONCE, variants))
        shape = (rows.stop - at, samples, 2)
        if not model.correlation:
            expected = frequencies[rows].astype(np.float32)[:, population]
            yield rows, draws.random(shape, np.float32) < expected[:, :, None]
            continue
        values = draws.standard_normal(shape, np.float32)
        for row in range(len(values)):
            number = at + row
            if number and contigs[number] == contigs[number - 1]:
                values[row] = model.correlation * latent + np.sqrt(1 - model.correlation**2) * values[row]
            latent = values[row]
        yield rows, values < _normal_quantiles(frequencies[rows])[:, population][:, :, None]


def _normal_quantiles(frequencies: NDArray[np.float64]) -> NDArray[np.float32]:
    from scipy.special import ndtri

    return ndtri(frequencies).astype(np.float32)


def _genetic_values(
    genotypes: NDArray[np.int8], trait: TraitModel, draws: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Effects of one copy, and each person's genetic value, whose variance is the heritability."""
    variants, samples = genotypes.shape
    causal = np.sort(draws.choice(variants, trait.causal or variants, replace=False))
    effects, genetic = np.zeros(variants), np.zeros(samples)
    for at in range(0, causal.size, _AT_ONCE):
        rows = causal[at : at + _AT_ONCE]
        copies = genotypes[rows].astype(np.float64)
        spread = copies.std(axis=1)
        effects[rows] = np.where(spread > 0, draws.standard_normal(rows.size) / np.where(spread > 0, spread, 1), 0)
        genetic += effects[rows] @ copies
    scale = np.sqrt(trait.heritability) / genetic.std() if genetic.std() > 0 else 0.0
    return effects * scale, (genetic - genetic.mean()) * scale


def _phenotypes(
    sample_ids: pl.Series,
    genetic: NDArray[np.float64],
    population: NDArray[np.int64],
    trait: TraitModel,
    draws: np.random.Generator,
) -> pl.DataFrame:
    covariates = draws.standard_normal((trait.covariates, genetic.size))
    share = trait.covariate_share if trait.covariates else 0.0
    shift = population - population.mean()
    shift = shift / shift.std() * np.sqrt(trait.population_share) if shift.std() > 0 else shift
    noise = draws.standard_normal(genetic.size) * np.sqrt(1 - trait.heritability - share - trait.population_share)
    value = genetic + np.sqrt(share / max(trait.covariates, 1)) * covariates.sum(axis=0) + shift + noise
    threshold = value.mean() + value.std() * NormalDist().inv_cdf(1 - trait.prevalence)
    columns = {f"covariate_{number + 1}": column for number, column in enumerate(covariates)}
    return pl.DataFrame(
        {"sample_id": sample_ids, "trait": value, "case": (value > threshold).astype(np.int8), **columns}
    )
