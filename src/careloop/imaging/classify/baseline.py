"""The simple model beside every network: logistic regression on pixels made coarse, a histogram, and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.classify.data.ready import ReadyImages
from careloop.imaging.classify.fit import LOOKED_AT
from careloop.imaging.classify.prepare import averaging_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "logistic regression"
COARSE = {2: 12, 3: 6}  # blocks an axis of the pixels made coarse
CELLS = {2: 4, 3: 3}  # blocks an axis in which directions of gradients are counted
DIRECTIONS = 8  # of gradients in the plane of rows and columns; Dalal and Triggs 2005 (CVPR), without their block norms
BINS = 16  # of the histogram, between -3 and 3 standard deviations
MOST_ROWS = 20_000  # trained on; more change little and take long
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse penalties tried, the best by the tuning rows' loss
ITERATIONS = 500
HOW = (
    f"{NAME} on the pixels averaged in blocks, a histogram of intensities and directions of gradients, penalised (L2) "
    "by what did best on tuning rows"
)
SMALLEST = 1e-7  # probability, so that the loss of one that is wrong stays finite


def image_features(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features (n, f) of prepared images (n, channels, *size), the same number for any size."""
    dims = images.ndim - 2
    grey = images.mean(axis=1)
    coarse = _blocks(images, COARSE[dims]).reshape(len(images), -1)
    bins = np.clip(((grey.reshape(len(images), -1) + 3) / 6 * BINS).astype(int), 0, BINS - 1)
    histogram = np.stack([(bins == number).mean(axis=1) for number in range(BINS)], axis=1)
    down, across = np.gradient(grey, axis=(-2, -1))
    strength = np.hypot(down, across)
    direction = (np.arctan2(down, across) % np.pi / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    oriented = np.stack([strength * (direction == number) for number in range(DIRECTIONS)], axis=1)
    gradients = _blocks(oriented, CELLS[dims]).reshape(len(images), -1)
    return np.concatenate([coarse, histogram, gradients], axis=1).astype(np.float64)


def _blocks(images: NDArray[np.floating[Any]], most: int) -> NDArray[np.floating[Any]]:
    """Images (n, c, *size) with at most so many blocks an axis."""
    for axis in range(2, images.ndim):
        weights = averaging_matrix(images.shape[axis], min(most, images.shape[axis]))
        images = np.moveaxis(np.tensordot(weights, images, axes=(1, axis)), 0, axis)
    return images


def baseline_probabilities(ready: ReadyImages, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float64]]:
    """Probabilities (m, labels) for each of these sets of rows, from a model fitted on the training rows."""
    from sklearn.preprocessing import StandardScaler

    train = ready.train
    if len(train) > MOST_ROWS:
        train = np.sort(np.random.default_rng(0).permutation(train)[:MOST_ROWS])
    scale = StandardScaler().fit(_features(ready, train))
    inputs = [scale.transform(_features(ready, part)) for part in (train, ready.tuning, *rows)]
    targets = ready.target[train], ready.target[ready.tuning]
    if ready.dataset.labels.kind == "single":
        classes = [target.argmax(axis=1) for target in targets]
        return _best(inputs, classes[0], classes[1], outputs=ready.target.shape[1])
    each = [_of_label(inputs, targets, label) for label in range(ready.target.shape[1])]
    return [np.stack([found[part] for found in each], axis=1) for part in range(len(rows))]


def _features(ready: ReadyImages, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = np.array_split(rows, max(1, -(-len(rows) // LOOKED_AT)))
    return np.concatenate([image_features(np.asarray(ready.images[part])) for part in parts])


def _of_label(
    inputs: Sequence[NDArray[np.float64]], targets: tuple[NDArray[np.float32], NDArray[np.float32]], label: int
) -> list[NDArray[np.float64]]:
    """The probability (m,) of one of several labels, fitted on the rows of which it is known."""
    known = [~np.isnan(target[:, label]) for target in targets]
    train, tuning = (target[rows, label].astype(int) for target, rows in zip(targets, known, strict=True))
    chosen = [inputs[0][known[0]], inputs[1][known[1]], *inputs[2:]]
    return [found[:, 1] for found in _best(chosen, train, tuning, outputs=2)]


def _best(
    inputs: Sequence[NDArray[np.float64]], train: NDArray[np.int64], tuning: NDArray[np.int64], *, outputs: int
) -> list[NDArray[np.float64]]:
    """Probabilities (m, outputs) of the third and later inputs, by the penalty that does best on the second."""
    from sklearn.linear_model import LogisticRegression

    best, lowest = None, np.inf
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(inputs[0], train)
        found = _spread(model, inputs[1], outputs) if len(tuning) else np.ones((0, outputs))
        loss = -np.log(np.maximum(found[np.arange(len(tuning)), tuning], SMALLEST)).mean() if len(tuning) else 0.0
        if loss < lowest:
            best, lowest = model, float(loss)
    return [_spread(best, part, outputs) for part in inputs[2:]]


def _spread(model: Any, inputs: NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """Probabilities with a column for every label."""
    found = np.zeros((len(inputs), outputs))
    if len(inputs):
        found[:, model.classes_] = model.predict_proba(inputs)
    return found
