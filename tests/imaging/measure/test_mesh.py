"""Volume and area of the mesh: closed forms, symmetry, and figures of marching cubes in another library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from careloop.imaging.measure import mesh
from careloop.imaging.measure.mesh import cell_counts, mesh_volume_and_area

CUBES = np.eye(3)
masks = arrays(bool, st.tuples(*[st.integers(1, 5)] * 3))


def ball(radius: float) -> NDArray[np.bool_]:
    around = np.arange(-np.ceil(radius) - 1, np.ceil(radius) + 2)
    z, y, x = np.meshgrid(around, around, around)
    return np.asarray(x**2 + y**2 + z**2 <= radius**2)


def test_one_voxel_is_an_octahedron() -> None:
    volume, area = mesh_volume_and_area(np.ones((1, 1, 1), dtype=bool), CUBES)
    assert volume == pytest.approx(1 / 6)
    assert area == pytest.approx(np.sqrt(3))


def test_a_block_is_a_box_without_its_edges_and_corners() -> None:
    a, b, c = 4, 5, 6
    volume, area = mesh_volume_and_area(np.ones((a, b, c), dtype=bool), CUBES)
    # Between the outermost centres a box; half a voxel more on its faces, bevels of 45 degrees along its edges.
    inner, faces, edges = (a - 1) * (b - 1) * (c - 1), (a - 1) * (b - 1) + (b - 1) * (c - 1) + (a - 1) * (c - 1), 12
    assert volume == pytest.approx(inner + faces + edges / 8 + sum(4 * (n - 2) / 8 for n in (a, b, c)) + 8 / 48)
    assert area == pytest.approx(2 * faces + 4 * (a + b + c - 3) * np.sqrt(0.5) + 8 * np.sqrt(3) / 8)


@pytest.mark.parametrize("radius", [10.0, 20.0])
def test_a_ball_has_its_volume_and_the_area_of_its_steps(radius: float) -> None:
    volume, area = mesh_volume_and_area(ball(radius), CUBES * 0.5)
    assert volume == pytest.approx(4 / 3 * np.pi * (radius / 2) ** 3, rel=0.01)
    assert 1 < area / (np.pi * radius**2) < 1.1  # a mesh of binary voxels has steps: its area is some 8 % larger


def test_figures_of_scikit_image(phantom: Any) -> None:
    """`skimage.measure.marching_cubes` 0.26 (lewiner and lorensen alike) at 0.5 of masks with a rim of zeros."""
    assert mesh_volume_and_area(phantom.mask, phantom.axes_mm) == pytest.approx((556.333333, 388.070630))
    z, y, x = np.indices((9, 9, 9)) - 4
    mask = (z**2 + y**2 * 1.5 + x**2 * 0.7 < 14) & ~((z > 0) & (y > 0) & (x > 0))
    # Here some cells' polygons are not flat, and are divided in another way.
    assert mesh_volume_and_area(mask, CUBES) == pytest.approx((195.25, 186.40085), rel=0.005)


@given(masks, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=60, deadline=None)
def test_a_turned_or_mirrored_mask_measures_the_same(
    mask: NDArray[np.bool_], order: list[int], flips: tuple[bool, ...]
) -> None:
    turned = np.flip(mask.transpose(order), [axis for axis, flip in enumerate(flips) if flip])
    steps = np.diag([1.0, 2.0, 3.0])
    turned_steps = np.diag(np.diag(steps)[order])
    assert mesh_volume_and_area(turned, turned_steps) == pytest.approx(mesh_volume_and_area(mask, steps))


@given(masks)
@settings(max_examples=60, deadline=None)
def test_volume_lies_within_the_voxels(mask: NDArray[np.bool_]) -> None:
    volume, area = mesh_volume_and_area(mask, CUBES)
    assert 0 <= volume <= mask.sum() + 1e-9
    assert (area > 0) == mask.any()


def test_a_sheared_grid_keeps_the_volume() -> None:
    sheared = np.diag([2.0, 1.0, 1.0])
    sheared[1, 0] = 0.7
    upright = mesh_volume_and_area(ball(8), np.diag([2.0, 1.0, 1.0]))
    assert mesh_volume_and_area(ball(8), sheared)[0] == pytest.approx(upright[0])
    assert mesh_volume_and_area(ball(8), sheared)[1] > upright[1]


def test_slabs_are_counted_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).random((11, 6, 7)) < 0.5
    whole = cell_counts(mask)
    for voxels in (1, 100, 200):
        monkeypatch.setattr(mesh, "SLAB_VOXELS", voxels)
        np.testing.assert_array_equal(cell_counts(mask), whole)
