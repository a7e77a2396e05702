"""The upright grid of a tilted volume against SciPy's interpolation, and labels there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from careloop import InputError
from careloop.imaging.upright import tilted, upright
from careloop.imaging.volume import LabelMap, Segment, Volume, is_upright


def sheared(rng: np.random.Generator, shear: tuple[float, float], shape: tuple[int, int, int]) -> Volume:
    """A random volume whose slices are moved by `shear` voxels (rows, columns) each."""
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    spacing = rng.uniform(0.5, 4, 3)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 0] += shear[0] * affine[:3, 1] + shear[1] * affine[:3, 2]
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return Volume(rng.normal(size=shape).astype(np.float32), affine, "MR")


def by_scipy(volume: Volume, grid: Volume, fill: float) -> NDArray[np.float32]:
    """The volume's values at the voxels of another grid, trilinear, `fill` blending in outside as an upright grid's."""
    to_source = np.linalg.inv(volume.affine) @ grid.affine
    values: NDArray[np.float32] = affine_transform(
        volume.voxels, to_source[:3, :3], to_source[:3, 3], grid.voxels.shape, order=1, mode="grid-constant", cval=fill
    )
    return values


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-3, 3), st.integers(1, 6))
def test_upright_values_are_those_of_scipy_at_the_same_places(seed: int, down: float, across: float, n: int) -> None:
    volume = sheared(np.random.default_rng(seed), (down, across), (n, 5, 7))
    result = upright(volume)
    assert is_upright(result.affine)
    if result is not volume:
        np.testing.assert_allclose(result.voxels, by_scipy(volume, result, float(volume.voxels.min())), atol=1e-3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-3, 3))
def test_every_voxel_of_the_tilted_grid_lies_within_the_upright_one(seed: int, down: float, across: float) -> None:
    volume = sheared(np.random.default_rng(seed), (down, across), (5, 4, 6))
    result = upright(volume)
    index = np.stack(np.meshgrid(*map(np.arange, (5, 4, 6)), indexing="ij"), axis=-1).reshape(-1, 3)
    places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = (places - result.affine[:3, 3]) @ np.linalg.inv(result.affine[:3, :3]).T
    assert (back > -1e-3).all()
    assert (back < np.array(result.voxels.shape) - 1 + 1e-3).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-3, 3))
def test_labels_come_back_from_the_nearest_upright_voxel(seed: int, down: float, across: float) -> None:
    rng = np.random.default_rng(seed)
    volume = sheared(rng, (down, across), (5, 4, 6))
    grid = upright(volume)
    labels = LabelMap(rng.integers(0, 9, grid.voxels.shape).astype(np.uint8), grid.affine, (Segment(1, "a"),))
    back = tilted(labels, volume)
    np.testing.assert_array_equal(back.affine, volume.affine)
    index = np.argwhere(np.ones((5, 4, 6), bool))
    places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    nearest = np.floor((places - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T + 0.5 + 1e-6).astype(int)
    wanted = labels.labels[tuple(nearest.T)].reshape(5, 4, 6)
    assert (back.labels != wanted).mean() < 0.01  # only where a voxel lies halfway, up to rounding


@pytest.mark.parametrize("shear", [(2.0, 0.0), (-1.0, 3.0)])
def test_whole_shifts_lose_nothing(shear: tuple[float, float]) -> None:
    volume = sheared(np.random.default_rng(0), shear, (6, 5, 7))
    grid = upright(volume)
    numbered = (np.arange(6 * 5 * 7).reshape(6, 5, 7) % 250 + 1).astype(np.uint8)
    on_grid = upright(Volume(numbered, volume.affine))
    back = tilted(LabelMap(on_grid.voxels, grid.affine, ()), volume)
    np.testing.assert_array_equal(back.labels, numbered)


def test_outside_of_a_ct_is_air_and_of_others_the_lowest_value() -> None:
    volume = sheared(np.random.default_rng(0), (1.5, 0.0), (4, 5, 6))
    bone = (np.abs(volume.voxels) * 500 - 1200).astype(np.int16)
    ct = upright(Volume(bone, volume.affine, "CT", "[hnsf'U]"))
    assert ct.voxels[0, -1, 0] == -1024
    assert ct.voxels.dtype == np.int16
    soft = (np.abs(volume.voxels) * 100 - 200).astype(np.int16)
    assert upright(Volume(soft, volume.affine, "CT", "[hnsf'U]")).voxels[0, -1, 0] == soft.min()
    assert upright(volume).voxels[0, -1, 0] == volume.voxels.min()
    assert [f.check for f in ct.findings] == ["gantry tilt"]


def test_upright_volumes_and_their_labels_stay_as_they_are() -> None:
    volume = Volume(np.zeros((2, 3, 4)), np.diag([3.0, 1, 1, 1]))
    labels = LabelMap(np.zeros((2, 3, 4), np.uint8), volume.affine, ())
    assert upright(volume) is volume
    assert tilted(labels, volume) is labels


def test_colour_is_moved_too() -> None:
    volume = sheared(np.random.default_rng(0), (1.5, 0.0), (4, 5, 6))
    colour = Volume(np.stack([volume.voxels] * 3, axis=-1), volume.affine)
    np.testing.assert_allclose(upright(colour).voxels[..., 1], upright(volume).voxels, atol=1e-6)


def test_grids_that_are_skewed_in_plane_and_labels_elsewhere_are_told() -> None:
    volume = sheared(np.random.default_rng(0), (1.5, 0.0), (4, 5, 6))
    skewed = volume.affine.copy()
    skewed[:3, 2] += 0.2 * skewed[:3, 1]
    with pytest.raises(InputError, match="right angle"):
        upright(Volume(volume.voxels, skewed))
    with pytest.raises(InputError, match="upright grid"):
        tilted(LabelMap(np.zeros((4, 5, 6), np.uint8), volume.affine, ()), volume)
