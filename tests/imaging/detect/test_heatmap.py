"""Targets, loss and peaks of the centre maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from careloop.imaging.detect.heatmap import detection_loss, focal_loss, peaks_of, target_of


@pytest.mark.parametrize("patch", [(24, 32), (12, 24, 16)])
def test_maps_that_are_as_wanted_give_the_boxes_back(patch: tuple[int, ...]) -> None:
    dims = len(patch)
    low = np.array([[2.2, 3.1, 4.7], [5.5, 12.3, 8.0]])[:, :dims]
    boxes = np.hstack([low, low + np.array([[4.0, 3.3, 6.0], [5.1, 6.0, 4.4]])[:, :dims]])
    labels = np.array([1, 0])
    target = target_of(boxes, labels, patch=patch, names=2)
    assert (target.heat == 1).sum() == 2
    maps = torch.zeros(2 + 2 * dims, *patch)
    maps[:2] = torch.logit(target.heat.clamp(1e-4, 1 - 1e-4))
    maps[2:][(slice(None), *target.centre.T)] = target.value.T
    peaks = peaks_of(maps, names=2, most=10, lowest=3.0)
    order = np.argsort(-peaks.label)
    assert peaks.label[order].tolist() == [1, 0]
    assert peaks.box[order] == pytest.approx(boxes, abs=1e-4)


def test_focal_loss_is_the_papers_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    heat = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64) * 0.9
    heat[0, 0, 2, 3] = heat[1, 0, 4, 4] = 1
    p, y = 1 / (1 + np.exp(-logits.numpy())), heat.numpy()
    expected = -np.where(y == 1, (1 - p) ** 2 * np.log(p), (1 - y) ** 4 * p**2 * np.log(1 - p)).sum()
    assert float(focal_loss(logits, heat)) == pytest.approx(expected)


def test_a_patch_without_boxes_has_a_loss_and_a_centre_outside_only_a_slope() -> None:
    empty = target_of(np.zeros((0, 4)), np.zeros(0, int), patch=(8, 8), names=1)
    value, count = detection_loss(torch.zeros(1, 5, 8, 8), [empty])
    assert count == 1
    assert float(value) == pytest.approx(64 * 0.25 * np.log(2))
    beyond = target_of(np.array([[-6.0, 2, 4, 8]]), np.array([0]), patch=(8, 8), names=1)
    assert len(beyond.centre) == 0
    assert 0 < float(beyond.heat.max()) < 1
