"""Noise that is what the network was told passes; other noise, and structure that was taken out, do not."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter

from careloop.imaging.restore.grain import Grain, check_grain, grain_of
from careloop.imaging.restore.model import shipped
from careloop.imaging.restore.run import PlaneRestorer, RestoredPlane

RNG = np.random.default_rng(0)
IMAGE = 0.3 + 0.4 * (gaussian_filter(RNG.standard_normal((128, 128)), 6) > 0)
LEVEL = 0.08


def grain(taken_out: np.ndarray, expected_error: float = 0.0) -> Grain:
    found = grain_of(IMAGE + taken_out, RestoredPlane(IMAGE, np.full(IMAGE.shape, expected_error)), LEVEL)
    assert found is not None
    return found


def checks(taken_out: np.ndarray) -> list[str]:
    return [finding.message for finding in check_grain([grain(taken_out)])]


@pytest.fixture(scope="module")
def slice_and_restorer() -> tuple[np.ndarray, PlaneRestorer]:
    """A real CT slice of pydicom's with next to no noise of its own, held out of training, and the shipped network."""
    path = get_testdata_file("CT_small.dcm", download=False)
    hu = dcmread(path).pixel_array.astype(np.float32) - 1024
    return (np.clip(hu, -1000, 1000) + 1000) / 2000, PlaneRestorer(shipped("gaussian noise"), device="cpu", threads=1)


def test_white_noise_of_the_stated_level_passes() -> None:
    assert checks(LEVEL * RNG.standard_normal(IMAGE.shape)) == []


@pytest.mark.parametrize(("factor", "way"), [(0.4, "lower"), (2.0, "higher")])
def test_another_level_is_refused(factor: float, way: str) -> None:
    message = checks(factor * LEVEL * RNG.standard_normal(IMAGE.shape))[0]
    assert "times as strong" in message
    assert way in message


def test_noise_that_is_expected_to_be_left_in_counts() -> None:
    """Gaussian errors of standard deviation s are sqrt(2 / pi) s in size on average; 0.6 and 0.8 make up 1."""
    made = grain(0.6 * LEVEL * RNG.standard_normal(IMAGE.shape), 0.8 * LEVEL * np.sqrt(2 / np.pi))
    assert made.taken == pytest.approx(0.6, rel=0.05)
    assert made.found == pytest.approx(1.0, rel=0.05)
    assert check_grain([made]) == []


@pytest.mark.parametrize("sigma", [3, 5, 10, 25, 50])
def test_white_noise_is_found_whole_at_every_level(
    slice_and_restorer: tuple[np.ndarray, PlaneRestorer], sigma: int
) -> None:
    """Though of little noise a network takes out only a part."""
    clean, restorer = slice_and_restorer
    level = sigma / 255
    noisy = (clean + level * np.random.default_rng(sigma).standard_normal(clean.shape)).astype(np.float32)
    found = grain_of(noisy, restorer(noisy, level), level)
    assert found is not None
    assert 0.85 <= found.found <= 1.15
    assert check_grain([found]) == []


def test_a_network_told_twice_the_level_is_refused(slice_and_restorer: tuple[np.ndarray, PlaneRestorer]) -> None:
    clean, restorer = slice_and_restorer
    level = 15 / 255
    noisy = (clean + level * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    found = grain_of(noisy, restorer(noisy, 2 * level), 2 * level)
    assert found is not None
    assert ["lower level" in finding.message for finding in check_grain([found])] == [True]


def test_correlated_noise_is_refused() -> None:
    noise = gaussian_filter(RNG.standard_normal(IMAGE.shape), 1)
    assert "correlated between neighbouring pixels" in checks(LEVEL * noise / noise.std())[0]


def test_structure_that_was_taken_out_is_refused() -> None:
    edges = IMAGE - gaussian_filter(IMAGE, 1.5)
    signs = RNG.choice([-1, 1], IMAGE.shape)
    assert any(
        "follows the outlines" in text for text in checks(signs * edges * 1.5 + 0.03 * RNG.standard_normal(IMAGE.shape))
    )


def test_an_image_of_background_alone_says_nothing() -> None:
    nothing = np.zeros((64, 64))
    assert grain_of(nothing, RestoredPlane(nothing, nothing), LEVEL) is None
    assert check_grain([]) == []
