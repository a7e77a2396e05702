"""Texture against the IBSI's published values, counts against plain loops, and resampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import label

from careloop import InputError
from careloop.imaging.measure.texture.features import FAMILIES, texture_features
from careloop.imaging.measure.texture.grid import (
    MARGIN_VOXELS,
    Bins,
    Crop,
    TextureSettings,
    levels_in_space,
    settings_for,
)
from careloop.imaging.measure.texture.matrices import (
    DIRECTIONS,
    cooccurrence,
    dependence,
    run_lengths,
    tone_difference,
    zones,
)

Levels = NDArray[np.int32]
levels_with_voxels = arrays(np.int32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 3)).filter(np.any)
quick = settings(max_examples=40, deadline=None)


def test_every_published_value_of_the_digital_phantom(phantom: Any, is_reference: Callable[..., bool]) -> None:
    found = texture_features(np.where(phantom.mask, phantom.voxels, 0).astype(np.int32))
    names = [f"{family}_{name}" for family, features in FAMILIES.items() for name, *_ in features]
    published = phantom.reference.filter(pl.col("quantity").is_in(names))
    assert len(published) == len(found) == len(names) == 94
    wrong = [
        (name, found[name], value)
        for name, value in published.select("quantity", "phantom").iter_rows()
        if not is_reference(found[name], value, None)
    ]
    assert not wrong


def neighbours(levels: Levels, place: tuple[int, ...]) -> list[int]:
    """Levels of the neighbours that lie in the structure."""
    padded = np.pad(levels, 1)
    cube = padded[tuple(slice(at, at + 3) for at in place)].ravel()
    return [int(value) for n, value in enumerate(cube) if n != 13 and value]


@given(levels_with_voxels)
@quick
def test_counts_of_neighbours(levels: Levels) -> None:
    pairs, alike = Counter(), Counter()
    apart: dict[int, list[float]] = {}
    for place in zip(*np.nonzero(levels), strict=True):
        own, around = int(levels[place]), neighbours(levels, place)
        pairs.update((own, other) for other in around)
        alike[own, 1 + around.count(own)] += 1
        if around:
            apart.setdefault(own, []).append(abs(own - float(np.mean(around))))
    found = cooccurrence(levels)
    assert {(i + 1, j + 1): n for (i, j), n in np.ndenumerate(found) if n} == pairs
    assert {(i + 1, j + 1): n for (i, j), n in np.ndenumerate(dependence(levels)) if n} == alike
    many, differences = tone_difference(levels)
    assert {i + 1: n for i, n in enumerate(many) if n} == {level: len(each) for level, each in apart.items()}
    for level, each in apart.items():
        assert differences[level - 1] == pytest.approx(sum(each))


@given(levels_with_voxels)
@quick
def test_counts_of_runs(levels: Levels) -> None:
    runs: Counter[tuple[int, int]] = Counter()
    padded = np.pad(levels, 1)
    for step in DIRECTIONS:
        for place in np.argwhere(padded):
            level, length = padded[tuple(place)], 1
            if padded[tuple(place - step)] == level:
                continue
            while padded[tuple(place + length * np.array(step))] == level:
                length += 1
            runs[int(level), length] += 1
    assert {(i + 1, j + 1): n for (i, j), n in np.ndenumerate(run_lengths(levels)) if n} == runs


@given(levels_with_voxels)
@quick
def test_zones_are_the_parts_of_each_level(levels: Levels) -> None:
    of_voxel, level = zones(levels)
    found = Counter((int(level[zone]), int(size)) for zone, size in Counter(of_voxel.tolist()).items())
    expected: Counter[tuple[int, int]] = Counter()
    for value in np.unique(levels[levels > 0]):
        parts, _ = label(levels == value, np.ones((3, 3, 3)))
        expected.update((int(value), int(size)) for size in np.bincount(parts.ravel())[1:])
    assert found == expected


@given(levels_with_voxels, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@quick
def test_a_turned_or_mirrored_structure_has_the_same_texture(
    levels: Levels, order: list[int], flips: tuple[bool, ...]
) -> None:
    turned = np.flip(levels.transpose(order), [axis for axis, flip in enumerate(flips) if flip])
    assert texture_features(turned) == pytest.approx(texture_features(levels), nan_ok=True)


@given(levels_with_voxels)
@quick
def test_features_are_numbers(levels: Levels) -> None:
    assert all(np.isfinite(value) for value in texture_features(levels).values())


def test_a_single_voxel_has_no_neighbours_to_compare() -> None:
    found = texture_features(np.array([[[3]]], dtype=np.int32))
    assert not any(name.startswith(("glcm", "ngtdm")) for name in found)
    assert found["glszm_high_grey_level_zone_emphasis"] == 9


def test_bins() -> None:
    values = np.array([-1000.0, -975.1, -975.0, 0.0, 24.9])
    assert Bins.of(values, settings_for("[hnsf'U]")).levels(values).tolist() == [1, 1, 2, 41, 41]
    numbers = np.array([10.0, 12.4, 12.5, 15.0, 20.0])
    assert Bins.of(numbers, TextureSettings(bins=4)).levels(numbers).tolist() == [1, 1, 2, 3, 4]
    assert Bins.of(numbers[:1], TextureSettings(bins=4)).levels(numbers[:1]).tolist() == [1]
    assert Bins.of(numbers, TextureSettings(bin_size=5)).levels(numbers).tolist() == [1, 1, 1, 2, 3]


def test_too_many_bins_are_refused() -> None:
    voxels = np.arange(27.0).reshape(3, 3, 3) * 1000
    with pytest.raises(InputError, match=r"bin_size 1 makes 26001 bins of this image, at most 2048 .* choose a larger"):
        levels_in_space(voxels, voxels >= 0, np.eye(3), TextureSettings(bin_size=1, spacing_mm=None))


def test_voxels_out_of_range_are_left_out() -> None:
    voxels = np.array([[[-50.0, 10, np.nan, 30, 90]]])
    settings_ = TextureSettings(spacing_mm=None, bin_size=10, low=0, high=50)
    assert levels_in_space(voxels, voxels == voxels, np.eye(3), settings_).tolist() == [[[2, 0, 4]]]
    nothing = levels_in_space(voxels, voxels > 80, np.eye(3), settings_)
    assert nothing.size == 0


def test_resampling_a_ramp_gives_its_values_at_the_new_places() -> None:
    z = np.arange(10.0)
    voxels = np.broadcast_to(z[:, None, None], (10, 8, 8)).copy()
    levels = levels_in_space(voxels, voxels >= 0, np.diag([3.0, 2.0, 2.0]), TextureSettings(bin_size=0.25, low=0.0))
    assert levels.shape == (15, 8, 8)
    # Centres of both grids agree: new slices lie at 4.5 + (k - 7) * 2 / 3 of the old ones.
    expected = np.clip(4.5 + (np.arange(15) - 7) * 2 / 3, 0, 9)
    np.testing.assert_array_equal(levels[:, 0, 0], np.floor(expected.astype(np.float32) / 0.25) + 1)


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 3.3])
def test_a_part_of_the_image_gives_what_the_whole_does(spacing_mm: float) -> None:
    random = np.random.default_rng(3)
    voxels = random.normal(0, 100, (14, 17, 19)).astype(np.float32)
    z, y, x = np.indices(voxels.shape)
    mask = (z - 6) ** 2 + (y - 9) ** 2 + (x - 11) ** 2 <= 16
    axes, how = np.diag([2.5, 0.9, 0.8]), TextureSettings(bin_size=25, low=-1000, spacing_mm=spacing_mm)
    whole = levels_in_space(voxels, mask, axes, how)
    start = tuple(int(side.min()) - MARGIN_VOXELS for side in np.nonzero(mask))
    box = tuple(
        slice(first, int(side.max()) + 1 + MARGIN_VOXELS) for first, side in zip(start, np.nonzero(mask), strict=True)
    )
    crop = Crop((start[0], start[1], start[2]), (14, 17, 19))
    np.testing.assert_array_equal(levels_in_space(voxels[box], mask[box], axes, how, crop=crop), whole)


def test_a_sheared_grid_becomes_an_upright_one() -> None:
    z, y, x = np.indices((20, 60, 60))
    axes = np.diag([3.0, 1.0, 1.0])
    axes[1, 0] = 1.2  # each slice lies 1.2 mm further on
    ball = ((z - 10) * 3) ** 2 + (y - 30 + (z - 10) * 1.2) ** 2 + (x - 30) ** 2 <= 15**2
    levels = levels_in_space(np.where(ball, 7.0, 0.0), ball, axes, TextureSettings(bins=2, spacing_mm=2))
    assert (levels > 0).sum() * 8 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.03)
    assert levels.shape in {(14, 15, 15), (15, 15, 15)}
