"""Contributions add up to the score, and agree with closed forms where there are any."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from careloop import InputError
from careloop.models import (
    BoostedHazard,
    CoxPH,
    FullyConnected,
    HazardNetwork,
    LightGBM,
    contributions,
    logistic_regression,
    survival_target,
)
from careloop.models.contributions import integrated_gradients


def test_linear_is_coefficient_times_distance_from_the_mean(rows) -> None:
    X, y = rows
    model = logistic_regression().fit(X, y)
    found = contributions(model, X[:9], background=X)
    assert found.values == pytest.approx(model.coef_ * (X[:9] - X.astype(float).mean(axis=0)), abs=1e-6)
    assert found.base + found.values.sum(axis=1) == pytest.approx(model.decision_function(X[:9]), abs=1e-5)


def test_cox_adds_up_to_the_log_hazard_ratio(rows) -> None:
    X, _ = rows
    time = np.random.default_rng(0).exponential(np.exp(-X[:, 0]))
    model = CoxPH().fit(X, survival_target(np.ones(len(X)), time))
    found = contributions(model, X)
    assert found.base + found.values.sum(axis=1) == pytest.approx(model.predict(X))
    assert np.ptp(found.values, axis=0).argmax() == 0


def test_lightgbm_adds_up_and_is_shapley_s_value(rows) -> None:
    """Shapley's value by its definition, with the trees' own cover-weighted expectations, for two columns."""
    X, y = rows
    model = LightGBM(n_estimators=3, num_leaves=4, colsample_bytree=1.0, subsample=1.0).fit(X[:, :2], y)
    found = contributions(model, X[:20, :2])
    assert found.base + found.values.sum(axis=1) == pytest.approx(model.decision_function(X[:20, :2]))
    trees = model.booster_.dump_model()["tree_info"]
    for row, values in zip(X[:5, :2], found.values[:5], strict=True):
        for column in (0, 1):
            other = {1 - column}
            gain = [
                expectation(trees, row, known | {column}) - expectation(trees, row, known) for known in (set(), other)
            ]
            assert values[column] == pytest.approx(np.mean(gain))


def expectation(trees: list, row: np.ndarray, known: set[int]) -> float:
    """Expected score where only the known columns are given."""

    def walk(node: dict) -> float:
        if "leaf_value" in node:
            return node["leaf_value"]
        left, right = node["left_child"], node["right_child"]
        if node["split_feature"] in known:
            return walk(left if row[node["split_feature"]] <= node["threshold"] else right)
        counts = [child.get("internal_count", child.get("leaf_count")) for child in (left, right)]
        return (counts[0] * walk(left) + counts[1] * walk(right)) / sum(counts)

    return sum(walk(tree["tree_structure"]) for tree in trees)


def test_network_is_complete(rows) -> None:
    X, y = rows
    net = FullyConnected(hidden=(16, 8), learning_rate=0.2).fit(X, y)
    found = contributions(net, X[:50], background=X)
    scores = net.decision_function(X[:50])
    assert np.abs(found.base + found.values.sum(axis=1) - scores).max() < 0.01 * np.ptp(scores)
    assert found.base[0] == pytest.approx(net.decision_function(X.astype(float).mean(axis=0)[None])[0], abs=1e-5)


def test_integrated_gradients_of_a_product() -> None:
    """From zero, a product of k columns gives every column the same share, 1/k of it."""

    class Product(torch.nn.Module):
        def forward(self, x):
            return x.prod(dim=1, keepdim=True)

    rows = np.array(list(itertools.product([1.0, 2.0, -3.0], repeat=3)), dtype=np.float32)
    values, base = integrated_gradients(Product(), rows, np.zeros(3, dtype=np.float32))
    assert base == 0
    assert values == pytest.approx(np.repeat(rows.prod(axis=1)[:, None] / 3, 3, axis=1), rel=1e-3)


def test_hazard_adds_up_to_the_mean_log_odds_up_to_the_horizon(rows) -> None:
    X, _ = rows
    random = np.random.default_rng(0)
    time = random.exponential(np.exp(-X[:, 0]))
    model = BoostedHazard(max_rounds=40).fit(X, survival_target(random.random(len(X)) < 0.8, time))
    raw = model._raw_hazard(X[:10])
    for horizon, periods in ((None, raw.shape[1]), (float(model.cuts_[3]), 3), (1e-9, 1), (1e9, raw.shape[1])):
        found = contributions(model, X[:10], horizon=horizon)
        assert found.values.shape == (10, 6)
        assert found.base + found.values.sum(axis=1) == pytest.approx(raw[:, :periods].mean(axis=1))
    assert np.abs(found.values).mean(axis=0).argmax() == 0
    assert math.isfinite(found.base.sum())


def test_hazard_network_adds_up_to_the_log_cumulative_hazard_at_the_horizon(rows) -> None:
    X, _ = rows
    random = np.random.default_rng(0)
    time = random.exponential(np.exp(-X[:, 0]))
    y = survival_target(random.random(len(X)) < 0.8, time)
    model = HazardNetwork(members=2, max_epochs=10, device="cpu").fit(X, y)
    for horizon in (None, float(model.cuts_[3]), float(model.cuts_[7:9].mean())):
        until = model.cuts_[-1] if horizon is None else horizon
        curves = np.log(model.predict_survival_function(X[:20]))
        known = np.append(0.0, model.unique_times_)
        hazard = [np.interp(until, known, np.append(0.0, -curve)) for curve in curves]
        found = contributions(model, X[:20], background=X, horizon=horizon)
        scores = found.base + found.values.sum(axis=1)
        assert scores == pytest.approx(np.log(hazard), abs=0.01 * np.ptp(scores) + 0.02)
        assert np.abs(found.values).mean(axis=0).argmax() == 0


def test_what_cannot_be_explained_is_named(rows) -> None:
    X, y = rows
    with pytest.raises(InputError, match="need background rows"):
        contributions(logistic_regression().fit(X, y), X)
    with pytest.raises(InputError, match="6 columns"):
        contributions(logistic_regression().fit(X, y), X, background=X[:, :2])
    with pytest.raises(InputError, match="RandomForestClassifier"):
        contributions(RandomForestClassifier(n_estimators=2).fit(X, y), X)
