"""Effects, errors and P values are plink2's, with missing genotypes and covariates, and those of their definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.optimize import minimize
from scipy.stats import chi2

from careloop import InputError
from careloop.genome.association.associate import AssociationOptions, associate, genomic_inflation
from careloop.genome.association.phenotypes import PhenotypeRequest, Phenotypes, read_phenotypes
from careloop.genome.association.summary_statistics import read_summary_statistics
from careloop.genome.genotypes.in_memory import InMemoryGenotypes

PLINK_DIGITS = 1e-5  # plink2 prints six digits


def phenotypes(cohort: Any, trait: str) -> Phenotypes:
    tables = (cohort.folder / "covariates.txt",)
    request = PhenotypeRequest(trait=trait, covariate_tables=tables)
    return read_phenotypes(cohort.folder / "traits.txt", cohort.source.samples, request=request)


def numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    return table[name].replace("NA", "nan").cast(pl.Float64).to_numpy()


def test_linear_is_plink2s_on_every_kind_of_chromosome(cohort: Any) -> None:
    expected = cohort.plink2("--pheno-name", "QT")
    found = associate(cohort.source, phenotypes(cohort, "QT"))
    for ours, theirs in {"beta": "BETA", "standard_error": "SE", "p_value": "P", "n": "OBS_CT"}.items():
        np.testing.assert_allclose(
            found.table[ours].cast(pl.Float64).fill_null(np.nan), numbers(expected, theirs), PLINK_DIGITS
        )
    assert found.tested > 220
    assert found.errors["CONST_ALLELE"] >= 2
    assert found.errors["TOO_FEW"] == 1
    known = np.isfinite(numbers(expected, "A1_FREQ"))
    frequency = found.table["effect_allele_frequency"].fill_null(np.nan).to_numpy()
    np.testing.assert_allclose(frequency[known], numbers(expected, "A1_FREQ")[known], PLINK_DIGITS)


def test_logistic_with_firth_fallback_is_plink2s(cohort: Any) -> None:
    """plink2's standard errors are those of a step before its last, and its Firth fits stop early, as shown below."""
    expected = cohort.plink2("--pheno-name", "BT")
    found = associate(cohort.source, phenotypes(cohort, "BT"))
    firth = (expected["FIRTH?"] == "Y").to_numpy()
    finished = (expected["ERRCODE"] != "UNFINISHED").to_numpy()
    assert firth.sum() > 5
    assert ((found.table["test"] == "ADD-FIRTH").to_numpy() == firth).all()
    beta, error = np.log(numbers(expected, "OR")), numbers(expected, "LOG(OR)_SE")
    for kept, digits in ((~firth, 3 * PLINK_DIGITS), (firth & finished, 5e-3)):
        ours = found.table.filter(pl.Series(kept))
        off = np.abs(ours["beta"].fill_null(np.nan).to_numpy() - beta[kept]) / error[kept]
        assert np.nanmax(off) < digits
        np.testing.assert_allclose(ours["standard_error"].fill_null(np.nan), error[kept], 5e-3)
    assert (found.cases, found.people) == (int(cohort.case[:-1].sum()), 399)


def test_logistic_is_the_maximum_in_double_precision(cohort: Any) -> None:
    found = associate(cohort.source, phenotypes(cohort, "BT")).table
    plain = np.flatnonzero(((found["test"] == "ADD") & found["error"].is_null()).to_numpy())
    for row in plain[plain < 160]:
        x, y = predictors(cohort, row)
        at = np.zeros(x.shape[1])
        for _ in range(12):
            p = 1 / (1 + np.exp(-x @ at))
            covariance = np.linalg.inv(x.T @ ((p * (1 - p))[:, None] * x))
            at += covariance @ x.T @ (y - p)
        error = np.sqrt(covariance[-1, -1])
        assert found["beta"][int(row)] == pytest.approx(at[-1], abs=1e-5 * error)
        assert found["standard_error"][int(row)] == pytest.approx(error, rel=1e-5)


def predictors(cohort: Any, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Intercept, covariates and genotype of those who have them, and who is a case."""
    scaled = (cohort.covariates - cohort.covariates.mean(axis=0)) / cohort.covariates.std(axis=0)
    known = (cohort.genotypes[row] >= 0) & (np.arange(400) < 399)
    return np.column_stack([np.ones(400), scaled, cohort.genotypes[row]])[known], cohort.case[known].astype(float)


def penalised(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients that maximise the likelihood times the root of the information's determinant (Firth 1993)."""

    def loss(at: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-x @ at))
        information = x.T @ ((p * (1 - p))[:, None] * x)
        return float(np.logaddexp(0, x @ at).sum() - y @ (x @ at) - np.linalg.slogdet(information)[1] / 2)

    first = minimize(loss, np.zeros(x.shape[1]), method="BFGS").x
    return minimize(loss, first, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 9000}).x


