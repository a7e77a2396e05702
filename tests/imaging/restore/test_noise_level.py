"""The noise level found blindly in simulated anatomy with noise of known level."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.imaging.phantom import Grid, chest_phantom
from careloop.imaging.restore.noise import add_gaussian, add_rician
from careloop.imaging.restore.noise_level import noise_sigma, rician_sigma


@lru_cache(maxsize=1)
def anatomy() -> np.ndarray:
    """A slice of a simulated chest, as blurred as a scanner's, 0 to 255 for -1000 to 1000 HU."""
    hu = chest_phantom(3, grid=Grid((1, 160, 160), (3.0, 2.2, 2.2))).volume.voxels[0]
    return ((gaussian_filter(np.clip(hu, -1000, 1000).astype(np.float32), 0.8) + 1000) / 2000 * 255).astype(np.float32)


@pytest.mark.parametrize("sigma", [5, 15, 50])
def test_gaussian_noise_is_found_in_anatomy(sigma: float) -> None:
    noisy = add_gaussian(anatomy(), sigma, np.random.default_rng(0))
    assert noise_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    assert noise_sigma(noisy * 3 - 1000) == pytest.approx(3 * noise_sigma(noisy), rel=1e-3)


def test_clipped_and_padded_parts_do_not_count() -> None:
    noisy = add_gaussian(anatomy(), 20, np.random.default_rng(1))
    noisy[:, :70] = noisy.min() - 500
    assert noise_sigma(noisy) == pytest.approx(20, rel=0.1)
    assert noise_sigma(np.maximum(noisy, 5)) == pytest.approx(20, rel=0.12)


@pytest.mark.parametrize("sigma", [5, 20])
def test_rician_noise_is_that_of_the_channels_not_of_the_magnitude(sigma: float) -> None:
    noisy = add_rician(anatomy(), sigma, np.random.default_rng(2))
    assert rician_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    background = add_rician(np.zeros((64, 64)), sigma, np.random.default_rng(3))
    assert rician_sigma(background) == pytest.approx(sigma, rel=0.2)
    assert noise_sigma(background) < 0.7 * sigma


def test_an_image_without_noise_has_none() -> None:
    assert noise_sigma(np.ones((64, 64))) == 0
    assert rician_sigma(np.ones((64, 64))) == 0


@pytest.mark.parametrize("shape", [(20, 20), (4, 4000), (64, 64, 64)])
def test_too_small_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="640 patches"):
        noise_sigma(np.ones(shape))
