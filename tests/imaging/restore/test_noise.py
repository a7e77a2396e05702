"""Noise against its moments, and stabilising transforms against simulated noise of known signal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import rice

from careloop import InputError
from careloop.imaging.restore.noise import (
    CountStabiliser,
    RicianStabiliser,
    add_gaussian,
    add_poisson,
    add_rician,
    denoise_stabilised,
)

MANY = 200_000


def flat(value: float) -> np.ndarray:
    return np.full(MANY, value, np.float32)


def test_noise_has_the_moments_of_its_distribution() -> None:
    rng = np.random.default_rng(0)
    gaussian = add_gaussian(flat(10), 3, rng)
    assert (gaussian.mean(), gaussian.std()) == pytest.approx((10, 3), rel=0.01)
    poisson = add_poisson(flat(50), 200, rng, peak=100)  # 100 photons, of 0.5 units each
    assert (poisson.mean(), poisson.std()) == pytest.approx((50, 5), rel=0.01)
    for signal in (0.0, 2.0, 9.0):
        rician = add_rician(flat(signal), 2, rng)
        wanted = rice(signal / 2, scale=2)
        assert (rician.mean(), rician.std()) == pytest.approx((wanted.mean(), wanted.std()), rel=0.01)


def test_the_same_generator_gives_the_same_noise() -> None:
    for add in (add_gaussian, add_rician, add_poisson):
        first, again = (add(flat(5)[:50], 2, np.random.default_rng(7)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float32


@pytest.mark.parametrize(("gain", "sigma", "offset"), [(1, 0, 0), (1, 2, 0), (3, 5, 20), (0.2, 1, -4)])
def test_counts_are_stabilised_and_come_back_without_bias(gain: float, sigma: float, offset: float) -> None:
    rng = np.random.default_rng(1)
    stabiliser = CountStabiliser(gain, sigma, offset)
    for counts in (5, 20, 100, 1000):
        noisy = gain * rng.poisson(counts, MANY) + offset + sigma * rng.standard_normal(MANY)
        values = stabiliser.forward(noisy)
        assert values.std() == pytest.approx(1, abs=0.06)
        spread = np.hypot(gain * np.sqrt(counts), sigma)
        assert stabiliser.inverse(values.mean()[None])[0] == pytest.approx(counts * gain + offset, abs=0.03 * spread)


def test_few_counts_come_back_without_the_bias_of_the_algebraic_inverse() -> None:
    noisy = np.random.default_rng(2).poisson(0.5, MANY)
    stabiliser = CountStabiliser()
    mean = stabiliser.forward(noisy.astype(float)).mean()
    assert stabiliser.inverse(np.array([mean]))[0] == pytest.approx(0.5, abs=0.01)
    assert (mean / 2) ** 2 - 3 / 8 < 0.4
    assert stabiliser.inverse(np.zeros(1))[0] == 0


@pytest.mark.parametrize("signal", [0, 0.5, 1, 2, 3, 6, 20, 60])
def test_rician_magnitudes_are_stabilised_and_come_back_without_bias(signal: float) -> None:
    noisy = add_rician(flat(signal * 4), 4, np.random.default_rng(3))
    values = RicianStabiliser(4).forward(noisy)
    assert values.std() == pytest.approx(1, abs=0.06)
    found = RicianStabiliser(4).inverse(values.mean()[None])[0]
    assert found / 4 == pytest.approx(signal, abs=0.1 if signal < 0.5 else 0.015)


def test_a_gaussian_denoiser_serves_rician_noise() -> None:
    """The background of an MR image becomes 0, where smoothing magnitudes leaves it at 1.25 sigma."""
    clean = np.zeros((64, 64), np.float32)
    clean[16:48, 16:48] = 60
    noisy = add_rician(clean, 10, np.random.default_rng(4))
    told = []

    def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
        told.append((image.min(), image.max(), sigma))
        return gaussian_filter(image, 2)

    found = denoise_stabilised(noisy, RicianStabiliser(10), smooth)
    assert found[4:10, 4:60].mean() < 4 < 11 < gaussian_filter(noisy, 2)[4:10, 4:60].mean()
    assert found[28:36, 28:36].mean() == pytest.approx(60, abs=3)
    low, high, sigma = told[0]
    assert (low, high) == (0, 1)
    assert sigma == pytest.approx(1 / np.ptp(RicianStabiliser(10).forward(noisy)))


def test_an_even_image_needs_no_denoiser() -> None:
    even = np.full((8, 8), 7.0)
    assert denoise_stabilised(even, CountStabiliser(), lambda *_: even * np.nan).mean() == pytest.approx(7, abs=0.3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda rng: add_gaussian(np.ones(3), -1, rng), "noise level"),
        (lambda rng: add_rician(np.ones(3), np.nan, rng), "noise level"),
        (lambda rng: add_poisson(-np.ones(3), 10, rng), "Poisson"),
        (lambda rng: add_poisson(np.ones(3), 0, rng), "Poisson"),
        (lambda _: CountStabiliser(gain=0), "gain"),
        (lambda _: RicianStabiliser(0), "above 0"),
    ],
)
def test_wrong_levels_are_refused(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call(np.random.default_rng(0))  # type: ignore[operator]
