"""Rows are divided into subgroups by categories, 0/1 facts, numbers between borders, or single values."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.evaluate import SubgroupSection
from careloop.features import FeatureMatrix
from careloop.train.subgroups import Grouping, combined, subgroups

NAMES = ("static|SEX=female", "static|SEX=male", "static|SMOKER", "static|STAGE", "age_years", "DX//a|all|present")
VALUES = [
    [1, 0, 0, 1, 39.9, 1],
    [0, 1, 1, 2, 40.0, 0],
    [0, 0, 0, np.nan, 65.0, 0],
    [0, 1, 0, 2, np.nan, 1],
]


@pytest.fixture
def matrix() -> FeatureMatrix:
    moment = pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * 4, dtype=pl.Datetime("us", "UTC"))
    keys = pl.DataFrame({"subject_id": [1, 2, 3, 4], "prediction_time": moment})
    return FeatureMatrix(keys, NAMES, np.array(VALUES, dtype=np.float32))


def groups(matrix: FeatureMatrix, feature: str, cut_points: list[float] | None = None) -> list[object]:
    found = subgroups([SubgroupSection(feature=feature, cut_points=cut_points or [])], matrix)
    ((grouping, names),) = found.items()
    assert grouping.feature == feature
    return names.tolist()


def test_categories_are_groups_and_rows_in_none_are_others(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "SEX") == ["female", "male", "other", "male"]


def test_a_fact_divides_by_yes_and_no(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "SMOKER") == ["no", "yes", "no", "no"]
    assert groups(matrix, "DX//a|all|present") == ["yes", "no", "no", "yes"]


def test_borders_belong_to_the_upper_group_and_nan_is_missing(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "age_years", [40, 65]) == ["below 40", "40 to below 65", "65 and above", "missing"]


def test_single_values_are_groups_and_nan_is_missing(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "STAGE") == ["1", "2", "missing", "2"]


@pytest.mark.parametrize("feature", ["SEX", "SMOKER", "STAGE", "age_years"])
def test_a_row_alone_has_the_group_that_it_has_among_all(matrix: FeatureMatrix, feature: str) -> None:
    """Row 0 has stage 1 and no other value: by itself it would look like a yes."""
    section = SubgroupSection(feature=feature, cut_points=[40] if feature == "age_years" else [])
    grouping = Grouping.of(section, matrix)
    together = grouping.names(matrix)
    for row in range(4):
        alone = grouping.names(matrix.filter(np.arange(4) == row))
        assert alone.tolist() == [together[row]]


def test_a_group_is_unknown_where_a_column_is_missing(matrix: FeatureMatrix) -> None:
    grouping = Grouping.of(SubgroupSection(feature="SEX"), matrix)
    assert grouping.names(matrix.select(NAMES[1:])) is None


def test_sparse_rows_have_the_same_groups(matrix: FeatureMatrix) -> None:
    from scipy.sparse import csr_matrix

    sparse = FeatureMatrix(matrix.keys, matrix.names, csr_matrix(matrix.values))
    assert groups(sparse, "SEX") == groups(matrix, "SEX")


def test_variables_are_combined_row_by_row() -> None:
    assert combined([np.array(["a", "b"]), np.array(["x", "y"])], 2) == [("a", "x"), ("b", "y")]


def test_an_unknown_feature_says_where_the_names_are(matrix: FeatureMatrix) -> None:
    with pytest.raises(InputError, match=r"evaluation\.subgroups: sex is no feature.*features\.parquet has the names"):
        groups(matrix, "sex")
