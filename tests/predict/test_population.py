"""Abstention outside the training population: the rule, and reasons that a clinician can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from careloop.predict.population import outside_reasons


@pytest.fixture
def typical(world: Any) -> np.ndarray:
    """A training row without missing values."""
    values = world.matrix.values[:400]
    complete = values[~np.isnan(values[:, place(world, "LOINC//24467-3|all|last")])]
    return complete[[0]].copy()


def place(world: Any, name: str) -> int:
    return world.matrix.names.index(name)


def test_hardly_a_training_or_held_out_row_is_outside(world: Any) -> None:
    reasons = outside_reasons(world.package(), world.matrix.values)
    assert sum(reason is not None for reason in reasons) <= 0.02 * len(reasons)


def test_a_value_beyond_the_widened_range_is_outside_and_named(world: Any, typical: np.ndarray) -> None:
    age = place(world, "age_years")
    typical[0, age] = 81  # training ages end at 70 and the margin is a quarter of 50 years
    assert outside_reasons(world.package(), typical) == [None]
    typical[0, age] = 95
    (reason,) = outside_reasons(world.package(), typical)
    assert reason is not None
    assert reason.startswith("age is 95 years; training patients had 20.")
    assert reason.endswith("years") is False


def test_a_laboratory_value_is_named_with_its_unit(world: Any, typical: np.ndarray) -> None:
    typical[0, place(world, "LOINC//24467-3|all|last")] = 5000
    (reason,) = outside_reasons(world.package(), typical)
    assert reason is not None
    assert "CD4 count is 5000 /uL; training patients had 10" in reason


def test_at_most_three_features_are_named(world: Any, typical: np.ndarray) -> None:
    (reason,) = outside_reasons(world.package(), typical * 0 + 1e6)
    assert reason is not None
    assert reason.count(";") >= 3
    assert " more" in reason


def test_too_much_missing_is_outside(world: Any, typical: np.ndarray) -> None:
    (reason,) = outside_reasons(world.package(), np.full_like(typical, np.nan))
    assert reason is not None
    assert reason.startswith("100% of the features are missing")


def test_a_strange_combination_is_outside(world: Any) -> None:
    from dataclasses import replace

    package = world.package()
    near = replace(package, population=replace(package.population, distance_limit=0.1))
    reasons = outside_reasons(near, world.matrix.values[:20])
    assert any(reason and "the values together lie further" in reason for reason in reasons)


def test_sparse_rows_are_judged_the_same(world: Any) -> None:
    from scipy import sparse

    values = world.matrix.values[:50].copy()
    values[7, place(world, "age_years")] = 120
    assert outside_reasons(world.package(), sparse.csr_matrix(values)) == outside_reasons(world.package(), values)
