"""Figures of restored images against scikit-image, closed forms and simulated noise of known spectrum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from careloop import InputError
from careloop.evaluate.restoration import (
    Similarity,
    edges_kept,
    mtf50_per_mm,
    noise_power,
    psnr,
    rmse,
    similarity,
    ssim,
    summary,
)


def pair(seed: int = 0, shape: tuple[int, int] = (60, 83)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = gaussian_filter(rng.standard_normal(shape), 3) * 900 + 40
    return clean.astype(np.float32), (clean + 20 * rng.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("data_range", [1.0, 255.0, 4000.0])
def test_psnr_and_ssim_are_those_of_scikit_image(data_range: float) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    clean, noisy = (image.astype(np.float64) for image in pair())
    theirs = metrics.structural_similarity(
        clean, noisy, data_range=data_range, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(clean, noisy, data_range=data_range) == pytest.approx(theirs, abs=1e-12)
    assert psnr(clean, noisy, data_range=data_range) == pytest.approx(
        metrics.peak_signal_noise_ratio(clean, noisy, data_range=data_range)
    )


def test_figures_of_a_known_error() -> None:
    clean, _ = pair()
    assert rmse(clean, clean + 3) == pytest.approx(3, rel=1e-5)
    assert psnr(clean, clean + 3, data_range=300) == pytest.approx(40, rel=1e-5)
    assert math.isinf(psnr(clean, clean, data_range=1))
    assert ssim(clean, clean, data_range=100) == pytest.approx(1)


def test_edges_kept_is_the_part_of_the_gradient_that_is_left() -> None:
    clean, _ = pair()
    assert edges_kept(clean, clean) == pytest.approx(1)
    assert edges_kept(clean, clean * 0.7 + 5) == pytest.approx(0.7, rel=1e-5)
    assert edges_kept(clean, gaussian_filter(clean, 3)) < 0.75
    assert edges_kept(np.zeros((20, 20)), np.zeros((20, 20))) == 1
    noise = np.random.default_rng(1).standard_normal((40, *clean.shape)) * 5
    assert np.mean([edges_kept(clean, clean + n) for n in noise]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("trend", ["mean", "quadratic"])
def test_the_integral_of_the_noise_power_spectrum_is_the_variance(trend: str) -> None:
    noise = 12 * np.random.default_rng(2).standard_normal((300, 32, 48))
    spectrum = noise_power(noise, pixel_mm=0.7, trend=trend)
    taken = {"mean": 1, "quadratic": 6}[trend] / (32 * 48)
    assert spectrum.variance == pytest.approx(144 * (1 - taken), rel=0.01)
    # White noise is flat: variance times the area of a pixel.
    assert np.allclose(spectrum.radial_power[4:], 144 * 0.49, rtol=0.1)


def test_a_quadratic_background_is_taken_off() -> None:
    y, x = np.mgrid[:32, :32] / 10.0
    background = (3 + 2 * x - y + x * x - 0.5 * x * y)[None]
    assert noise_power(background, pixel_mm=1, trend="quadratic").variance == pytest.approx(0, abs=1e-18)
    assert noise_power(background, pixel_mm=1).variance > 1


def test_the_spectrum_of_smoothed_noise_is_its_closed_form() -> None:
    sigma_px, pixel = 1.2, 0.5
    white = np.random.default_rng(3).standard_normal((200, 64, 64))
    spectrum = noise_power(np.stack([gaussian_filter(n, sigma_px, mode="wrap") for n in white]), pixel_mm=pixel)
    wanted = pixel**2 * np.exp(-((2 * np.pi * sigma_px * pixel * spectrum.radial_frequency) ** 2))
    some = slice(3, 20)
    assert np.allclose(spectrum.radial_power[some], wanted[some], rtol=0.12)


def slanted_edge(sigma_px: float, degrees: float) -> np.ndarray:
    """A Gaussian edge, sampled at points."""
    y, x = np.mgrid[:64, :64] - 31.5
    away = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    return 50 + 100 * erf(away / (math.sqrt(2) * sigma_px))


@pytest.mark.parametrize(("sigma", "degrees"), [(0.8, 4), (1.5, 8), (1.5, 98), (3.0, 12), (1.0, -6), (1.5, 186)])
def test_mtf50_of_a_gaussian_edge_is_its_closed_form(sigma: float, degrees: float) -> None:
    wanted = math.sqrt(math.log(2) / 2) / math.pi / (sigma * 0.6)
    assert mtf50_per_mm(slanted_edge(sigma, degrees), pixel_mm=0.6) == pytest.approx(wanted, rel=0.03)


def test_mtf50_bears_some_noise() -> None:
    noise = np.random.default_rng(4).standard_normal((20, 64, 64)) * 4
    found = [mtf50_per_mm(slanted_edge(1.5, 7) + n, pixel_mm=1.0) for n in noise]
    assert np.mean(found) == pytest.approx(0.1874 / 1.5, rel=0.06)


def test_summary_has_an_interval_over_images() -> None:
    cases = [similarity(*pair(seed), data_range=1000) for seed in range(12)]
    means = summary(cases)
    for name in ("psnr_db", "ssim", "rmse", "edges_kept"):
        figure = means[name]
        low, value, high = (float(part) for part in (figure.low, figure.value, figure.high))
        assert low <= value <= high
    assert summary([Similarity(30, 0.9, 1, 1)])["psnr_db"].low is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: psnr(np.ones((4, 4)), np.ones((4, 5)), data_range=1), "one shape"),
        (lambda: psnr(np.ones((4, 4)), np.zeros((4, 4)), data_range=0), "data_range"),
        (lambda: ssim(np.ones((10, 40)), np.zeros((10, 40)), data_range=1), "SSIM"),
        (lambda: noise_power(np.ones((4, 4)), pixel_mm=1), "regions"),
        (lambda: mtf50_per_mm(np.ones((8, 8)), pixel_mm=1), "16 x 16"),
        (lambda: mtf50_per_mm(np.ones((32, 32)), pixel_mm=1), "edge in every row"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]
