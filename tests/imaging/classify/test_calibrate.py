"""Calibration and label sets against scikit-learn, known truth and the promise they make."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from careloop.imaging.classify.calibrate import (
    decision_thresholds,
    fit_calibration,
    fit_conformal,
    platt_line,
    temperature,
)
from careloop.imaging.classify.model import Labels


def drawn_labels(logits: np.ndarray, seed: int) -> np.ndarray:
    """One label a row, with the probabilities that the logits say."""
    chance = np.random.default_rng(seed).random((len(logits), 1))
    return (softmax(logits, axis=1).cumsum(axis=1) < chance).sum(axis=1).clip(max=logits.shape[1] - 1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_logits_overconfident_is_found(true) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (20_000, 4))
    assert temperature((logits * true).astype(np.float32), drawn_labels(logits, 1)) == pytest.approx(true, rel=0.05)


def test_a_line_is_that_of_scikit_learn_on_known_rows() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 500).astype(np.float32)
    label = (random.random(500) < expit(0.5 * logits - 1)).astype(np.float32)
    label[::7] = np.nan
    known = ~np.isnan(label)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[known, None], label[known])
    np.testing.assert_allclose(platt_line(logits, label), (peer.coef_[0, 0], peer.intercept_[0]), rtol=1e-3)


@pytest.mark.parametrize("label", [[0, 0, 0, 1] * 3, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [np.nan] * 12])
def test_a_label_without_a_usable_line_keeps_its_logits(label) -> None:
    """Too few of it, a line that would turn the order round (or rows that separate), or nothing known."""
    logits = np.arange(12, dtype=np.float32)
    found = fit_calibration(logits[:, None], np.array(label, np.float32)[:, None], Labels(("x",), "multi"))
    assert (found.slope, found.intercept) == ((1.0,), (0.0,))


def test_label_sets_hold_the_truth_as_often_as_promised_within_each_label() -> None:
    logits = np.random.default_rng(0).normal((0.5, 0, -0.5), 1.5, (8000, 3))
    label = drawn_labels(logits, 1)
    probability, target = softmax(logits, axis=1), np.eye(3, dtype=np.float32)[label]
    found = fit_conformal(probability[:4000], target[:4000], Labels(("a", "b", "c")), level=0.8)
    possible, _ = found.possible(probability[4000:])
    held = possible[np.arange(4000), label[4000:]]
    for at in range(3):
        assert held[label[4000:] == at].mean() == pytest.approx(0.8, abs=0.05)


def test_presence_and_absence_of_each_of_several_labels_are_held_as_promised() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (8000, 2)) - [0, 1]
    target = (random.random(logits.shape) < expit(logits)).astype(np.float32)
    target[random.random(target.shape) < 0.2] = np.nan
    probability = expit(logits)
    found = fit_conformal(probability[:4000], target[:4000], Labels(("a", "b"), "multi"), level=0.9)
    present, absent = found.possible(probability[4000:])
    for at in range(2):
        assert present[target[4000:, at] == 1, at].mean() == pytest.approx(0.9, abs=0.03)
        assert absent[target[4000:, at] == 0, at].mean() == pytest.approx(0.9, abs=0.03)


def test_thresholds_are_half_where_a_label_is_always_or_never_there() -> None:
    probability = np.linspace(0.01, 0.99, 50)[:, None].repeat(2, axis=1)
    target = np.stack([probability[:, 0] > 0.7, np.zeros(50)], axis=1).astype(np.float32)
    found = decision_thresholds(probability, target, np.arange(50).astype(str))
    assert 0.68 < found[0].value < 0.72
    assert found[1].value == 0.5
