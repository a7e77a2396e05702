"""Which columns stay: against numpy's correlations, and where the truth is simulated."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.features import FeatureMatrix, SelectionSection, select_columns
from careloop.features import selection as selection_module
from careloop.features.selection import uncorrelated


def matrix_of(values: np.ndarray, names: list[str] | None = None) -> FeatureMatrix:
    when = pl.lit(datetime(2020, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    keys = pl.DataFrame({"subject_id": range(len(values))}).with_columns(prediction_time=when)
    names = [f"x{i}" for i in range(values.shape[1])] if names is None else names
    return FeatureMatrix(keys, tuple(names), values.astype(np.float32))


def test_of_a_correlated_pair_the_one_with_more_missing_goes_then_the_later_name() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 500))
    holes = np.where(random.random(500) < 0.02, np.nan, a)
    values = np.column_stack([holes, a, -2 * a + 0.01 * b, b])
    selection = SelectionSection(correlation_above=0.9)
    kept = select_columns(matrix_of(values, ["a_holes", "z", "y", "b"]), np.zeros(500), None, selection)
    assert kept == ("y", "b")


def test_no_kept_pair_is_above_the_threshold_and_every_dropped_column_has_a_kept_rival(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection_module, "BLOCK", 7)  # several blocks, the last one short
    random = np.random.default_rng(1)
    values = random.normal(size=(300, 5)) @ random.normal(size=(5, 40)) + 0.3 * random.normal(size=(300, 40))
    kept = uncorrelated(values, [f"{i:02d}" for i in range(40)], 0.8)
    alike = np.abs(np.corrcoef(values.T)) > 0.8
    assert 1 < len(kept) < 40
    assert alike[np.ix_(kept, kept)].sum() == len(kept)
    for column in set(range(40)) - set(kept):
        assert any(alike[column, earlier] for earlier in kept if earlier < column)


def test_columns_missing_in_the_same_rows_are_compared_on_the_known_rows() -> None:
    random = np.random.default_rng(2)
    a = random.normal(5, 1, 400)
    b = a + 0.3 * random.normal(size=400)
    a[:200] = b[:200] = np.nan
    r = np.corrcoef(a[200:], b[200:])[0, 1]
    assert len(uncorrelated(np.column_stack([a, b]), ["a", "b"], r - 1e-6)) == 1
    assert len(uncorrelated(np.column_stack([a, b]), ["a", "b"], r + 1e-6)) == 2


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("by", ["gain", "permutation"])
def test_the_columns_that_made_the_outcome_are_kept(by: str, layout: str) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(1500, 12)) * (random.random((1500, 12)) < 0.7)
    probability = 1 / (1 + np.exp(-3 * values[:, 7] + 3 * values[:, 2]))
    y = random.random(1500) < probability
    matrix = matrix_of(values)
    if layout == "sparse":
        matrix = FeatureMatrix(matrix.keys, matrix.names, csr_matrix(matrix.values))
    selection = SelectionSection.model_validate({"keep_top": 2, "by": by})
    kept = select_columns(matrix, y, np.ones(1500), selection)
    assert kept == ("x2", "x7")
    assert kept == select_columns(matrix, y, None, selection)


def test_correlation_of_csr_equals_dense() -> None:
    random = np.random.default_rng(4)
    values = np.where(random.random((200, 30)) < 0.8, 0, random.poisson(2, (200, 30))).astype(np.float32)
    values[:, 15:] = values[:, :15] + (random.random((200, 15)) < 0.02)
    values[random.random((200, 30)) < 0.05] = np.nan
    names = [f"{i:02d}" for i in range(30)]
    dense, sparse = (uncorrelated(v, names, 0.7).tolist() for v in (values, csr_matrix(values)))
    assert dense == sparse
    assert 15 <= len(dense) < 30


def test_without_rules_all_stay_and_labels_must_fit() -> None:
    matrix = matrix_of(np.eye(4))
    assert select_columns(matrix, np.zeros(4), None, SelectionSection()) == matrix.names
    with pytest.raises(InputError, match=r"one label a row, 4, got shape \(3,\)"):
        select_columns(matrix, np.zeros(3), None, SelectionSection())
    with pytest.raises(InputError, match="two classes"):
        select_columns(matrix, np.zeros(4), None, SelectionSection(keep_top=math.comb(2, 1)))
