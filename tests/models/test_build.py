"""Estimators by name."""

from __future__ import annotations

import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from careloop import InputError
from careloop.models import ESTIMATORS, build


def test_names_and_parameters() -> None:
    on_matrices = {"logistic_regression", "lightgbm", "fully_connected", "cox", "boosted_hazard", "hazard_network"}
    assert set(ESTIMATORS) == on_matrices | {"gru", "temporal_cnn", "transformer"}
    assert isinstance(build("logistic_regression", C=0.5), LogisticRegression)
    assert build("cox", l2=0.5).l2 == 0.5
    forest = build("sklearn.ensemble.RandomForestClassifier", n_estimators=7)
    assert isinstance(forest, RandomForestClassifier)
    assert forest.n_estimators == 7


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_clone_keeps_parameters(name: str) -> None:
    assert clone(build(name)).get_params() == build(name).get_params()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("random_forest", {}, "'random_forest' is not known. Allowed are logistic_regression, lightgbm"),
        ("sklearn.ensemble.Forest", {}, "cannot be imported"),
        ("no_such_package.Model", {}, "cannot be imported"),
        ("os.path", {}, "not an estimator"),
        ("pathlib.Path", {}, "not an estimator"),
        ("cox", {"ridge": 1}, "'cox'.*ridge.*Its parameters are l2"),
        ("sklearn.ensemble.RandomForestClassifier", {"trees": 5}, "trees.*n_estimators"),
    ],
)
def test_bad_names_and_parameters(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(name, **parameters)
    assert "\n" not in str(error.value)
