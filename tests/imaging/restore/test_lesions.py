"""Inserted lesions: where they lie, how large and how strong they are, and that a seed gives the same ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, label

from careloop import InputError
from careloop.imaging.restore.lesions import SHAPES, Lesion, LesionRule, insert_lesions

TISSUE = np.zeros((96, 80), np.bool_)
TISSUE[10:80, 12:70] = True


def image() -> np.ndarray:
    return np.full(TISSUE.shape, 50, np.float32)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 5), st.sampled_from(SHAPES))
def test_lesions_lie_apart_wholly_inside_tissue(seed: int, count: int, shape: str) -> None:
    rule = LesionRule((4, 14), (10, 80), shapes=(shape,))
    found = insert_lesions(image(), count, np.random.default_rng(seed), rule=rule, tissue=TISSUE)
    assert len(found.masks) == len(found.lesions) <= count
    assert not (found.masks & ~TISSUE).any()
    for mask, lesion in zip(found.masks, found.lesions, strict=True):
        assert label(mask)[1] == 1
        area = math.pi / 4 * lesion.diameter_px**2
        assert 0.3 * area - 4 <= mask.sum() <= 1.1 * area + 4
        assert rule.contrast[0] <= abs(lesion.contrast) <= rule.contrast[1]
        others = (found.masks.sum(axis=0) - mask).astype(bool)
        assert not (binary_dilation(mask, iterations=2) & others).any()
    changed = np.abs(found.image - 50) > 0.01 * 80
    reach = binary_dilation(found.masks.any(axis=0), iterations=5) if count else np.zeros_like(TISSUE)
    assert not (changed & ~reach).any()


def test_a_disc_has_its_area_and_its_contrast() -> None:
    rule = LesionRule((20, 20), (40, 40), signs="dark", shapes=("disc",))
    found = insert_lesions(image(), 1, np.random.default_rng(0), rule=rule)
    assert found.lesions[0].contrast == -40
    assert found.masks[0].sum() == pytest.approx(math.pi * 100, rel=0.05)
    middle = found.lesions[0].row, found.lesions[0].column
    assert found.image[middle] == pytest.approx(10)
    # The integral of a blurred disc is that of the disc, but for the blur along its curved edge.
    assert (50 - found.image).sum() / 40 == pytest.approx(math.pi * (100 + 0.7**2), rel=0.01)


def test_a_sphere_thins_out_towards_its_edge_as_its_chords_do() -> None:
    rule = LesionRule((24, 24), (60, 60), blur_px=0.3, signs="bright", shapes=("sphere",))
    found = insert_lesions(image(), 1, np.random.default_rng(1), rule=rule)
    lesion: Lesion = found.lesions[0]
    profile = (found.image[lesion.row, lesion.column : lesion.column + 10] - 50) / 60
    assert np.allclose(profile, np.sqrt(1 - (np.arange(10) / 12.3) ** 2), atol=0.01)


def test_the_same_seed_gives_the_same_lesions_and_the_input_stays() -> None:
    given_image = image()
    first, again = (
        insert_lesions(given_image, 3, np.random.default_rng(9), rule=LesionRule(), tissue=TISSUE) for _ in range(2)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert first.lesions == again.lesions
    assert (given_image == 50).all()


def test_lesions_of_either_sign_are_as_often_bright_as_dark() -> None:
    rng = np.random.default_rng(2)
    signs = [insert_lesions(image(), 1, rng, rule=LesionRule()).lesions[0].contrast > 0 for _ in range(200)]
    assert 70 < sum(signs) < 130


def test_where_there_is_no_room_there_are_fewer() -> None:
    rule = LesionRule((16, 16), (10, 10))
    none = insert_lesions(image(), 4, np.random.default_rng(0), rule=rule, tissue=np.zeros_like(TISSUE))
    assert none.masks.shape == (0, *TISSUE.shape)
    np.testing.assert_array_equal(none.image, image())
    assert len(insert_lesions(image(), 40, np.random.default_rng(0), rule=rule).lesions) < 12


@pytest.mark.parametrize(
    "rule",
    [{"diameter_px": (9, 3)}, {"contrast": (-5, 5)}, {"blur_px": 0}, {"shapes": ()}, {"shapes": ("cube",)},
     {"signs": "both"}],
)  # fmt: skip
def test_a_rule_that_draws_nothing_sensible_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Lesions need"):
        LesionRule(**rule)  # type: ignore[arg-type]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="rows, columns"):
        insert_lesions(np.zeros((2, 8, 8)), 1, np.random.default_rng(0), rule=LesionRule())
    with pytest.raises(InputError, match="rows, columns"):
        insert_lesions(image(), 1, np.random.default_rng(0), rule=LesionRule(), tissue=TISSUE[1:])
