"""Preprocessing against scikit-learn's own, dense against sparse, and the limits of the training population."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from careloop import InputError
from careloop.train.preprocess import DISTANCE_QUANTILE, dense_values, fit_population, fit_preprocessing


def names(p: int) -> tuple[str, ...]:
    return tuple(f"x{j}" for j in range(p))


@pytest.fixture
def values() -> np.ndarray:
    random = np.random.default_rng(0)
    table = random.normal(5, 2, size=(300, 4))
    table[random.random(300) < 0.2, 1] = np.nan
    table[random.random(300) < 0.1, 3] = np.nan
    return table


def test_standardised_equals_median_imputation_and_standard_scaling(values: np.ndarray) -> None:
    imputed = SimpleImputer(strategy="median", add_indicator=True).fit(values[:200])
    expected = imputed.transform(values)
    scaler = StandardScaler().fit(expected[:200, :4])
    found = fit_preprocessing(values[:200], names(4), "standardised").apply(values)
    np.testing.assert_allclose(found[:, :4], scaler.transform(expected[:, :4]), atol=1e-12)
    np.testing.assert_array_equal(found[:, 4:], expected[:, 4:])
    preprocessing = fit_preprocessing(values[:200], names(4), "standardised")
    np.testing.assert_allclose(preprocessing.reference()[0], found[:200].mean(axis=0), atol=1e-12)


def test_a_skewed_non_negative_column_enters_as_its_logarithm() -> None:
    skewed = np.exp(np.random.default_rng(0).normal(size=(500, 1)) * 1.5)
    found = fit_preprocessing(skewed, names(1), "standardised").apply(skewed)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(np.log1p(skewed)), atol=1e-12)
    assert not fit_preprocessing(-skewed, names(1), "standardised").logged.any()
    rare = np.zeros((500, 1))
    rare[:5] = 1.0
    assert not fit_preprocessing(rare, names(1), "standardised").logged.any()


def test_one_indicator_for_columns_that_are_missing_together(values: np.ndarray) -> None:
    doubled = np.hstack([values, values[:, [1]] * 2])
    preprocessing = fit_preprocessing(doubled, names(5), "standardised")
    assert preprocessing.indicators == (1, 3)
    np.testing.assert_array_equal(preprocessing.owners, [0, 1, 2, 3, 4, 1, 3])


def test_constant_and_never_seen_columns_stay_finite() -> None:
    values = np.column_stack([np.full(50, 3.0), np.full(50, np.nan), np.arange(50.0)])
    found = fit_preprocessing(values, names(3), "standardised").apply(np.array([[4.0, 9.0, np.nan]]))
    assert np.isfinite(found).all()


def test_scaled_sparse_equals_dense_arithmetic() -> None:
    random = np.random.default_rng(1)
    dense = random.poisson(0.2, size=(200, 6)).astype(np.float32)
    dense[random.random((200, 6)) < 0.05] = np.nan
    matrix = sparse.csr_matrix(dense)
    preprocessing = fit_preprocessing(matrix, names(6), "standardised")
    assert preprocessing.scheme == "scaled"
    filled = np.where(np.isnan(dense), np.nanmedian(dense, axis=0), dense)
    np.testing.assert_allclose(preprocessing.apply(matrix).toarray(), filled / filled.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(preprocessing.apply(dense).toarray(), preprocessing.apply(matrix).toarray())
    np.testing.assert_allclose(preprocessing.reference()[0], (filled / filled.std(axis=0)).mean(axis=0), rtol=1e-5)


def test_too_many_features_for_a_dense_model_are_refused() -> None:
    with pytest.raises(InputError, match="keep_top"):
        dense_values(sparse.csr_matrix((100_000, 100_000), dtype=np.float32))


def test_another_number_of_features_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="reads 4 features, got 3"):
        fit_preprocessing(values, names(4), "standardised").apply(values[:, :3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 5))
def test_population_is_the_same_dense_and_sparse_and_holds_its_own_rows(seed: int, n: int, p: int) -> None:
    values = np.random.default_rng(seed).poisson(1.0, size=(n, p)).astype(np.float32)
    dense, csr = fit_population(values), fit_population(sparse.csr_matrix(values))
    np.testing.assert_allclose(dense.mean, csr.mean)
    assert dense.distance_limit == pytest.approx(csr.distance_limit)
    low, high = dense.limits()
    assert ((values >= low) & (values <= high)).all()
    assert (dense.distance(values) <= dense.distance_limit + 1e-9).mean() >= DISTANCE_QUANTILE - 1 / n
