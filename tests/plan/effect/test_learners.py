"""Regressions that effects are adjusted by: the candidate that predicts better is taken."""

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
    predicted = fit_regression(x, label, kind="risk")(x)
    assert np.corrcoef(predicted, bent)[0, 1] > 0.9  # a line cannot: the truth is even in x0
    straight = 2 * x[:, 0] + random.normal(size=1500)
    assert np.abs(fit_regression(x, straight, kind="mean")(x) - 2 * x[:, 0]).mean() < 0.15


@pytest.mark.parametrize("target", [np.zeros(50), np.ones(50)])
def test_a_target_that_does_not_vary_is_predicted_as_it_is(target: np.ndarray) -> None:
    x = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_array_equal(fit_regression(x, target, kind="risk")(x), target)


def test_a_bent_line_follows_what_is_even_in_a_covariate_and_leaves_two_valued_ones_alone() -> None:
    random = np.random.default_rng(0)
    x = np.column_stack([random.normal(size=300), random.integers(0, 2, 300)])
    even = np.abs(x[:, 0]) + x[:, 1]
    assert np.corrcoef(learners.bent(learners._ridge)(x, even)(x), even)[0, 1] > 0.98
    assert np.corrcoef(learners._ridge(x, even)(x), even)[0, 1] < 0.8
    widths: list[int] = []

    def noted(rows: np.ndarray, target: np.ndarray) -> learners.Predictor:
        widths.append(rows.shape[1])
        return lambda asked: np.zeros(len(asked))

    learners.bent(noted)(x, even)
    assert widths == [3]


def test_inner_folds_are_even_and_share_out_what_is_rare() -> None:
    target = np.zeros(100)
    target[:9] = 1
    fold = inner_folds(target)
    assert min(target[fold == k].sum() for k in range(learners.INNER_FOLDS)) >= 2
    assert np.ptp(np.bincount(fold)) <= 1
