"""A matrix keeps its cells through selection, filtering and parquet, dense or CSR."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.features import matrix as matrix_module
from careloop.features.matrix import stacked_dense, stacked_sparse

CELLS = np.array([[1, 0, np.nan], [0, 0, 0], [2.5, 3, -1]], dtype=np.float32)
KEYS = pl.DataFrame(
    {"subject_id": [3, 1, 2], "prediction_time": [datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 3)]},
    schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us", "UTC")},
)
NAMES = ("A|all|count", "B|30d|count", "C|30d|last")


def cells(matrix: FeatureMatrix) -> np.ndarray:
    return matrix.values.toarray() if matrix.is_sparse else matrix.values


@pytest.fixture(params=["dense", "sparse"])
def matrix(request: pytest.FixtureRequest) -> FeatureMatrix:
    return FeatureMatrix(KEYS, NAMES, CELLS if request.param == "dense" else csr_matrix(CELLS))


def test_parquet_round_trip(matrix: FeatureMatrix) -> None:
    file = BytesIO()
    matrix.to_frame().write_parquet(file)
    file.seek(0)
    again = FeatureMatrix.from_frame(pl.read_parquet(file))
    assert again.names == NAMES
    assert again.is_sparse == matrix.is_sparse
    assert again.values.dtype == np.float32
    assert again.keys.equals(KEYS)
    np.testing.assert_array_equal(cells(again), CELLS)


def test_select_orders_columns_and_narrow_csr_becomes_dense(matrix: FeatureMatrix) -> None:
    some = matrix.select([NAMES[2], NAMES[0]])
    assert not some.is_sparse
    np.testing.assert_array_equal(some.values, CELLS[:, [2, 0]])
    with pytest.raises(InputError, match="must be one of its names, got 'D'"):
        matrix.select(["D"])


def test_filter_keeps_rows_and_keys_together(matrix: FeatureMatrix) -> None:
    some = matrix.filter(KEYS["subject_id"] > 1)
    assert some.keys["subject_id"].to_list() == [3, 2]
    np.testing.assert_array_equal(cells(some), CELLS[[0, 2]])


def test_shapes_that_do_not_fit_and_frames_without_keys_are_refused() -> None:
    with pytest.raises(InputError, match=r"values must be \(keys, names\) = \(3, 2\), got \(3, 3\)"):
        FeatureMatrix(KEYS, NAMES[:2], CELLS)
    with pytest.raises(InputError, match="column 'prediction_time' is missing"):
        FeatureMatrix.from_frame(KEYS.select("subject_id"))


@pytest.mark.parametrize("kept", [[], [0], [0, 1, 3, 4, 5, 6, 8, 9], list(range(10))])
def test_narrowing_in_place_gives_what_selecting_gives(monkeypatch: pytest.MonkeyPatch, kept: list[int]) -> None:
    monkeypatch.setattr(matrix_module, "WIDE_COLUMNS", 3)
    monkeypatch.setattr(matrix_module, "NARROWED_AT_ONCE", 4)
    random = np.random.default_rng(3)
    values = np.where(random.random((11, 10)) < 0.4, random.normal(size=(11, 10)), 0).astype(np.float32)
    values[4] = 0
    keys = KEYS[[0] * 11]
    names = tuple("abcdefghij")
    for form in (np.array, csr_matrix):
        matrix = FeatureMatrix(keys, names, form(values))
        narrow = matrix.narrow([names[i] for i in kept])
        assert narrow.names == tuple(names[i] for i in kept)
        assert narrow.is_sparse == (form is csr_matrix and len(kept) > 3)
        np.testing.assert_array_equal(cells(narrow), values[:, kept])
        assert not narrow.is_sparse or narrow.values.has_canonical_format


def test_blocks_of_rows_in_any_order_make_one_matrix() -> None:
    random = np.random.default_rng(5)
    values = np.where(random.random((9, 4)) < 0.5, random.normal(size=(9, 4)), 0).astype(np.float32)
    parts = [np.array(rows) for rows in ([4, 0, 8], [7], [1, 2, 3, 5, 6])]
    dense = stacked_dense(((rows, values[rows]) for rows in parts), (9, 4))
    sparse = stacked_sparse(((rows, csr_matrix(values[rows])) for rows in parts), (9, 4))
    np.testing.assert_array_equal(dense, values)
    np.testing.assert_array_equal(sparse.toarray(), values)
    assert (sparse.dtype, sparse.nnz, sparse.has_canonical_format) == (np.float32, np.count_nonzero(values), True)
    assert stacked_sparse([], (0, 4)).shape == stacked_dense([], (0, 4)).shape == (0, 4)
