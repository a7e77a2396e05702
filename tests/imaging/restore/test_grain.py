"""Noise that is what the network was told passes; other noise, and structure that was taken out, do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from careloop.imaging.restore.grain import check_grain, grain_of

RNG = np.random.default_rng(0)
IMAGE = 0.3 + 0.4 * (gaussian_filter(RNG.standard_normal((128, 128)), 6) > 0)
LEVEL = 0.08


def checks(taken_out: np.ndarray) -> list[str]:
    grain = grain_of(IMAGE + taken_out, IMAGE, LEVEL)
    assert grain is not None
    return [finding.message for finding in check_grain([grain])]


def test_white_noise_of_the_stated_level_passes() -> None:
    assert checks(LEVEL * RNG.standard_normal(IMAGE.shape)) == []


@pytest.mark.parametrize("factor", [0.4, 2.0])
def test_another_level_is_refused(factor: float) -> None:
    assert "times as strong" in checks(factor * LEVEL * RNG.standard_normal(IMAGE.shape))[0]


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
    assert grain_of(np.zeros((64, 64)), np.zeros((64, 64)), LEVEL) is None
    assert check_grain([]) == []
