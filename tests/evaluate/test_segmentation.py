"""Agreement of segmentations: closed forms for spheres, MONAI's figures, and structures that are absent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate.segmentation import agreement, dice, mean_by_case, surface, surface_distances_mm


def ellipsoid(shape, spacing_mm, centre_mm, radii_mm) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)), indexing="ij")
    return sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre_mm, radii_mm, strict=True)) <= 1


@pytest.mark.parametrize(("tolerance_mm", "surface_dice"), [(1.0, 0.3682842), (2.0, 0.5366840), (3.0, 0.7169266)])
def test_figures_are_those_of_monai(tolerance_mm: float, surface_dice: float) -> None:
    """MONAI 1.6.1: compute_dice, compute_surface_dice, compute_hausdorff_distance, compute_average_surface_distance."""
    shape, spacing_mm = (24, 60, 50), (3.0, 1.0, 1.5)
    reference = ellipsoid(shape, spacing_mm, (33, 28, 36), (20, 18, 22))
    found = ellipsoid(shape, spacing_mm, (36, 30, 34), (22, 15, 24))
    result = agreement(reference, found, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm)
    assert result.dice == pytest.approx(0.8248457, abs=1e-6)
    assert result.surface_dice == pytest.approx(surface_dice, abs=1e-6)
    assert result.hausdorff95_mm == pytest.approx(5.4312453, abs=1e-5)
    assert result.mean_surface_distance_mm == pytest.approx(2.1457829, abs=1e-6)


def test_spheres_have_their_closed_forms() -> None:
    """Two spheres of radius r a distance d apart share a lens of pi (4r + d)(2r - d)^2 / 12."""
    radius, apart, spacing_mm = 20.0, 8.0, (1.0, 1.0, 1.0)
    first = ellipsoid((52, 48, 48), spacing_mm, (22, 24, 24), (radius,) * 3)
    second = ellipsoid((52, 48, 48), spacing_mm, (22 + apart, 24, 24), (radius,) * 3)
    result = agreement(first, second, spacing_mm=spacing_mm, tolerance_mm=1.0)
    lens = math.pi * (4 * radius + apart) * (2 * radius - apart) ** 2 / 12
    assert result.dice == pytest.approx(lens / (4 / 3 * math.pi * radius**3), abs=0.005)
    assert result.reference_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.005)
    there, _ = surface_distances_mm(first, second, spacing_mm=spacing_mm)
    assert there.max() == pytest.approx(apart, abs=0.01)


def test_concentric_spheres_are_their_difference_of_radii_apart_in_mm() -> None:
    spacing_mm = (2.0, 1.0, 1.0)
    inner = ellipsoid((40, 70, 70), spacing_mm, (40, 35, 35), (20,) * 3)
    outer = ellipsoid((40, 70, 70), spacing_mm, (40, 35, 35), (26,) * 3)
    result = agreement(inner, outer, spacing_mm=spacing_mm, tolerance_mm=4.0)
    assert result.mean_surface_distance_mm == pytest.approx(6.0, abs=0.5)
    assert result.hausdorff95_mm == pytest.approx(6.0, abs=0.8)
    assert result.surface_dice == 0


def test_equal_masks_agree_wholly_and_in_two_axes_too() -> None:
    mask = ellipsoid((30, 40), (1.0, 1.0), (15, 20), (8, 12))
    result = agreement(mask, mask, spacing_mm=(1.0, 1.0), tolerance_mm=0.0)
    assert (result.dice, result.surface_dice, result.hausdorff95_mm) == (1.0, 1.0, 0.0)


def test_a_structure_absent_from_one_or_both_is_not_an_average_result() -> None:
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    both = agreement(empty, empty, spacing_mm=(1, 1, 1), tolerance_mm=1)
    assert (both.dice, both.surface_dice, both.hausdorff95_mm) == (None, None, None)
    one = agreement(empty, full, spacing_mm=(1, 1, 1), tolerance_mm=1)
    assert (one.dice, one.surface_dice, one.hausdorff95_mm, one.found_ml) == (0.0, 0.0, None, 0.064)
    assert dice(empty, empty) is None


def test_the_image_s_edge_is_a_surface() -> None:
    assert surface(np.ones((3, 3), bool)).sum() == 8


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"one shape, got \(2, 2\) and \(2, 3\)"):
        agreement(np.ones((2, 2), bool), np.ones((2, 3), bool), spacing_mm=(1, 1), tolerance_mm=1)


def test_the_mean_by_case_leaves_out_cases_without_the_structure() -> None:
    values = [0.8, None, 0.9, 0.7, 0.85, 0.75]
    found = mean_by_case(values)
    assert found.value == pytest.approx(0.8)
    assert found.low is not None
    assert found.high is not None
    # The bootstrap's standard error is that of the mean: sd of the values over the root of their number.
    error = np.std([0.8, 0.9, 0.7, 0.85, 0.75]) / math.sqrt(5)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert mean_by_case([0.5, 0.6]).reason == "2 cases: an interval needs 5"
    assert mean_by_case([None]).value is None
