"""Volumes reach the network as nnU-Net and nibabel would bring them there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import binary_fill_holes

from careloop import InputError
from careloop.imaging.read.nifti import affine_from_ras
from careloop.imaging.segment.formats.nnunet import read_nnunet
from careloop.imaging.segment.model import Normalization, Preparation
from careloop.imaging.segment.prepare import _without_holes, normalize, prepare, turn_of
from careloop.imaging.volume import Volume

NAMES = ("thick slices", "two channels", "regions", "2d", "coarse rows")
ROUNDING = 2e-5  # float32 after sums of up to a hundred terms, against nnU-Net's float64; standard deviations are 1


def plain(shape: tuple[int, ...] = (4, 5, 6), **changed: Any) -> Volume:
    affine = np.eye(4)[[2, 1, 0, 3]]
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) + 1
    return replace(Volume(voxels, affine), **changed)


@pytest.mark.parametrize("name", NAMES)
def test_image_is_prepared_as_by_nnunet(
    name: str, nnunet: ModuleType, reference: Any, volumes_of: Callable[[Any], list[Volume]],
    model_folder: Callable[[Any], Path],
) -> None:  # fmt: skip
    case = nnunet.CASES[name]
    prepared = prepare(volumes_of(case), read_nnunet(model_folder(case)).preparation)
    expected = reference[f"{name}/prepared"]
    assert prepared.image.dtype == np.float32
    assert prepared.image.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(prepared.image, expected, rtol=0, atol=ROUNDING * scale)


@settings(deadline=None, max_examples=40)
@given(st.permutations("xyz"), st.tuples(*[st.booleans()] * 3), st.sampled_from(["SAR", "SPL", "RAS", "IRP"]))
def test_turn_runs_towards_the_letters_as_nibabel_turns(
    axes: list[str], flipped: tuple[bool, ...], towards: str
) -> None:
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(3, 4, 5)).astype(np.float32)
    matrix = np.eye(4)[:, ["xyz".index(a) for a in axes] + [3]]
    oblique = np.eye(4)
    oblique[:3, :3] = np.linalg.qr(np.eye(3) + 0.15 * rng.normal(size=(3, 3)))[0]
    oblique *= np.sign(np.diag(oblique))
    affine = oblique @ matrix @ np.diag([*np.where(flipped, -1.5, 1.5), 1.0])
    image = nibabel.Nifti1Image(stored, affine)
    letters = towards[::-1]  # nibabel counts columns first
    turned = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(letters)))
    volume = Volume(stored.transpose(2, 1, 0), affine_from_ras(affine))
    preparation = Preparation((Normalization("none"),), None, orientation=towards)
    turn = turn_of(volume, preparation)
    np.testing.assert_array_equal(turn.apply(volume.voxels), np.asarray(turned.dataobj).transpose(2, 1, 0))
    np.testing.assert_array_equal(turn.undo(turn.apply(volume.voxels)), volume.voxels)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_holes_are_filled_as_by_scipy(seed: int, share: float) -> None:
    inside = np.random.default_rng(seed).random((5, 6, 7)) < share
    np.testing.assert_array_equal(_without_holes(inside), binary_fill_holes(inside))


def test_crop_and_axes_are_undone_by_the_placing() -> None:
    voxels = np.zeros((6, 7, 8), np.int16)
    voxels[1:4, 2:6, 3:5] = np.arange(24).reshape(3, 4, 2) + 1
    preparation = Preparation((Normalization("none"),), None, axes=(2, 0, 1), crop="nonzero")
    prepared = prepare([plain(voxels.shape, voxels=voxels)], preparation)
    assert prepared.image.shape == (1, 2, 3, 4)
    turned = np.zeros(prepared.placing.shape, np.int16)
    turned[prepared.placing.box] = prepared.image[0]
    np.testing.assert_array_equal(prepared.placing.turn.undo(turned), voxels)


def test_image_of_zeros_is_not_cropped() -> None:
    volume = plain(voxels=np.zeros((4, 5, 6), np.int16))
    preparation = Preparation((Normalization("zscore_foreground"),), None, crop="nonzero")
    assert not prepare([volume], preparation).image.any()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Normalization("ct", low=2, high=8, mean=4, sd=2), [-1, -1, 0, 2]),
        (Normalization("range", low=0, high=8, scaled_low=-1, scaled_high=1), [-1, -0.5, 0, 1]),
        (Normalization("own_range"), [0, 0.2, 0.4, 1]),
        (Normalization("fixed", mean=4, sd=2), [-2, -1, 0, 3]),
        (Normalization("none"), [0, 2, 4, 10]),
        (Normalization("zscore"), np.array([-4, -2, 0, 6]) / np.sqrt(14)),
        (Normalization("zscore_foreground"), [0, *(np.array([2, 4, 10]) - 16 / 3) / np.std([2, 4, 10])]),
    ],
)
def test_schemes_of_normalisation(how: Normalization, expected: Any) -> None:
    values = np.array([0, 2, 4, 10], np.float32)
    normalize(values, how, np.array([True, False, False, False]))
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_normalisation_after_resampling_sees_the_resampled_values() -> None:
    volume = plain()
    how = Preparation((Normalization("own_range"),), (1.0, 1.0, 2.0), normalize_first=False, image_order=1)
    image = prepare([volume], how).image
    assert image.min() == 0
    assert image.max() == 1


def test_volumes_on_two_grids_and_a_wrong_number_are_refused() -> None:
    preparation = Preparation((Normalization("none"),) * 2, None)
    with pytest.raises(InputError, match="one grid"):
        prepare([plain(), plain(affine=2 * np.eye(4))], preparation)
    with pytest.raises(InputError, match="takes 2 images"):
        prepare([plain()], preparation)


def test_every_axis_order_leads_back() -> None:
    for order in itertools.permutations(range(3)):
        turn = turn_of(plain(), Preparation((Normalization("none"),), None, axes=order))
        np.testing.assert_array_equal(turn.undo(turn.apply(plain().voxels)), plain().voxels)
