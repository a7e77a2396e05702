"""Classical denoisers: nearer to the clean image than the noisy one, alike at every scale, and their rules."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.imaging.restore.classics import bm3d, non_local_means, total_variation
from careloop.imaging.restore.noise import Denoiser, add_gaussian

pytest.importorskip("skimage")


def clean() -> np.ndarray:
    y, x = np.mgrid[:72, :64]
    rng = np.random.default_rng(0)
    image = 100 + 40 * (np.hypot(x - 30, y - 30) < 14) - 50 * (np.hypot(x - 44, y - 52) < 9)
    return (image + 12 * gaussian_filter(rng.standard_normal(image.shape), 2)).astype(np.float32)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).mean()))


@pytest.mark.parametrize("method", [non_local_means, total_variation, bm3d])
def test_noise_is_reduced_whatever_the_scale(method: Denoiser) -> None:
    if method is bm3d:
        pytest.importorskip("bm3d")
    noisy = add_gaussian(clean(), 15, np.random.default_rng(1))
    found = method(noisy, 15.0)
    assert found.dtype == np.float32
    assert rmse(found, clean()) < 0.6 * rmse(noisy, clean())
    hounsfield = method(noisy * 8 - 1000, 120.0)
    assert rmse(hounsfield, found * 8 - 1000) < 0.2 * 8 * 15
    assert rmse(method(noisy, 0.0), noisy) == 0


def test_the_weight_of_total_variation_is_near_the_best_one() -> None:
    for sigma in (8.0, 30.0):
        noisy = add_gaussian(clean(), sigma, np.random.default_rng(2))
        tried = [rmse(total_variation(noisy, sigma, weight=part * sigma), clean()) for part in (0.35, 0.5, 0.7, 1, 1.4)]
        assert rmse(total_variation(noisy, sigma), clean()) < 1.04 * min(tried) < 0.97 * max(tried)


def test_bm3d_is_left_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(InputError, match="non-commercial"):
        bm3d(clean(), 10.0)
