"""Random changes of patches: determinism, ranges, what each keeps and what it changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from careloop.imaging.learn import augment
from careloop.imaging.learn.augment import Geometry, change_intensities, mirrored_axes, random_affine


def patch(channels: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(channels, 12, 14, 16, generator=torch.Generator().manual_seed(seed))


def test_the_same_seed_changes_a_patch_alike() -> None:
    def changed(seed: int) -> torch.Tensor:
        return change_intensities(patch(), np.random.default_rng(seed), torch.Generator().manual_seed(seed))

    seeds = range(30)
    assert all(torch.equal(changed(s), changed(s)) for s in seeds)
    assert sum(not torch.equal(changed(s), patch()) for s in seeds) > 15


def test_a_patch_keeps_its_shape_and_stays_finite_even_where_it_is_constant() -> None:
    for seed in range(40):
        for image in (patch(), torch.zeros(1, 12, 14, 16), torch.full((1, 9, 7), 3.0)):
            changed = change_intensities(image, np.random.default_rng(seed), torch.Generator())
            assert changed.shape == image.shape
            assert bool(torch.isfinite(changed).all())


def test_the_input_is_not_changed() -> None:
    image = patch()
    for seed in range(20):
        change_intensities(image, np.random.default_rng(seed), torch.Generator())
    assert torch.equal(image, patch())


def test_blurring_is_scipy_s_gaussian_filter() -> None:
    channel = patch()[0]
    ours = augment._blurred(channel, 0.8).numpy()
    theirs = gaussian_filter(channel.numpy(), 0.8, mode="mirror", radius=2)
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_gamma_keeps_mean_and_spread_and_contrast_the_range() -> None:
    image = patch()
    changed = augment._gamma(image, np.random.default_rng(1))
    assert changed.mean((1, 2, 3)).tolist() == pytest.approx(image.mean((1, 2, 3)).tolist(), abs=1e-4)
    assert changed.std((1, 2, 3)).tolist() == pytest.approx(image.std((1, 2, 3)).tolist(), abs=1e-4)
    assert not torch.allclose(changed, image, atol=0.05)
    wider = augment._contrasted(image, torch.tensor([1.2, 0.8]).reshape(2, 1, 1, 1))
    assert float(wider.amax()) <= float(image.amax())
    assert wider.std((1, 2, 3))[0] > image.std((1, 2, 3))[0]
    assert wider.std((1, 2, 3))[1] < image.std((1, 2, 3))[1]


def test_rotations_and_scales_stay_in_nnunet_s_ranges() -> None:
    geometry = Geometry((48, 48, 48), (0, 1, 2))
    random = np.random.default_rng(0)
    drawn = [random_affine(geometry, random) for _ in range(2000)]
    matrices = [matrix for matrix in drawn if matrix is not None]
    assert 1 - len(matrices) / len(drawn) == pytest.approx(0.64, abs=0.04)  # 0.8 x 0.8
    scales = np.array([np.cbrt(np.linalg.det(matrix)) for matrix in matrices])
    assert scales.min() > 0.7
    assert scales.max() < 1.4
    assert (scales < 0.999).sum() == pytest.approx((scales > 1.001).sum(), rel=0.2)
    for matrix, scale in zip(matrices, scales, strict=True):
        assert matrix @ matrix.T == pytest.approx(np.eye(3) * scale**2, abs=1e-9)
        assert np.degrees(np.arccos(np.clip((np.trace(matrix / scale) - 1) / 2, -1, 1))) < 60


def test_a_thin_patch_is_turned_in_its_plane_only() -> None:
    geometry = Geometry((10, 64, 64), ())
    random = np.random.default_rng(0)
    matrices = [m for m in (random_affine(geometry, random) for _ in range(300)) if m is not None]
    for matrix in matrices:
        assert matrix[0].tolist() == matrix[:, 0].tolist() == [1, 0, 0]
    assert max(abs(np.degrees(np.arctan2(m[1, 2], m[1, 1]))) for m in matrices) > 90


def test_only_allowed_axes_are_mirrored_half_the_time() -> None:
    random = np.random.default_rng(0)
    drawn = [mirrored_axes(Geometry((8, 8, 8), (0, 2)), random) for _ in range(1000)]
    assert {axis for axes in drawn for axis in axes} == {0, 2}
    assert sum(0 in axes for axes in drawn) == pytest.approx(500, abs=60)
    assert mirrored_axes(Geometry((8, 8), ()), random) == ()
