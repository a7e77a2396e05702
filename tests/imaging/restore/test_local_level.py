"""Noise levels over several steps: the closed form for smoothed noise, any shape, and edges that count little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from careloop.imaging.restore.local_level import LEVEL_STEPS, local_level, local_levels


def noise(width: float, seed: int = 0) -> np.ndarray:
    """Of variance 1, white where the width is 0."""
    drawn = np.random.default_rng(seed).standard_normal((512, 512))
    if width:
        drawn = gaussian_filter(drawn, width, mode="wrap", truncate=8)
    return drawn / drawn.std()


def closed_form(width: float, step: int) -> float:
    """What second differences over a step see of white noise that was smoothed by a Gaussian.

    Along each axis their variance is 6 - 8 r(step) + 2 r(2 step) with r the noise's autocorrelation, and 6 where white.
    """
    x = np.arange(-40, 41)
    kernel = np.exp(-(x**2) / 2 / width**2) if width else (x == 0).astype(float)
    r = np.correlate(kernel, kernel, "full")[len(x) - 1 :] / (kernel @ kernel)
    return float((6 - 8 * r[step] + 2 * r[2 * step]) / 6)


@pytest.mark.parametrize("width", [0, 0.7, 1, 1.5])
def test_each_step_sees_what_the_correlation_of_the_noise_leaves_it(width: float) -> None:
    found = local_levels(0.1 * noise(width))
    for level, step in zip(found, LEVEL_STEPS, strict=True):
        assert np.median(level) == pytest.approx(0.1 * closed_form(width, step), rel=0.05)


def test_the_widest_step_tells_the_strength_of_smooth_noise_and_the_finest_does_not() -> None:
    levels = [float(np.median(level)) for level in local_levels(noise(1.5))]
    assert levels[-1] == pytest.approx(1, rel=0.25)
    assert levels[0] < 0.15


def test_outlines_count_little_and_noise_is_told_place_by_place() -> None:
    plane = np.zeros((256, 256))
    plane[:, 128:] = 1
    strength = np.where(np.arange(256)[:, None] < 128, 0.01, 0.04)
    for level in local_levels(plane + strength * noise(0)[:256, :256]):
        for rows, truth in ((slice(16, 112), 0.01), (slice(144, 240), 0.04)):
            assert np.median(level[rows]) == pytest.approx(truth, rel=0.1)
            assert level[rows].max() < 2 * truth


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), scale=st.floats(1e-3, 1e3))
def test_planes_of_any_shape_have_levels_that_scale_with_them(rows: int, columns: int, scale: float) -> None:
    plane = np.random.default_rng(rows).random((rows, columns))
    found = local_levels(plane)
    assert found.shape == (len(LEVEL_STEPS), rows, columns)
    assert np.isfinite(found).all()
    assert np.allclose(local_levels(scale * plane), scale * found, rtol=1e-4, atol=1e-6 * scale)


def test_a_network_of_fewer_maps_is_given_the_finest() -> None:
    plane = noise(1)[:64, :64]
    assert np.array_equal(local_levels(plane, 1)[0], local_level(plane))
    assert np.array_equal(local_levels(plane, 1), local_levels(plane)[:1])
