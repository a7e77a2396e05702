"""Diameters against every pair of points of the mesh, and closed forms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from careloop.imaging.measure.diameter import in_plane_diameters, longest_diameter, outermost

masks = arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)).filter(np.any)
steps = st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3)


def mesh_points(mask: NDArray[np.bool_], step: tuple[float, ...]) -> NDArray[np.float64]:
    """Where the mesh cuts the lines between neighbouring voxel centres, found voxel by voxel."""
    padded = np.pad(mask, 1)
    points = []
    for place in np.argwhere(padded):
        for axis in range(mask.ndim):
            for way in (-1, 1):
                neighbour = place.copy()
                neighbour[axis] += way
                if not padded[tuple(neighbour)]:
                    points.append((place + neighbour) / 2 * step)
    return np.array(points)


def farthest(points: NDArray[np.float64]) -> float:
    return max(float(np.linalg.norm(a - b)) for a, b in combinations(points, 2))


@given(masks, steps)
@settings(max_examples=50, deadline=None)
def test_every_pair_of_points(mask: NDArray[np.bool_], step: tuple[float, ...]) -> None:
    assert longest_diameter(mask, np.diag(step)) == pytest.approx(farthest(mesh_points(mask, step)))


@given(masks, steps)
@settings(max_examples=50, deadline=None)
def test_every_pair_of_points_of_every_slice(mask: NDArray[np.bool_], step: tuple[float, ...]) -> None:
    found = in_plane_diameters(mask, np.diag(step))
    slices = [farthest(mesh_points(plane, step[1:])) for plane in mask if plane.any()]
    assert found.long_axis_mm == pytest.approx(max(slices))
    assert 0 < found.short_axis_mm <= found.long_axis_mm + 1e-9


def test_an_ellipse_has_its_axes_whichever_way_it_lies() -> None:
    y, x = np.indices((121, 121)) - 60
    for turn in np.deg2rad([0, 20, 45, 70]):
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        mask = ((u / 50) ** 2 + (v / 20) ** 2 <= 1)[None]
        found = in_plane_diameters(mask, np.diag([3.0, 0.5, 0.5]))
        assert found.long_axis_mm == pytest.approx(50, abs=0.6)
        assert found.short_axis_mm == pytest.approx(20, abs=0.6)


def test_the_slice_with_the_longest_is_named() -> None:
    mask = np.zeros((4, 9, 9), dtype=bool)
    mask[1, 4, 2:7], mask[3, 1:8, 1:4] = True, True
    found = in_plane_diameters(mask, np.eye(3))
    assert found.slice == 3
    assert found.long_axis_mm == pytest.approx(np.hypot(7, 2))


def test_a_sheared_grid_is_measured_in_its_own_plane() -> None:
    axes = np.diag([2.0, 1.0, 1.0])
    axes[1, 0] = 0.8
    mask = np.ones((3, 1, 1), dtype=bool)
    assert longest_diameter(mask, axes) == pytest.approx(np.linalg.norm([3 * 2, 3 * 0.8]))
    assert in_plane_diameters(mask, axes).long_axis_mm == pytest.approx(1.0)


def test_an_empty_mask_has_no_diameter() -> None:
    empty = np.zeros((2, 3, 4), dtype=bool)
    assert longest_diameter(empty, np.eye(3)) == in_plane_diameters(empty, np.eye(3)).long_axis_mm == 0


def test_few_voxels_of_a_large_mask_are_outermost() -> None:
    z, y, x = np.indices((41, 41, 41)) - 20
    mask = x**2 + y**2 + z**2 <= 400
    assert len(outermost(mask)) < mask.sum() / 10


def test_the_phantom_of_the_ibsi(phantom) -> None:  # type: ignore[no-untyped-def]
    # 79.25 and 13.11 are also pyradiomics 3.0.1's.
    assert longest_diameter(phantom.mask, phantom.axes_mm) == pytest.approx(13.114877)
    random = np.random.default_rng(0).random((20, 21, 22)) < 0.5
    assert longest_diameter(random, np.diag([1.0, 2.0, 3.0])) == pytest.approx(79.2464510246)
