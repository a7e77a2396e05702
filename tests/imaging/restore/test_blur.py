"""Point spread functions, convolution and classical deconvolution against scipy, closed forms and simulated blur."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from careloop import InputError
from careloop.imaging.restore.blur import (
    blurred,
    disc_psf,
    downsampled,
    edge_tapered,
    gaussian_psf,
    motion_psf,
    richardson_lucy,
    wiener,
)
from careloop.imaging.restore.noise import add_gaussian

PSFS = {"gaussian": gaussian_psf(1.5), "disc": disc_psf(2.5), "motion": motion_psf(7, 30)}


def picture() -> np.ndarray:
    """Smooth ground with sharp discs and bars, 0 to 255."""
    y, x = np.mgrid[:96, :88]
    ground = 90 + 20 * np.sin(x / 11) * np.cos(y / 17)
    for row, column, radius, value in ((30, 30, 12, 80), (60, 55, 18, -60), (20, 66, 6, 100), (75, 20, 5, -70)):
        ground = ground + value * (np.hypot(x - column, y - row) < radius)
    ground[40:50:3, 8:24] += 60
    return ground.astype(np.float32)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(float(((a - b)[4:-4, 4:-4] ** 2).mean()))


def second_moments(psf: np.ndarray) -> tuple[float, float, float]:
    y, x = np.mgrid[: psf.shape[0], : psf.shape[1]] - (np.array(psf.shape) // 2)[:, None, None]
    return float((psf * y * y).sum()), float((psf * x * x).sum()), float((psf * x * y).sum())


@pytest.mark.parametrize("name", PSFS)
def test_psfs_sum_to_one_around_their_middle(name: str) -> None:
    psf = PSFS[name]
    assert psf.sum() == pytest.approx(1)
    assert all(n % 2 for n in psf.shape)
    assert (psf >= 0).all()
    np.testing.assert_allclose(psf, psf[::-1, ::-1], atol=1e-12)


def test_psfs_are_as_wide_as_they_say() -> None:
    assert second_moments(gaussian_psf(2.0))[0] == pytest.approx(4, rel=0.05)
    assert second_moments(disc_psf(5))[1] == pytest.approx(25 / 4, rel=0.03)
    along, across = 12**2 / 12, 1 / 12
    rows, columns, both = second_moments(motion_psf(12, 0))
    assert (rows, columns, both) == pytest.approx((across, along + across, 0), abs=0.3)
    rows, columns, both = second_moments(motion_psf(12, 90))
    assert (rows, columns) == pytest.approx((along, across), abs=0.3)
    assert second_moments(motion_psf(12, 45))[2] == pytest.approx((along - across) / 2, rel=0.05)


@pytest.mark.parametrize("name", PSFS)
def test_blur_is_a_convolution_mirrored_at_edges(name: str) -> None:
    wanted = convolve(picture().astype(float), PSFS[name], mode="reflect")
    np.testing.assert_allclose(blurred(picture(), PSFS[name]), wanted, rtol=1e-5)


def test_a_coarser_image_keeps_what_it_can_show_and_no_alias() -> None:
    assert downsampled(picture(), 2).shape == (48, 44)
    even = downsampled(np.full((30, 31), 7.0), 3)
    np.testing.assert_allclose(even, 7, rtol=1e-6)
    y, x = np.mgrid[:96, :96]
    fine = np.cos(np.pi * 0.95 * x) + 0 * y  # near the fine grid's Nyquist frequency: an alias on the coarse one
    assert np.abs(downsampled(fine, 4)[4:-4, 4:-4]).max() < 0.01 < np.abs(fine[::4, ::4]).max()
    np.testing.assert_allclose(downsampled(picture(), 2, np.ones((1, 1))), picture()[::2, ::2], rtol=1e-5)


def test_tapering_changes_edges_only_and_makes_them_meet() -> None:
    image = np.tile(np.linspace(0, 100, 80), (64, 1)).astype(np.float32)
    psf = gaussian_psf(2)
    found = edge_tapered(image, psf)
    np.testing.assert_allclose(found[20:-20, 20:-20], image[20:-20, 20:-20], atol=1e-3)
    assert abs(found[32, 0] - found[32, -1]) < 30 < 100 == abs(image[32, 0] - image[32, -1])


@pytest.mark.parametrize("name", PSFS)
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_deconvolution_comes_nearer_to_what_was_blurred(name: str, sigma: float) -> None:
    pytest.importorskip("skimage")
    seen = add_gaussian(blurred(picture(), PSFS[name]), sigma, np.random.default_rng(0))
    for deconvolve in (wiener, richardson_lucy):
        found = deconvolve(seen, PSFS[name], sigma)
        assert found.shape == seen.shape
        assert rmse(found, picture()) < 0.93 * rmse(seen, picture()), deconvolve.__name__


def test_wiener_s_balance_is_near_the_best_one() -> None:
    restoration = pytest.importorskip("skimage.restoration")
    psf, sigma = PSFS["gaussian"], 2.0
    seen = add_gaussian(blurred(picture(), psf), sigma, np.random.default_rng(1))
    tapered = edge_tapered(seen, psf).astype(float)
    best = min(
        rmse(restoration.wiener(tapered, psf, balance, clip=False), picture()) for balance in np.logspace(-5, 1, 25)
    )
    assert rmse(wiener(seen, psf, sigma), picture()) < 1.05 * best


def test_richardson_lucy_is_scikit_image_s_where_nothing_lies_beyond_the_edges() -> None:
    restoration = pytest.importorskip("skimage.restoration")
    psf = PSFS["gaussian"]
    dark = np.zeros((64, 64))
    dark[24:40, 20:44] = gaussian_filter(np.random.default_rng(3).random((16, 24)), 1)
    seen = blurred(dark, psf).astype(float)
    ours = richardson_lucy(seen, psf, 0.0)
    theirs = restoration.richardson_lucy(seen / np.ptp(seen) + 1e-3, psf, num_iter=199, clip=False)
    theirs = (theirs - 1e-3) * np.ptp(seen)
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs(ours - theirs)[inner].max() < 0.02 * np.ptp(seen)


def test_richardson_lucy_ends_near_its_best_round(monkeypatch: pytest.MonkeyPatch) -> None:
    psf, sigma = PSFS["gaussian"], 2.0
    seen = add_gaussian(blurred(picture(), psf), sigma, np.random.default_rng(2))
    found = rmse(richardson_lucy(seen, psf, sigma), picture())
    monkeypatch.setattr("careloop.imaging.restore.blur.PATIENCE", 10**6)
    rounds = []
    for last in (5, 10, 20, 40, 80, 160):
        monkeypatch.setattr("careloop.imaging.restore.blur.MOST_ROUNDS", last)
        rounds.append(rmse(richardson_lucy(seen, psf, 0.0), picture()))  # without noise later rounds are taken
    assert found < 1.03 * min(rounds) < 0.95 * max(rounds)
    even = np.full((32, 32), 5.0)
    np.testing.assert_array_equal(richardson_lucy(even, psf, 1.0), even)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gaussian_psf(0), "above 0"),
        (lambda: motion_psf(math.inf, 0), "above 0"),
        (lambda: blurred(picture(), np.ones((2, 2))), "odd numbers"),
        (lambda: blurred(picture()[None], np.ones((3, 3))), "rows, columns"),
        (lambda: blurred(np.ones((4, 4)), np.ones((5, 5))), "fit into"),
        (lambda: downsampled(picture(), 1), "at least 2"),
    ],
)
def test_wrong_input_is_refused(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]
