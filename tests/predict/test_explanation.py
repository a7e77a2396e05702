"""Explanations: shares that add up, agree with the model's direction, and read well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.predict import explain

NETWORK = {"hidden": (8,), "max_epochs": 5}
EXACT = [
    ("logistic_regression", {}),
    ("cox", {}),
    ("lightgbm", {}),
    ("boosted_hazard", {"max_rounds": 30}),
    ("fully_connected", NETWORK),
    ("hazard_network", {**NETWORK, "members": 2}),
]


@pytest.mark.parametrize(("kind", "parameters"), EXACT, ids=[kind for kind, _ in EXACT])
def test_shares_add_up_to_the_distance_from_the_reference(kind: str, parameters: dict, world: Any) -> None:
    package = world.package(kind, **parameters)
    for row in range(5):
        found = explain(package, world.matrix, row)
        assert found.risk == pytest.approx(package.risk(world.matrix)[row], abs=1e-6)
        assert sum(f.share for f in found.factors) == pytest.approx(found.risk - found.reference_risk, abs=2e-3)
        shares = [abs(f.share) for f in found.factors]
        assert shares == sorted(shares, reverse=True)


def test_the_reference_of_a_linear_model_is_the_mean_of_its_training_rows(world: Any) -> None:
    package = world.package()
    estimator, inputs = package.estimators[0], package.preprocessing.apply(world.data.part("train").values)
    mean_risk = 1 / (1 + np.exp(-estimator.decision_function(inputs).mean()))
    expected = package.recalibration.apply(np.array([mean_risk]))[0]
    assert explain(package, world.matrix).reference_risk == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "parameters"), [*EXACT[:4], ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 30})]
)
def test_a_low_cd4_count_raises_the_risk_and_a_high_one_lowers_it(kind: str, parameters: dict, world: Any) -> None:
    cd4 = world.matrix.values[:, world.matrix.names.index("LOINC//24467-3|all|last")]
    package = world.package(kind, **parameters)
    low, high = (explain(package, world.matrix, int(pick(cd4))) for pick in (np.nanargmin, np.nanargmax))
    (lowest,) = (f for f in low.factors if f.code == "LOINC//24467-3")
    (highest,) = (f for f in high.factors if f.code == "LOINC//24467-3")
    assert lowest.share > 0.02
    assert highest.share < -0.02
    assert "CD4 count" in lowest.text
    assert "/uL (training median 3" in lowest.text
    assert lowest.text.endswith(f"raises risk, {lowest.share:+.2f}")


def test_the_text_reads_as_lines_and_warns(world: Any) -> None:
    text = explain(world.package(), world.matrix, 3).text
    lines = text.splitlines()
    assert lines[0].startswith("Risk of AIDS or death within 365 days: 0.")
    assert all(line.startswith("- ") for line in lines[1:-1])
    assert lines[-1].endswith("Not for clinical use.")
    assert "+0.00" not in text
    assert "-0.00" not in text


def test_another_estimator_is_explained_by_occlusion_and_says_so(world: Any) -> None:
    package = world.package("sklearn.ensemble.RandomForestClassifier", n_estimators=30)
    found = explain(package, world.matrix, 2)
    assert "occlusion" in found.method
    age = world.matrix.names.index("age_years")
    without = world.matrix.values[[2]].copy()
    without[0, age] = world.data.recipe.columns[age].median
    changed = type(world.matrix)(world.matrix.keys[[2]], world.matrix.names, without)
    (factor,) = (f for f in found.factors if f.feature == "age_years")
    assert factor.share == pytest.approx(found.risk - package.risk(changed)[0])


def test_a_missing_value_is_called_missing(world: Any) -> None:
    cd4 = world.matrix.values[:, world.matrix.names.index("LOINC//24467-3|all|last")]
    found = explain(world.package("lightgbm"), world.matrix, int(np.flatnonzero(np.isnan(cd4))[0]))
    (factor,) = (f for f in found.factors if f.code == "LOINC//24467-3")
    assert factor.value is None or "recorded" in factor.text


def test_no_such_row(world: Any) -> None:
    with pytest.raises(InputError, match="rows 0 to 599"):
        explain(world.package(), world.matrix, 600)
