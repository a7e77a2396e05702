"""Plans by nnU-Net's rules: its own planner's pooling and spacing, sizes, intensities, structures with sides."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.imaging.learn.configure import SIZES, fitted_patch, make_plan, normalization, pooled, target_spacing
from careloop.imaging.learn.dataset import Dataset, Labels
from careloop.imaging.learn.fingerprint import Fingerprint, Intensities

SEEN = Intensities(40.0, 100.0, -900.0, 300.0)
LABELS = Labels(("heart", "lung"), ((1,), (2,)))


def seen_of(spacing_mm, shape, axes="SPL") -> Fingerprint:
    return Fingerprint((spacing_mm,) * 3, (shape,) * 3, 1.0, (SEEN,), {axes: 3}, {0: 10, 1: 5})


def dataset_of(labels: Labels = LABELS, channels=("CT",)) -> Dataset:
    return Dataset(Path("data"), "data", channels, labels, (), ())


# From get_pool_and_conv_props of nnunetv2 2.8.1 (spacing, patch, smallest map 4, no limit of poolings).
NNUNET = [
    (
        (1.0, 1.0, 1.0), (128, 128, 128), (128, 128, 128),
        [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)], [(3, 3, 3)] * 6,
    ),
    (
        (5.0, 0.8, 0.8), (32, 256, 250), (32, 256, 256),
        [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)],
        [(1, 3, 3)] * 2 + [(3, 3, 3)] * 5,
    ),
    (
        (3.6, 0.6, 0.6), (14, 224, 250), (14, 224, 256),
        [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)], [(1, 3, 3)] * 2 + [(3, 3, 3)] * 4,
    ),
    ((0.5, 1.0), (300, 100), (320, 112), [(1, 1), (2, 1), (2, 2), (2, 2), (2, 2), (2, 2)], [(3, 1)] + [(3, 3)] * 5),
]  # fmt: skip


@pytest.mark.parametrize(("spacing_mm", "patch", "padded", "strides", "kernels"), NNUNET)
def test_pooling_is_nnunet_s(spacing_mm, patch, padded, strides, kernels) -> None:
    found, stages, _ = pooled(np.array(spacing_mm), np.array(patch))
    assert tuple(found.tolist()) == padded
    assert [stage.stride for stage in stages] == strides
    assert [stage.kernel for stage in stages] == kernels


def test_spacing_is_the_median_but_a_coarse_axis_keeps_its_slices() -> None:
    isotropic = np.array([[1.0, 1.0, 1.0], [1.0, 0.9, 0.9], [1.2, 1.1, 1.1]])
    assert target_spacing(isotropic, np.full((3, 3), 200)).tolist() == [1.0, 1.0, 1.0]
    coarse = np.array([[4.0, 0.6, 0.6]] * 2 + [[5.0, 0.6, 0.6]] * 9)
    shapes = np.array([[20, 320, 320]] * 11)
    assert target_spacing(coarse, shapes)[0] == np.percentile(coarse[:, 0], 10)
    # Many slices: the coarse axis is no reason for it.
    assert target_spacing(coarse, np.array([[200, 320, 320]] * 11))[0] == 5.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.4, 6.0), min_size=3, max_size=3),
    st.lists(st.integers(8, 500), min_size=3, max_size=3),
    st.sampled_from(sorted(SIZES)),
)
def test_any_image_gets_a_patch_that_fits(spacing_mm, shape, size) -> None:
    plan = make_plan(seen_of(tuple(spacing_mm), tuple(shape)), dataset_of(), size=size, spacing_mm=None)
    strides = np.prod(plan.architecture["arch_kwargs"]["strides"], axis=0)
    assert prod(plan.tiling.patch) <= SIZES[size].patch_voxels
    assert all(p % s == 0 for p, s in zip(plan.tiling.patch, strides, strict=True))
    assert all(p < m + s for p, m, s in zip(plan.tiling.patch, plan.median_shape, strides, strict=True))
    assert np.all(np.array(plan.preparation.spacing_mm) >= np.array(spacing_mm) * 0.999)
    covered = prod(plan.tiling.patch) / prod(plan.median_shape)
    assert covered >= SIZES[size].covered


def test_a_small_network_works_at_a_coarser_grid_and_a_large_one_at_the_image_s_own() -> None:
    seen = seen_of((1.5, 0.8, 0.8), (200, 512, 512))
    large = make_plan(seen, dataset_of(), size="large", spacing_mm=None)
    small = make_plan(seen, dataset_of(), size="small", spacing_mm=None)
    assert large.preparation.spacing_mm == pytest.approx((1.5, 0.8, 0.8))
    assert min(small.preparation.spacing_mm) > 1.9
    chosen = make_plan(seen, dataset_of(), size="small", spacing_mm=(3.0, 2.0, 2.0))
    assert chosen.preparation.spacing_mm == (3.0, 2.0, 2.0)
    with pytest.raises(InputError, match=r"3 numbers above 0 for these images, got \(3.0, 2.0\)"):
        make_plan(seen, dataset_of(), size="small", spacing_mm=(3.0, 2.0))


def test_the_patch_takes_the_image_s_proportions() -> None:
    patch, _ = fitted_patch(np.array([1.0, 1.0, 1.0]), np.array([400, 200, 100]), limit=128**3)
    assert patch[0] > patch[2]


def test_pictures_get_a_network_of_two_axes() -> None:
    plan = make_plan(seen_of((1.0, 1.0, 1.0), (1, 400, 500), axes=""), dataset_of(), size="small", spacing_mm=None)
    assert len(plan.tiling.patch) == len(plan.preparation.spacing_mm) == 2
    assert plan.architecture["arch_kwargs"]["conv_op"].endswith("Conv2d")
    assert plan.preparation.orientation is None


def test_structures_with_a_side_are_not_mirrored_from_side_to_side() -> None:
    sided = replace(LABELS, names=("heart", "lung_left"))
    seen = seen_of((1.0, 1.0, 1.0), (64, 64, 64))
    assert make_plan(seen, dataset_of(), size="large", spacing_mm=None).tiling.mirror_axes == (0, 1, 2)
    assert make_plan(seen, dataset_of(sided), size="large", spacing_mm=None).tiling.mirror_axes == (0, 1)
    assert make_plan(seen, dataset_of(sided), size="medium", spacing_mm=None).mirror_axes == (0, 1)
    assert make_plan(seen, dataset_of(sided), size="medium", spacing_mm=None).tiling.mirror_axes == ()
    assert make_plan(seen, dataset_of(), size="small", spacing_mm=None).mirror_axes == ()


def test_intensities_follow_the_channel_s_name() -> None:
    ct = normalization("CT", SEEN, 1.0)
    assert (ct.scheme, ct.low, ct.high, ct.mean, ct.sd) == ("ct", -900.0, 300.0, 40.0, 100.0)
    assert normalization("T1", SEEN, 1.0).scheme == "zscore"
    assert normalization("T1", SEEN, 0.5).scheme == "zscore_foreground"
    assert normalization("noNorm", SEEN, 1.0).scheme == "none"
    assert normalization("rescale_to_0_1", SEEN, 1.0).scheme == "own_range"
    assert normalization("rgb_to_0_1", SEEN, 1.0).high == 255.0
