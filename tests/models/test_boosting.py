"""LightGBM as a classifier: against LightGBM's own estimator, early stopping, state, scikit-learn's rules."""

from __future__ import annotations

import json

import lightgbm
import numpy as np
import pytest
import scipy.sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from careloop import InputError
from careloop.models import LightGBM


def test_same_probabilities_as_lightgbm_s_estimator(rows) -> None:
    X, y = rows
    weight = np.where(y, 3.0, 1.0)
    peer = lightgbm.LGBMClassifier(
        n_estimators=50, learning_rate=0.05, num_leaves=15, reg_lambda=1.0, subsample=0.8, subsample_freq=1,
        colsample_bytree=0.8, seed=0, deterministic=True, force_row_wise=True, n_jobs=1, verbose=-1,
    ).fit(X, y, sample_weight=weight / weight.mean())  # fmt: skip
    mine = LightGBM(n_estimators=50).fit(X, y, weight)
    assert mine.predict_proba(X) == pytest.approx(peer.predict_proba(X), abs=1e-6)
    assert mine.feature_importances_.sum() == pytest.approx(1)
    assert mine.feature_importances_[:2].min() > mine.feature_importances_[3:].max()


def test_rounds_end_on_validation_loss(rows) -> None:
    X, y = rows
    mine = LightGBM(n_estimators=500, patience=10).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    rounds = mine.booster_.num_trees()
    assert rounds < 400

    def loss(trees: int) -> float:
        p = mine.booster_.predict(X[300:], num_iteration=trees)
        return -np.log(np.where(y[300:], p, 1 - p)).mean()

    assert loss(rounds) <= min(loss(trees) for trees in range(1, rounds)) + 1e-12


def test_missing_values_sparse_matrices_threads_and_state(rows) -> None:
    X, y = rows
    X = np.where(X > 1, np.nan, np.where(np.abs(X) < 0.3, 0, X))
    mine = LightGBM(n_estimators=20).fit(X, y)
    assert np.array_equal(LightGBM(n_estimators=20, threads=2).fit(X, y).predict_proba(X), mine.predict_proba(X))
    plain, arrays = mine.get_state()
    again = LightGBM.from_state(json.loads(json.dumps(plain)), arrays)
    assert np.array_equal(again.predict_proba(X), mine.predict_proba(X))
    filled = np.nan_to_num(X)
    sparse = LightGBM(n_estimators=20).fit(scipy.sparse.csr_matrix(filled), y)
    assert sparse.predict_proba(scipy.sparse.csr_matrix(filled)) == pytest.approx(
        LightGBM(n_estimators=20).fit(filled, y).predict_proba(filled)
    )


def test_bad_input_is_named(rows) -> None:
    X, y = rows
    with pytest.raises(InputError, match="two classes"):
        LightGBM().fit(X, np.ones(len(y)))
    with pytest.raises(InputError, match="draw the split again"):
        LightGBM().fit(X, y, validation=(X, y + 5))
    with pytest.raises(InputError, match="non-zero"):
        LightGBM().fit(X, y, np.zeros(len(y)))


def expected_failures(_) -> dict[str, str]:
    return {
        f"check_sample_weight_equivalence_on_{kind}_data": "rows are bagged and counted in leaves one by one"
        for kind in ("dense", "sparse")
    }


@parametrize_with_checks([LightGBM(n_estimators=20, min_child_samples=1)], expected_failed_checks=expected_failures)
def test_scikit_learn_s_rules(estimator, check) -> None:
    check(estimator)
