"""The causal forest: residuals in closed form, what econml is given, and the error where it is missing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.plan.effect.doubly_robust import Scores
from careloop.plan.effect.individual.causal_forest import causal_forest, residuals


def scores_of(n: int, seed: int) -> tuple[np.ndarray, Scores, np.ndarray]:
    """Three options, the last with effect 1 + x0; outcome models and propensities as they truly are."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    propensity = random.dirichlet([3.0, 3.0, 3.0], n)
    arm = (random.random(n)[:, None] > propensity.cumsum(axis=1)).sum(axis=1)
    effect = 1.0 + x[:, 0]
    expected = np.column_stack([x[:, 1], x[:, 1] + 5.0, x[:, 1] + effect])
    completed = expected[np.arange(n), arm] + random.normal(size=n)
    arm[:10], completed[:10] = -1, np.nan  # rows of the population only
    return x, Scores(expected, expected, propensity, completed, arm, np.arange(n)), effect


def test_residuals_hold_only_the_pair_and_give_its_effect() -> None:
    """Outcome's residual = effect * treatment's residual + noise (Robinson 1988); a third option is left out."""
    _, scores, effect = scores_of(20_000, 0)
    left = residuals(scores, 2)
    assert set(scores.arm[left.rows]) == {0, 2}
    noise = left.outcome - effect[left.rows] * left.treatment
    assert noise.mean() == pytest.approx(0.0, abs=0.03)
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    assert left.treatment.mean() == pytest.approx(0.0, abs=0.02)
    assert np.corrcoef(noise, left.treatment)[0, 1] == pytest.approx(0.0, abs=0.03)


def test_without_econml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "econml", None)
    monkeypatch.setitem(sys.modules, "econml.grf", None)
    x, scores, _ = scores_of(100, 0)
    with pytest.raises(InputError, match=r"needs econml: pip install 'careloop\[causal\]'"):
        causal_forest(x, scores, 2)


class LineInsteadOfForest:
    """What stands for econml's forest: least squares of the moment that it solves, the effect being linear."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def fit(self, X: np.ndarray, T: np.ndarray, y: np.ndarray) -> None:
        design = np.column_stack([T, X * T[:, None], np.ones(len(T))])
        self.solution = np.linalg.lstsq(design, y, rcond=None)[0]

    def predict(self, X: np.ndarray) -> np.ndarray:
        return (self.solution[0] + X @ self.solution[1 : 1 + X.shape[1]])[:, None]


def test_the_forest_is_given_residuals_and_covariates(monkeypatch: pytest.MonkeyPatch) -> None:
    grf = ModuleType("econml.grf")
    grf.CausalForest = LineInsteadOfForest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "econml", ModuleType("econml"))
    monkeypatch.setitem(sys.modules, "econml.grf", grf)
    x, scores, effect = scores_of(5_000, 1)
    estimated = causal_forest(x, scores, 2)(x)
    assert estimated.shape == (5_000,)
    assert np.sqrt(((estimated - effect) ** 2).mean()) < 0.15
