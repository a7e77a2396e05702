"""Separable splines give scipy's values on every kind of grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, zoom

from careloop.imaging.segment.resample import (
    Axis,
    Resampling,
    axis_between,
    nearest,
    resample,
    resample_axis,
    resampled_shape,
    separate_axis,
    taps,
)

ROUNDING = 2e-6  # float32 of values around 1

lengths = st.integers(1, 40)


def between(old: tuple[int, int, int], new: tuple[int, int, int], order: int) -> Resampling:
    z, y, x = (axis_between(a, b, ratio=1.0, grid="cells", order=order) for a, b in zip(old, new, strict=True))
    return Resampling((z, y, x))


@settings(deadline=None, max_examples=40)
@given(st.tuples(lengths, lengths, lengths), st.tuples(lengths, lengths, lengths), st.sampled_from([1, 3]))
def test_cells_are_resampled_as_scipy_zooms_in_grid_mode(
    old: tuple[int, int, int], new: tuple[int, int, int], order: int
) -> None:
    image = np.random.default_rng(0).normal(size=old).astype(np.float32)
    factors = [b / a for a, b in zip(old, new, strict=True)]
    expected = zoom(image.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    expected = np.clip(expected, image.min(), image.max())  # as skimage.transform.resize does
    np.testing.assert_allclose(resample(image, between(old, new, order)), expected, atol=8 * ROUNDING)


@settings(deadline=None, max_examples=40)
@given(lengths, st.integers(2, 40))
def test_corners_are_resampled_as_scipy_zooms(old: int, new: int) -> None:
    line = np.random.default_rng(0).normal(size=old)
    axis = axis_between(old, new, ratio=1.0, grid="corners", order=3)
    ours = resample_axis(line.astype(np.float32)[:, None, None], 0, axis)[:, 0, 0]
    # Its default mode is the same, but makes the last voxel 0 where its place is rounded to just beyond the image.
    np.testing.assert_allclose(ours, zoom(line, new / old, order=3, mode="mirror"), atol=8 * ROUNDING)


@settings(deadline=None, max_examples=40)
@given(lengths, st.floats(0.2, 5))
def test_points_lie_at_the_exact_spacing_from_the_first_voxel(old: int, ratio: float) -> None:
    new = resampled_shape((old,) * 3, (1.0,) * 3, (ratio,) * 3, "points")[0]
    line = np.random.default_rng(0).normal(size=old)
    axis = axis_between(old, new, ratio=ratio, grid="points", order=1)
    expected = map_coordinates(line, [np.arange(new) * ratio], order=1, mode="nearest")
    ours = resample_axis(line.astype(np.float32)[:, None, None], 0, axis)[:, 0, 0]
    np.testing.assert_allclose(ours, expected, atol=4 * ROUNDING)


@settings(deadline=None, max_examples=40)
@given(lengths, lengths, st.sampled_from([0, 1]))
def test_taps_are_the_same_interpolation(old: int, new: int, order: int) -> None:
    axis = axis_between(old, new, ratio=1.0, grid="cells", order=order)
    line = np.random.default_rng(0).normal(size=old).astype(np.float32)
    t = taps(axis)
    ours = line[t.first] * (1 - t.weight) + line[t.second] * t.weight
    np.testing.assert_allclose(ours, resample_axis(line[:, None, None], 0, axis)[:, 0, 0], atol=ROUNDING)
    assert (np.diff(t.second) >= 0).all()
    assert (t.second - t.first <= 1).all()


@settings(deadline=None, max_examples=40)
@given(lengths, lengths)
def test_nearest_falls_as_in_nnunets_mgrid(old: int, new: int) -> None:
    places = old / new * (np.arange(new) + 0.5) - 0.5
    expected = map_coordinates(np.arange(old, dtype=float), [places], order=0, mode="nearest")
    np.testing.assert_array_equal(nearest(axis_between(old, new, ratio=1.0, grid="cells", order=0)), expected)


def test_unchanged_grid_is_returned_as_it_is() -> None:
    image = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    assert resample(image, between((3, 4, 5), (3, 4, 5), 3)) is image
    assert Axis(5, 5, 1.0, 0.0, 3).is_identity
    assert not Axis(5, 5, 1.01, 0.0, 3).is_identity


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 1, 4), 2),
        ((3, 1, 1), (1, 1, 1), None),  # must exceed the threshold
        ((5, 5, 1), (1, 1, 1), None),  # two coarse axes
        ((5, 5, 1), (9, 1, 1), None),  # the first spacing decides
    ],
)
def test_axis_that_is_kept_apart(old: tuple[float, ...], new: tuple[float, ...], expected: int | None) -> None:
    assert separate_axis(old, new, 3.0) == expected


def test_shape_rounds_halves_to_even_as_numpy_and_python_do() -> None:
    assert resampled_shape((255, 253, 3), (1.0, 1.0, 1.0), (2.0, 2.0, 9.0), "cells") == (128, 126, 1)
