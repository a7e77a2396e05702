"""Changes of training images: what they do is what scipy does, and nothing is done where nothing was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from careloop.imaging.classify.augment import ROTATION_DEG, SCALE, Changes, _moved, changed, random_affines

SHAPES = [(3, 2, 14, 20), (3, 1, 9, 12, 15)]


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    """Images of a few slow waves, which interpolation hardly changes."""
    random = np.random.default_rng(0)
    grid = np.indices(shape[2:])
    scaled = [places / n for places, n in zip(grid, shape[2:], strict=True)]
    waves = [
        sum(np.sin(s * random.uniform(2, 6) + random.uniform(0, 6)) for s in scaled) for _ in range(shape[0] * shape[1])
    ]
    return torch.from_numpy(np.array(waves, np.float32).reshape(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_moved_images_are_those_of_scipy(shape) -> None:
    images, size = smooth(shape), np.array(shape[2:])
    affines = random_affines(shape[2:], 1.0, np.random.default_rng(3), n=shape[0])
    found = _moved(images, affines).numpy()
    half = size / 2
    assert not np.allclose(found, images)
    for image, affine, mine in zip(images.numpy(), affines, found, strict=True):
        # From -1 to 1 between the outer faces to indices of pixel middles.
        matrix = half[:, None] * affine[:, :-1] / half
        offset = half * (affine[:, -1] + 1) - 0.5 - matrix @ (half - 0.5)
        for channel, moved in zip(image, mine, strict=True):
            np.testing.assert_allclose(
                moved, affine_transform(channel, matrix, offset, order=1, mode="nearest"), atol=1e-4
            )


@pytest.mark.parametrize("size", [(10, 40), (6, 20, 30)])
def test_an_oblong_image_is_turned_and_scaled_but_not_sheared(size) -> None:
    affines = random_affines(size, 1.0, np.random.default_rng(0), n=200)
    half = np.array(size) / 2
    voxels = affines[:, :, :-1] * half[:, None] / half
    squared = voxels @ voxels.transpose(0, 2, 1)
    scale = squared[:, 0, 0]
    np.testing.assert_allclose(squared, scale[:, None, None] * np.eye(len(size)), atol=1e-12)
    assert np.sqrt(scale).min() >= 1 - SCALE
    assert np.sqrt(scale).max() <= 1 + SCALE
    if len(size) == 2:
        angle = np.degrees(np.arctan2(voxels[:, 1, 0], voxels[:, 0, 0]))
        assert 0.8 * ROTATION_DEG < np.abs(angle).max() <= ROTATION_DEG
    assert 0.35 < (affines[:, :, -1] == 0).all(axis=1).mean() < 0.65  # the rest is left alone


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_changed_where_nothing_was_asked_for(shape) -> None:
    images = smooth(shape)
    assert torch.equal(changed(images, Changes(strength=0.0), seed=1), images)


@pytest.mark.parametrize("shape", SHAPES)
def test_mirroring_turns_columns_only(shape) -> None:
    images = smooth(shape)
    found = changed(images, Changes(strength=0.0, mirrored=1.0), seed=1)
    np.testing.assert_array_equal(found.numpy(), images.numpy()[..., ::-1])


def test_the_seed_decides_and_the_input_is_not_changed() -> None:
    images = smooth((8, 1, 12, 12))
    before = images.clone()
    first, again, other = (changed(images, Changes(mirrored=0.5), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
