"""The held-out evaluation against scikit-learn and counting, for one label and for several with unknown ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, roc_auc_score

from careloop.evaluate.discrimination import Threshold
from careloop.imaging.classify.baseline import NAME as BASELINE
from careloop.imaging.classify.evaluate import (
    NETWORK,
    Bootstrap,
    HeldOut,
    Predicted,
    evaluate_held_out,
    mean_by_subject,
)
from careloop.imaging.classify.model import Conformal, Labels

HALF = Threshold(0.5, "given")
FEW = Bootstrap(resamples=100, seed=0)


def silent(what: str, done: int, total: int) -> None:
    pass


def evaluated(labels: Labels, target: np.ndarray, probabilities: dict, conformal: Conformal, **changes) -> dict:
    n = len(target)
    view = np.where(np.arange(n) % 2, "PA", "AP")
    rows = HeldOut(labels, (np.arange(n) // 2).astype(str), target, {"view": view})
    models = {name: Predicted(p, (HALF,) * len(labels.names)) for name, p in probabilities.items()}
    given = {"refused": np.arange(n) % 10 == 0, "bootstrap": FEW, "progress": silent} | changes
    found = evaluate_held_out(rows, models, conformal, **given)
    json.dumps(found, allow_nan=False)
    return found


def test_one_label_of_two() -> None:
    random = np.random.default_rng(0)
    risk = expit(random.normal(0, 1.5, 200))
    truth = random.random(200) < risk
    good, poor = np.column_stack([1 - risk, risk]), np.full((200, 2), 0.5) + random.normal(0, 0.1, (200, 1)) * [-1, 1]
    conformal = Conformal(0.9, (0.8, 0.7))
    target = np.eye(2, dtype=np.float32)[truth.astype(int)]
    found = evaluated(Labels(("no", "yes")), target, {NETWORK: good, BASELINE: poor.clip(0, 1)}, conformal)
    assert list(found["labels"]) == ["yes"]
    assert found["together"] is None
    network = found["labels"]["yes"]["models"][NETWORK]
    assert network["figures"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, risk))
    assert [(group["variable"], group["group"]) for group in network["subgroups"]] == [("view", "AP"), ("view", "PA")]
    assert found["accuracy"][NETWORK]["value"] == pytest.approx(accuracy_score(truth, risk > 0.5))
    difference = found["labels"]["yes"]["comparisons"][0]["differences"]["auroc"]
    assert difference["low"] > 0
    possible = 1 - good <= [0.8, 0.7]
    held = possible[np.arange(200), truth.astype(int)].mean()
    assert found["label_sets"]["figures"]["coverage"]["value"] == pytest.approx(held)
    assert network["conformal"]["figures"]["coverage"]["value"] == pytest.approx(held)
    assert found["refused"]["value"] == pytest.approx(0.1)
    assert (found["rows"], found["subjects"]) == (200, 100)


def test_one_label_of_three() -> None:
    random = np.random.default_rng(1)
    probability = softmax(random.normal(0, 1.5, (150, 3)), axis=1)
    truth = (probability.cumsum(axis=1) < random.random((150, 1))).sum(axis=1).clip(max=2)
    target = np.eye(3, dtype=np.float32)[truth]
    uniform = np.full((150, 3), 1 / 3)
    found = evaluated(
        Labels(("a", "b", "c")), target, {NETWORK: probability, BASELINE: uniform}, Conformal(0.9, (0.8, 0.8, 0.8))
    )
    macro = found["together"]["models"][NETWORK]["averages"]["macro"]["auroc"]["value"]
    assert macro == pytest.approx(roc_auc_score(truth, probability, multi_class="ovr", average="macro"))
    size = (probability >= 0.2 - 1e-12).sum(axis=1)
    assert found["label_sets"]["figures"]["mean_size"]["value"] == pytest.approx(size.mean())
    assert found["labels"]["a"]["models"][NETWORK]["conformal"] is None


def test_several_labels_of_which_some_are_unknown() -> None:
    random = np.random.default_rng(2)
    probability = expit(random.normal(0, 1.5, (200, 3)))
    target = (random.random((200, 3)) < probability).astype(np.float32)
    target[random.random((200, 3)) < 0.3] = np.nan
    target[:, 2] = 0
    models = {NETWORK: probability, BASELINE: np.full((200, 3), 0.5)}
    conformal = Conformal(0.9, (0.85, 0.85, 0.85), (0.85, 0.85, 0.85))
    found = evaluated(Labels(("a", "b", "c"), "multi"), target, models, conformal, refused=None)
    known = ~np.isnan(target[:, 0])
    figure = found["labels"]["a"]["models"][NETWORK]["figures"]["auroc"]["value"]
    assert figure == pytest.approx(roc_auc_score(target[known, 0], probability[known, 0]))
    assert found["labels"]["c"] == {"reason": "0 of 200 held-out images with a known label have it"}
    assert found["accuracy"] is None
    assert found["refused"] is None
    pairs = [(p, t) for p, t in zip(probability.ravel(), target.ravel(), strict=True) if not np.isnan(t)]
    held = np.mean([(1 - p if t else p) <= 0.85 for p, t in pairs])
    assert found["label_sets"]["figures"]["coverage"]["value"] == pytest.approx(held)


def test_intervals_are_by_subject() -> None:
    """Ten equal images of each subject say no more than one: the interval is that of the subjects' means."""
    subjects, values = np.repeat(np.arange(40).astype(str), 10), np.repeat(np.arange(40) % 2, 10)
    many = Bootstrap(resamples=2000, seed=0)
    found, single = mean_by_subject(values, subjects, many), mean_by_subject(values[::10], subjects[::10], many)
    assert found == single
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.1)
    assert mean_by_subject(values[:50], subjects[:50], FEW).low is None
    assert mean_by_subject(values[:0], subjects[:0], FEW).reason == "there are no such rows"
