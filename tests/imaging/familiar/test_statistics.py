"""Statistics of images: closed forms, what leaves them alone, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from careloop import InputError
from careloop.imaging.familiar.statistics import BANDS, CELLS, GROUPS, QUANTILES, image_statistics, statistics_table

RANDOM = np.random.default_rng(0)


def test_grey_values_are_quantiles_and_moments_as_scipy_has_them() -> None:
    image = RANDOM.gamma(2.0, size=(1, 40, 30))
    found = image_statistics(image)["grey values"]
    n = len(QUANTILES)
    np.testing.assert_allclose(found[:n], np.quantile(image, QUANTILES))
    np.testing.assert_allclose(found[n : n + 2], (image.mean(), image.std()))
    np.testing.assert_allclose(found[n + 2 : n + 4], (skew(image, None), np.log(kurtosis(image, None) + 3)), rtol=1e-4)
    np.testing.assert_allclose(found[n + 4 :], 1 / 1200)


@pytest.mark.parametrize("cycles", [3, 6, 12, 26])
def test_a_wave_has_its_power_in_the_band_of_its_frequency(cycles: int) -> None:
    image = np.sin(2 * np.pi * cycles * np.arange(64) / 64) * np.ones((64, 1))
    band = image_statistics(image[None])["texture"].argmax()
    assert band == np.searchsorted(BANDS, cycles / 64, side="right") - 1


def test_white_noise_has_the_same_power_in_all_bands() -> None:
    texture = statistics_table(RANDOM.normal(size=(30, 1, 64, 64)))["texture"].mean(axis=0)
    assert np.ptp(texture) < 0.25


def test_layout_is_the_mean_of_each_cell() -> None:
    image = RANDOM.normal(size=(1, 32, 32))
    cells = image.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    found = image_statistics(image)["layout"].reshape(8, 8)
    np.testing.assert_allclose(found, (cells - image.mean()) / image.std(), atol=1e-4)


def test_only_grey_values_heed_level_and_spread() -> None:
    image = RANDOM.normal(size=(1, 24, 24))
    plain, scaled = image_statistics(image), image_statistics(5 * image + 3)
    for name in set(GROUPS) - {"grey values"}:
        np.testing.assert_allclose(plain[name], scaled[name], atol=1e-4)
    assert not np.allclose(plain["grey values"], scaled["grey values"])


def test_volumes_channels_and_sizes() -> None:
    flat, colour, solid = (image_statistics(RANDOM.normal(size=s)) for s in ((1, 9, 7), (3, 20, 20), (1, 8, 12, 10)))
    assert len(flat["layout"]) == CELLS[2] ** 2
    assert len(colour["layout"]) == 3 * len(flat["layout"])
    assert len(solid["layout"]) == CELLS[3] ** 3
    assert all(np.isfinite(values).all() for values in image_statistics(np.full((1, 16, 16), 7.0)).values())


@pytest.mark.parametrize("image", [np.ones((8, 8)), np.ones((1, 3, 8)), np.full((1, 8, 8), np.nan)])
def test_refuses_what_has_no_statistics(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="Images must"):
        image_statistics(image)
