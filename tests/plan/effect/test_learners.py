"""Regressions that effects are adjusted by: the candidate that predicts better is taken, and weights count."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.plan.effect import learners
from careloop.plan.effect.learners import fit_regression, inner_folds


def test_trees_are_taken_only_where_they_predict_better() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(1500, 3))
    bent = np.where(np.abs(x[:, 0]) > 1, 0.9, 0.1)
    label = (random.random(1500) < bent).astype(float)
    predicted = fit_regression(x, label, np.ones(1500), kind="risk")(x)
    assert np.corrcoef(predicted, bent)[0, 1] > 0.9  # a line cannot: the truth is even in x0
    straight = 2 * x[:, 0] + random.normal(size=1500)
    assert np.abs(fit_regression(x, straight, np.ones(1500), kind="mean")(x) - 2 * x[:, 0]).mean() < 0.15


@pytest.mark.parametrize("target", [np.zeros(50), np.ones(50)])
def test_a_target_that_does_not_vary_is_predicted_as_it_is(target: np.ndarray) -> None:
    x = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_array_equal(fit_regression(x, target, np.ones(50), kind="risk")(x), target)


def test_weights_count_as_copies() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 2)), random.normal(size=60)
    weight = np.repeat([1.0, 3.0], 30)
    lines = learners._ridge(x, y, weight)(x)
    copies = np.repeat(np.arange(60), weight.astype(int))
    again = learners._ridge(x[copies], y[copies], np.ones(len(copies)))(x)
    assert np.corrcoef(lines, again)[0, 1] > 0.999


def test_inner_folds_are_even_and_share_out_what_is_rare() -> None:
    target = np.zeros(100)
    target[:9] = 1
    fold = inner_folds(target)
    assert min(target[fold == k].sum() for k in range(learners.INNER_FOLDS)) >= 2
    assert np.ptp(np.bincount(fold)) <= 1
