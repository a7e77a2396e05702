"""Covariates, folds, outcome models and propensities that effects are adjusted by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.plan.effect import nuisance
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import (
    MeasureModel,
    fit_design,
    fit_outcome_model,
    fit_propensity,
    subject_folds,
)


def test_design_fills_standardises_and_flags_missing_values_once_for_each_pattern() -> None:
    values = np.array([[1.0, 5, np.nan, np.nan], [2, 5, 1, 10], [3, 5, 3, 30], [100, 5, np.nan, np.nan]])
    design = fit_design(values, ("a", "constant", "b", "b_squared"))
    assert design.names == ("a", "b", "b_squared", "b missing")
    covariates = design.transform(values)
    np.testing.assert_array_equal(covariates[:, 3], [1, 0, 0, 1])
    assert np.abs(covariates[:, 0].mean()) < 1e-12
    assert np.abs(design.transform(np.full((1, 4), 1e9))).max() == nuisance.FARTHEST


def test_design_reads_sparse_features_as_dense_ones() -> None:
    values = np.array([[0.0, 1, 0], [2, 0, 0], [0, 0, 3], [1, 1, np.nan]])
    dense = fit_design(values, ("a", "b", "c"))
    sparse = fit_design(csr_matrix(values), ("a", "b", "c"))
    np.testing.assert_array_equal(sparse.transform(csr_matrix(values)), dense.transform(values))


def test_too_many_features_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuisance, "MOST_CELLS", 10)
    with pytest.raises(InputError, match=r"4 rows x 3 features; set features.selection.keep_top"):
        fit_design(np.zeros((4, 3)), ("a", "b", "c"))


@given(st.lists(st.integers(0, 40), min_size=30, max_size=200), st.integers(2, 5), st.integers(0, 5))
def test_folds_keep_subjects_together_and_even(subjects: list[int], folds: int, seed: int) -> None:
    ids = np.array(subjects)
    fold = subject_folds(ids, folds, seed)
    assert all(len(np.unique(fold[ids == s])) == 1 for s in np.unique(ids))
    sizes = [len(np.unique(ids[fold == k])) for k in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_a_measure_is_right_on_average_if_either_its_mean_or_the_chance_of_its_being_taken_is() -> None:
    random = np.random.default_rng(0)
    n = 200_000
    x = random.normal(size=(n, 1))
    probability = 1 / (1 + np.exp(-x[:, 0]))
    value = 3 + 2 * x[:, 0] + random.normal(size=n)
    goal = MeasureGoalData("score", np.where(random.random(n) < probability, value, np.nan), "higher")
    assert np.nanmean(goal.measured) > 3.5  # those measured differ
    wrong_mean = MeasureModel(lambda rows: np.zeros(len(rows)), lambda rows: 1 / (1 + np.exp(-rows[:, 0])))
    wrong_chance = MeasureModel(lambda rows: 3 + 2 * rows[:, 0], lambda rows: np.full(len(rows), 0.5))
    assert wrong_mean.complete(x, goal).mean() == pytest.approx(3, abs=0.1)
    assert wrong_chance.complete(x, goal).mean() == pytest.approx(3, abs=0.05)


def test_a_measure_that_was_always_taken_is_its_own_completed_value() -> None:
    random = np.random.default_rng(0)
    x, arm = random.normal(size=(120, 2)), np.arange(120) % 3 - 1
    goal = MeasureGoalData("score", random.normal(size=120), "higher")
    model = fit_outcome_model(x, arm, goal, 2)
    np.testing.assert_allclose(model.complete(x, arm, goal), np.where(arm < 0, np.nan, goal.measured))
    assert model.expected(x).shape == (120, 2)


def test_propensities_are_shares_when_randomised_and_follow_covariates_when_not() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 2))
    logits = np.column_stack([np.zeros(3000), x[:, 0], -x[:, 0]])
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    arm = np.array([random.choice(3, p=p) for p in truth])
    shares = fit_propensity(x, arm, 3, assignment="randomised")(x)
    np.testing.assert_allclose(shares, np.tile(np.bincount(arm) / 3000, (3000, 1)))
    estimated = fit_propensity(x, arm, 3, assignment="observed")(x)
    np.testing.assert_allclose(estimated.sum(axis=1), 1)
    assert np.abs(estimated - truth).mean() < 0.04
