"""The simple model beside a network: features of any size, one model a label, unknown labels left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from labelled_images import left_or_right
from sklearn.metrics import roc_auc_score

from careloop.imaging.classify.baseline import BINS, CELLS, COARSE, DIRECTIONS, baseline_probabilities, image_features


@pytest.mark.parametrize("size", [(30, 30), (60, 45), (12, 20, 20), (24, 30, 30)])
def test_features_are_as_many_for_any_size(size) -> None:
    dims = len(size)
    images = np.random.default_rng(0).normal(size=(3, 2, *size)).astype(np.float32)
    found = image_features(images)
    assert found.shape == (3, 2 * COARSE[dims] ** dims + BINS + DIRECTIONS * CELLS[dims] ** dims)
    histogram = found[:, 2 * COARSE[dims] ** dims :][:, :BINS]
    np.testing.assert_allclose(histogram.sum(axis=1), 1)


def test_directions_of_gradients_are_told_apart() -> None:
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    images = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))])[:, None]
    gradients = image_features(images)[:, COARSE[2] ** 2 + BINS :].reshape(2, DIRECTIONS, -1).sum(axis=2)
    assert gradients[0].argmax() == 0  # across columns
    assert gradients[1].argmax() == DIRECTIONS // 2


def of(kind: str, target: np.ndarray, images: np.ndarray) -> SimpleNamespace:
    places = np.arange(len(images))
    labels = SimpleNamespace(kind=kind)
    parts = {"train": places[:150], "tuning": places[150:200]}
    return SimpleNamespace(images=images, target=target, dataset=SimpleNamespace(labels=labels), **parts)


def test_it_learns_what_is_plain_and_ignores_unknown_labels() -> None:
    pixels, right = left_or_right(300, 0)
    images = ((pixels - 90.0) / 30)[:, None].astype(np.float32)
    held = np.arange(200, 300)
    single = baseline_probabilities(of("single", np.eye(2, dtype=np.float32)[right], images), [held])[0]
    np.testing.assert_allclose(single.sum(axis=1), 1)
    assert roc_auc_score(right[held], single[:, 1]) > 0.95
    target = np.stack([right, 1 - right], axis=1).astype(np.float32)
    target[:75, 0] = np.nan
    several = baseline_probabilities(of("multi", target, images), [held])[0]
    assert roc_auc_score(right[held], several[:, 0]) > 0.9
    alone = of("multi", target[:, :1], images)
    alone.train = np.arange(75, 150)
    np.testing.assert_allclose(baseline_probabilities(alone, [held])[0][:, 0], several[:, 0], atol=0.15)