def test_firth_maximises_the_penalised_likelihood(cohort: Any) -> None:
    found = associate(cohort.source, phenotypes(cohort, "BT"), options=AssociationOptions(firth="always")).table
    for row in (1, 6):  # a common variant, and one that no control has
        assert found["beta"][row] == pytest.approx(penalised(*predictors(cohort, row))[-1], abs=2e-5)
    assert set(found.filter(pl.col("error").is_null())["test"]) == {"ADD-FIRTH"}


def test_separated_variants_have_no_estimate_without_firth(cohort: Any) -> None:
    found = associate(cohort.source, phenotypes(cohort, "BT"), options=AssociationOptions(firth="never")).table
    assert found["error"][6] == "SEPARATION"
    assert found["beta"][6] is None


def test_blocks_threads_and_dosages_do_not_change_a_number(cohort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread over the whole against many blocks in four threads, calls against the same as dosages."""
    dosages = cohort.source.dosages(slice(None))
    other = InMemoryGenotypes(cohort.source.samples, cohort.source.variants, dosages)
    for trait, digits in (("QT", 1e-9), ("BT", 1e-4)):
        whole = associate(cohort.source, phenotypes(cohort, trait), options=AssociationOptions(threads=1)).table
        monkeypatch.setattr("careloop.genome.association.associate._BLOCK_VALUES", 4_000)
        parts = associate(other, phenotypes(cohort, trait), options=AssociationOptions(threads=4)).table
        monkeypatch.undo()
        assert_frame_equal(whole, parts, abs_tol=digits, rel_tol=digits)


def test_variants_asked_for_are_tested_in_order(cohort: Any) -> None:
    rows = np.array([1, 2, 170, 239])
    whole = associate(cohort.source, phenotypes(cohort, "QT")).table
    some = associate(cohort.source, phenotypes(cohort, "QT"), options=AssociationOptions(variants=rows)).table
    assert_frame_equal(some, whole[rows])
    with pytest.raises(InputError, match="no variant is left"):
        associate(cohort.source, phenotypes(cohort, "QT"), options=AssociationOptions(variants=rows[:0]))


def test_what_is_written_is_read_as_the_same_table(cohort: Any, tmp_path: Path) -> None:
    found = associate(cohort.source, phenotypes(cohort, "BT"), out=tmp_path / "out.tsv.gz")
    read = read_summary_statistics(tmp_path / "out.tsv.gz")
    assert_frame_equal(read.table, found.table.filter(pl.col("beta").is_not_null()))
    assert read.rejects.height == sum(found.errors.values())
    assert read.rejects["reason"].str.starts_with("no estimate").all()


def test_nothing_is_left_of_a_failed_run(cohort: Any, tmp_path: Path) -> None:
    class Broken(InMemoryGenotypes):
        def genotypes(self, variants: object, samples: object = None) -> np.ndarray:
            raise InputError("the file ends early")

    broken = Broken(cohort.source.samples, cohort.source.variants, cohort.genotypes)
    with pytest.raises(InputError, match="ends early"):
        associate(broken, phenotypes(cohort, "QT"), out=tmp_path / "out.tsv")
    assert not list(tmp_path.iterdir())


def test_a_covariate_that_adds_nothing_is_named(cohort: Any) -> None:
    given = phenotypes(cohort, "QT")
    twice = {**given.covariates, "AGE2": 2 * given.covariates["AGE"] + 1}
    with pytest.raises(InputError, match="AGE2 follows"):
        associate(cohort.source, replace(given, covariates=twice))
    with pytest.raises(InputError, match="ONE is constant"):
        associate(cohort.source, replace(given, covariates={"ONE": np.ones(399)}))
    with pytest.raises(InputError, match="more people than covariates"):
        associate(cohort.source, Phenotypes(np.arange(2), np.array([0.0, 1.0]), "quantitative"))
    with pytest.raises(InputError, match="one value"):
        associate(cohort.source, Phenotypes(np.arange(20), np.zeros(20), "binary"))


def test_covariates_that_give_the_trait_away_are_refused(cohort: Any) -> None:
    given = phenotypes(cohort, "BT")
    with pytest.raises(InputError, match="covariates alone separate"):
        associate(cohort.source, replace(given, covariates={"x": given.trait + 0.1 * given.covariates["PC1"] ** 0}))


def test_inflation_is_one_under_no_association() -> None:
    uniform = (np.arange(1, 100_000) - 0.5) / 99_999
    assert genomic_inflation(uniform) == pytest.approx(1, abs=1e-4)
    assert genomic_inflation(chi2.sf(1.3 * chi2.isf(uniform, 1), 1)) == pytest.approx(1.3, abs=1e-3)
    assert genomic_inflation(np.array([])) is None
