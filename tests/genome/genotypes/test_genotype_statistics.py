"""Counts, frequencies, missing shares and Hardy-Weinberg p: plink2's, and exact arithmetic over all tables."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import factorial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.quality.hardy_weinberg import hardy_weinberg_p
from careloop.genome.genotypes.quality.statistics import VariantStatistics, variant_statistics
from careloop.genome.simulate.cohort import SimulatedCohort


def by_arithmetic(hom_ref: int, het: int, hom_alt: int) -> float:
    """The exact test by whole numbers: Wigginton 2005, equation 1, over all tables of the same alleles."""
    samples, reference = hom_ref + het + hom_alt, 2 * hom_ref + het

    def probability(hets: int) -> Fraction:
        one, two = (reference - hets) // 2, (2 * samples - reference - hets) // 2
        return Fraction(2**hets, factorial(one) * factorial(hets) * factorial(two))

    terms = [probability(hets) for hets in range(reference % 2, min(reference, 2 * samples - reference) + 1, 2)]
    observed = probability(het)
    return float(sum(term for term in terms if term <= observed) / sum(terms))


COUNT = st.integers(0, 60)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COUNT, COUNT, COUNT), min_size=1, max_size=5))
def test_hardy_weinberg_by_exact_arithmetic(tables: list[tuple[int, int, int]]) -> None:
    found = hardy_weinberg_p(*np.array(tables).T)
    np.testing.assert_allclose(found, [by_arithmetic(*table) for table in tables], rtol=1e-9)


def test_hardy_weinberg_far_from_proportions_and_of_nobody() -> None:
    counts = np.array([[0, 0, 0], [5000, 0, 5000], [300_000, 0, 200], [0, 40, 0]]).T
    p = hardy_weinberg_p(*counts)
    assert p[0] == 1
    assert p[1] == 0
    assert 0 < p[2] < 1e-300 or p[2] == 0
    assert p[3] == pytest.approx(by_arithmetic(0, 40, 0), rel=1e-9)


def table(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, separator="\t", null_values="nan", infer_schema_length=None)


@pytest.fixture(scope="module")
def theirs(cohort_bed: Path, tmp_path_factory: pytest.TempPathFactory, plink2: Callable[..., None]) -> Path:
    out = tmp_path_factory.mktemp("theirs") / "theirs"
    plink2("--bfile", cohort_bed.with_suffix(""), "--freq", "--missing", "--hardy", "--geno-counts", "--out", out)
    return out


def test_frequencies_counts_and_missing_are_plink2s(cohort_bed: Path, theirs: Path) -> None:
    found = variant_statistics(open_genotypes(cohort_bed))
    frequencies, missing = table(theirs.with_suffix(".afreq")), table(theirs.with_suffix(".vmiss"))
    np.testing.assert_allclose(found.frequency, frequencies["ALT_FREQS"], rtol=1e-5)
    np.testing.assert_array_equal(found.alleles, frequencies["OBS_CT"])
    np.testing.assert_array_equal(found.missing, missing["MISSING_CT"])
    np.testing.assert_allclose(found.missing_share, missing["F_MISS"], rtol=1e-5)
    counts = table(theirs.with_suffix(".gcount"))
    np.testing.assert_array_equal(found.diploid[:, 0], counts["HOM_REF_CT"])
    np.testing.assert_array_equal(found.haploid[:, 2], counts["HAP_ALT_CTS"])


def test_hardy_weinberg_is_plink2s(cohort_bed: Path, theirs: Path) -> None:
    found = variant_statistics(open_genotypes(cohort_bed))
    hardy = table(theirs.with_suffix(".hardy"))
    np.testing.assert_allclose(found.hardy_weinberg_p[:100], hardy["P"], rtol=1e-5)
    assert np.isnan(found.hardy_weinberg_p[200:]).all()  # nobody has two copies of Y or the mitochondrion
    female = table(theirs.with_suffix(".hardy.x"))
    columns = ["FEMALE_HOM_A1_CT", "FEMALE_HET_A1_CT", "FEMALE_TWO_AX_CT"]
    expected = [by_arithmetic(*row) for row in female.select(columns).rows()]
    np.testing.assert_allclose(found.hardy_weinberg_p[100:200], expected, rtol=1e-9)


def test_some_variants_and_people_only(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    samples, rows = np.arange(150, 20, -3), np.arange(5, 390, 7)
    people = cohort.samples[samples]
    part = InMemoryGenotypes(people, cohort.variants[rows], cohort.genotypes[np.ix_(rows, samples)])
    found = variant_statistics(open_genotypes(cohort_bed), variants=rows, samples=samples)
    same(found, variant_statistics(part))
    twice = np.concatenate([samples, samples])
    doubled = variant_statistics(open_genotypes(cohort_bed), variants=rows, samples=twice)
    np.testing.assert_array_equal(doubled.diploid, 2 * found.diploid)


def test_packed_bytes_and_unpacked_genotypes_are_counted_alike(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    in_memory = InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)
    same(variant_statistics(open_genotypes(cohort_bed)), variant_statistics(in_memory))


def same(one: VariantStatistics, other: VariantStatistics) -> None:
    for name in ("diploid", "haploid", "alleles", "frequency", "hardy_weinberg_p"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_frequencies_are_those_of_dosages(cohort: SimulatedCohort) -> None:
    dosages = np.random.default_rng(1).random((30, 203)).astype(np.float32) * 2
    dosages[:, ::9] = np.nan
    found = variant_statistics(InMemoryGenotypes(cohort.samples, cohort.variants[:30], dosages))
    known = ~np.isnan(dosages)
    near = known & (np.abs(dosages - dosages.round()) <= 0.1)
    np.testing.assert_array_equal(found.missing, (~near).sum(axis=1))
    np.testing.assert_allclose(found.frequency, np.nanmean(dosages, axis=1) / 2, rtol=1e-6)
