"""Implicit shapes and smooth random fields against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from careloop.imaging.phantom.anatomy.lung_tree import branch_occupancy, grow_tree
from careloop.imaging.phantom.anatomy.shapes import (
    Space,
    capsule,
    ellipsoid,
    layer_occupancy,
    occupancy,
    superellipse,
    union,
)
from careloop.imaging.phantom.anatomy.smooth_fields import smooth_field


def space(width_mm: float = 1.0, half: int = 24) -> Space:
    axis = np.arange(-half, half + 1, dtype=np.float32) * np.float32(width_mm)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return Space(x, y, z, width_mm)


def test_the_part_filled_adds_up_to_an_ellipsoids_volume() -> None:
    filled = occupancy(ellipsoid(space(), (0.3, -0.2, 0.1), (18, 11, 14)), 1.0).sum()
    assert filled == pytest.approx(4 / 3 * np.pi * 18 * 11 * 14, rel=0.01)


def test_a_balls_value_is_the_distance_near_its_surface() -> None:
    at = space()
    r = np.sqrt(at.x**2 + at.y**2 + at.z**2)
    f = ellipsoid(at, (0, 0, 0), (15, 15, 15))
    near = np.abs(r - 15) < 3
    assert np.allclose(f[near], (r - 15)[near], atol=0.01)


def test_a_capsules_value_is_the_distance() -> None:
    at = space()
    f = capsule(at, (-8, 0, 0), (8, 0, 0), (4.0, 4.0))
    beyond = np.maximum(np.abs(at.x) - 8, 0)
    assert np.allclose(f, np.sqrt(beyond**2 + at.y**2 + at.z**2) - 4, atol=1e-4)


def test_a_superellipse_of_power_2_is_an_ellipse() -> None:
    at = space()
    f = superellipse(at.x, at.y, 16.0, 10.0, 2.0)
    assert occupancy(f, 1.0)[0].sum() == pytest.approx(np.pi * 160, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 6.0), st.floats(-4.0, 4.0))
def test_a_layer_keeps_its_thickness_however_thin(thickness_mm: float, at_mm: float) -> None:
    f = np.arange(-30, 31, dtype=np.float32) - np.float32(at_mm)
    assert layer_occupancy(f, thickness_mm, 1.0).sum() == pytest.approx(thickness_mm, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.5, 8))
def test_a_blended_union_holds_the_plain_one_and_little_more(a: float, b: float, blend_mm: float) -> None:
    first, second = np.float32([a]), np.float32([b])
    plain, blended = union(first, second), union(first, second, blend_mm=blend_mm)
    assert plain - blend_mm / 4 - 1e-4 <= blended <= plain


def test_boxes_hold_all_points_between_their_corners() -> None:
    at = space(half=10)
    bent = Space(at.x + 1.5 * np.sin(at.y), at.y, at.z + 1.2 * np.cos(at.x), 1.0)
    low, high = np.array([-4.0, -3.0, 2.0]), np.array([3.0, 5.0, 7.5])
    (box,) = bent.boxes(low[None], high[None])
    inside = np.ones(at.x.shape, bool)
    for v, a, b in zip((bent.x, bent.y, bent.z), low, high, strict=True):
        inside &= (v >= a) & (v <= b)
    rest = inside.copy()
    rest[box] = False
    assert inside.any()
    assert not rest.any()
    assert at.boxes(low[None] + 100, high[None] + 100) == [None]


def test_branches_thinner_than_a_voxel_fill_their_share() -> None:
    from careloop.imaging.phantom.anatomy.lung_tree import Branch

    for radius in (0.4, 0.8, 3.0):
        branch = Branch((-15.0, 0.3, 0.2), (15.0, 0.3, 0.2), (radius, radius))
        filled = branch_occupancy(space(), [branch])[:, :, 24].sum()
        assert filled == pytest.approx(np.pi * radius**2, rel=0.25)


def test_a_tree_reaches_all_points_and_its_radii_follow_murray() -> None:
    points = np.random.default_rng(0).uniform(-40, 40, (300, 3))
    branches = grow_tree(points, (0.0, 0.0, 60.0), 6.0)
    ends = np.array([b.end for b in branches])
    nearest = np.linalg.norm(points[:, None] - ends[None], axis=2).min(axis=1)
    assert nearest.max() < 16
    assert branches[0].radii_mm[0] == 6.0
    children = [b for b in branches if b.start == branches[0].end]
    assert sum(c.radii_mm[0] ** 3 for c in children) == pytest.approx(6.0**3, rel=1e-6)


def test_a_smooth_field_is_the_tensor_product_spline_that_scipy_makes() -> None:
    field = smooth_field(np.random.default_rng(1), 10.0, low=(-20, -20, -20), high=(20, 20, 20))
    z, y, x = np.array([-3.0, 7.5]), np.array([1.0]), np.array([-12.0, 0.0, 4.0])
    found = field.on_grid(z, y, x)

    def basis(at: np.ndarray, start: float, knots: int) -> np.ndarray:
        t = (np.arange(knots + 4) - 2) * field.knot_mm + start
        return BSpline.design_matrix(at, t, 3).toarray()

    parts = [basis(v, s, n) for v, s, n in zip((z, y, x), field.start_mm, field.knots.shape, strict=True)]
    assert np.allclose(found, np.einsum("ai,bj,ck,ijk->abc", *parts, field.knots), atol=1e-5)


def test_a_smooth_field_has_standard_deviation_1() -> None:
    field = smooth_field(np.random.default_rng(2), 4.0, low=(-100, -100, -100), high=(100, 100, 100))
    axis = np.arange(-100, 100, 5.1)
    assert field.on_grid(axis, axis, axis).std() == pytest.approx(1, abs=0.03)
