"""Preparation of images against pillow's and torch's resampling, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from careloop import InputError
from careloop.imaging.classify.model import InputFormat, Intensities
from careloop.imaging.classify.prepare import LUMA, prepare, prepare_array
from careloop.imaging.volume import Volume

EIGHT_BITS = Intensities("range", 0, 255)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90), size=st.integers(1, 60))
def test_pictures_are_resampled_as_by_pillow_and_padded_with_zeros(rows: int, columns: int, size: int) -> None:
    pixels = noise(rows, columns)
    found = prepare_array(pixels, InputFormat((size, size), intensities=EIGHT_BITS))[0]
    longest = max(rows, columns)
    high, wide = (max(1, round(length * size / longest)) for length in (rows, columns))
    grey = Image.fromarray(pixels.astype(np.float32) / 255)
    expected = np.zeros((size, size), np.float32)
    top, left = (size - high) // 2, (size - wide) // 2
    expected[top : top + high, left : left + wide] = np.asarray(grey.resize((wide, high), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_pictures_are_resampled_as_by_torch_with_antialiasing() -> None:
    pixels = noise(70, 70)
    found = prepare_array(pixels, InputFormat((28, 28), intensities=EIGHT_BITS))
    peer = torch.nn.functional.interpolate(
        torch.from_numpy(pixels / np.float32(255))[None, None], (28, 28), mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(found, peer[0], atol=2e-6)


def test_averages_of_whole_blocks_are_kept_in_space() -> None:
    """Twice as fine: the triangle covers 4 voxels with weights 1, 3, 3, 1."""
    line = np.arange(8.0) ** 2
    found = prepare_array(
        np.broadcast_to(line, (8, 8, 8)), InputFormat((4, 4, 4), intensities=Intensities("range", 0, 49))
    )
    inner = [(line[2 * i - 1] + 3 * line[2 * i] + 3 * line[2 * i + 1] + line[2 * i + 2]) / 8 for i in (1, 2)]
    np.testing.assert_allclose(found[0, 2, 2, 1:3] * 49, inner, rtol=1e-5)


def test_proportions_are_those_in_mm() -> None:
    """8 slices of 4 mm are as thick as 16 rows of 2 mm are high: the box is filled along both."""
    image = Volume(np.full((8, 16, 8), 100, np.int16), np.diag([4.0, 2.0, 2.0, 1.0]))
    found = prepare(image, InputFormat((16, 16, 16), intensities=Intensities("window", 0, 100)))[0]
    assert found.shape == (16, 16, 16)
    assert np.all(found[:, :, 4:12] == 1)
    assert np.all(found[:, :, :4] == 0)
    assert np.all(found[:, :, 12:] == 0)


def test_a_fixed_spacing_keeps_the_scale_and_cuts_evenly() -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[18:22, 18:22] = 255
    found = prepare_array(pixels, InputFormat((8, 60), intensities=EIGHT_BITS, spacing_mm=(1, 1)), spacing_mm=(1, 1))
    assert found.shape == (1, 8, 60)
    assert found[0, 2:6, 28:32].min() == 1
    assert found.sum() == 16


def test_a_placed_volume_is_turned_to_the_formats_orientation() -> None:
    voxels = np.zeros((6, 6, 6), np.uint8)
    voxels[5, 0, 0] = 255
    towards_spl = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    turned = towards_spl @ np.array([[-1, 0, 0, 5], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    wanted = InputFormat((6, 6, 6), intensities=EIGHT_BITS, orientation="SPL")
    upright = prepare(Volume(voxels, towards_spl), wanted)
    assert upright[0, 5, 0, 0] == 1
    other = np.flip(voxels, 0).transpose(0, 2, 1)
    np.testing.assert_array_equal(prepare(Volume(other, turned), wanted), upright)


def test_colour_and_grey() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert prepare_array(red, InputFormat((4, 4), 1, EIGHT_BITS)).max() == pytest.approx(LUMA[0])
    both = InputFormat((4, 4), 3, EIGHT_BITS, mean=(0.5, 0.25, 0), std=(0.5, 0.5, 2))
    np.testing.assert_allclose(prepare_array(red, both)[:, 0, 0], [1, -0.5, 0])
    np.testing.assert_allclose(prepare_array(red[..., 0], both)[:, 0, 0], [1, 1.5, 0.5])


def test_torchxrayvisions_range() -> None:
    from careloop.imaging.classify.foreign_settings import TORCHXRAYVISION

    pixels = np.repeat(np.array([[0], [255]], np.uint8), 2, axis=1).repeat(112, 0).repeat(112, 1)
    found = prepare_array(pixels, TORCHXRAYVISION)
    assert (found.min(), found.max()) == (-1024, 1024)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("how", [Intensities(), Intensities("window", 0, 10), Intensities("range", 0, 9)])
def test_values_that_are_not_finite_count_as_the_lowest(value: float, how: Intensities) -> None:
    pixels = np.arange(9.0).reshape(3, 3) + 1
    pixels[1, 1] = value
    found = prepare_array(pixels, InputFormat((3, 3), intensities=how))
    assert np.isfinite(found).all()
    assert found[0, 1, 1] == 0


def test_a_constant_image_is_dark_by_its_percentiles() -> None:
    assert not prepare_array(np.full((5, 5), 7), InputFormat((5, 5))).any()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 4)), "takes 2 axes"),
        (np.zeros((4, 0)), "takes 2 axes"),
        (np.full((4, 4), 256), "values of 0 to 255, got 256 to 256"),
        (np.full((4, 4), -1), "values of 0 to 255, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_array(pixels, InputFormat((4, 4), intensities=EIGHT_BITS))


def test_several_slices_are_no_picture() -> None:
    with pytest.raises(InputError, match="one slice, got 2"):
        prepare(Volume(np.zeros((2, 4, 4), np.uint8), np.eye(4)), InputFormat((4, 4)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (4,)},
        {"size": (4, 0)},
        {"channels": 2},
        {"mean": (0, 0)},
        {"std": (0,)},
        {"spacing_mm": (1, 1, 1)},
        {"orientation": "SPX"},
        {"orientation": "SIL"},
    ],
)
def test_a_format_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        InputFormat(**{"size": (4, 4)} | wrong)
    with pytest.raises(InputError):
        Intensities("window", 5, 5)
