"""Rows are divided into subgroups by categories, 0/1 facts, numbers between borders, or single values."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.evaluate import SubgroupSection
from careloop.features import FeatureMatrix
from careloop.study.subgroups import subgroups

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
    assert list(found) == [feature]
    return found[feature].tolist()


def test_categories_are_groups_and_rows_in_none_are_others(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "SEX") == ["female", "male", "other", "male"]


def test_a_fact_divides_by_yes_and_no(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "SMOKER") == ["no", "yes", "no", "no"]
    assert groups(matrix, "DX//a|all|present") == ["yes", "no", "no", "yes"]


def test_borders_belong_to_the_upper_group_and_nan_is_missing(matrix: FeatureMatrix) -> None:
    assert groups(matrix, "age_years", [40, 65]) == ["below 40", "40 to below 65", "65 and above", "missing"]


def test_single_values_are_groups_and_nan_is_missing_in_the_evaluation(matrix: FeatureMatrix) -> None:
    from careloop.evaluate.subgroups import _name

    assert [_name(value) for value in groups(matrix, "STAGE")] == ["1", "2", "missing", "2"]


def test_an_unknown_feature_says_where_the_names_are(matrix: FeatureMatrix) -> None:
    with pytest.raises(InputError, match=r"evaluation\.subgroups: sex is no feature.*features\.parquet has the names"):
        groups(matrix, "sex")


def test_subgroups_of_a_run_add_up(actg175: object) -> None:
    import json

    evaluation = json.loads((actg175.run / "evaluation.json").read_text())  # type: ignore[attr-defined]
    for model in evaluation["models"].values():
        for variable, names in {"GENDER//M": {"yes", "no"}, "age_years": {"below 35", "35 and above"}}.items():
            parts = [part for part in model["subgroups"] if part["variable"] == variable]
            assert {part["group"] for part in parts} == names
            for count in ("n", "events", "censored"):
                assert sum(part["rows"][count] for part in parts) == evaluation["outcome"]["rows"][count]
