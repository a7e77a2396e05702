"""Prepared cases on disk, and patches drawn from them: places, turns, edges, labels in step with images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from careloop.imaging.learn import patches
from careloop.imaging.learn.augment import Geometry
from careloop.imaging.learn.dataset import open_dataset
from careloop.imaging.learn.patches import PreparedCase, cut_patch, draw_batch, prepare_case
from careloop.imaging.segment.model import Normalization, Preparation

NONE = (Normalization("none"),)


def blob_case(shape=(20, 24, 28)) -> PreparedCase:
    """A smooth image, and the label 1 where it is bright."""
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    image = np.exp(-(((z - 9) / 4.0) ** 2) - ((y - 13) / 6.0) ** 2 - ((x - 12) / 7.0) ** 2).astype(np.float32)
    labels = (image > 0.5).astype(np.uint8)
    places = np.argwhere(labels == 1).astype(np.int32)
    return PreparedCase("blob", image[None], labels, (places, np.zeros((0, 3), np.int32)))


def test_a_patch_that_is_not_turned_is_a_copy() -> None:
    case = blob_case()
    image, numbers = cut_patch(case, (10, 12, 14), Geometry((8, 8, 8), ()), None)
    assert np.array_equal(image[0].numpy(), case.image[0, 6:14, 8:16, 10:18])
    assert np.array_equal(numbers.numpy(), case.numbers[6:14, 8:16, 10:18])


def test_beyond_the_image_is_nothing() -> None:
    case = blob_case()
    image, numbers = cut_patch(case, (0, 0, 27), Geometry((8, 8, 8), ()), None)
    assert np.array_equal(image[0, 4:, 4:, :5].numpy(), case.image[0, :4, :4, 23:])
    assert float(image[0, :4].abs().max()) == float(image[0, :, :, 5:].abs().max()) == 0
    assert int(numbers[:4].max()) == 0


def test_a_turned_patch_is_scipy_s_affine_transform() -> None:
    case, patch, centre = blob_case(), (9, 11, 10), np.array([9, 12, 13])
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * 1.2
    image, numbers = cut_patch(case, centre.tolist(), Geometry(patch, ()), turn)
    middle = centre - np.array(patch) // 2 + (np.array(patch) - 1) / 2
    offset = middle - turn @ ((np.array(patch) - 1) / 2)
    expected = affine_transform(case.image[0], turn, offset, output_shape=patch, order=1, mode="constant")
    assert image[0].numpy() == pytest.approx(expected, abs=1e-4)
    # Labels take the nearest voxel: where the smooth image is clear of the threshold they say the same.
    clear = np.abs(expected - 0.5) > 0.15
    assert np.array_equal(numbers.numpy()[clear], (expected > 0.5).astype(int)[clear])


def test_a_patch_of_two_axes_comes_from_one_slice() -> None:
    case = blob_case()
    image, numbers = cut_patch(case, (9, 12, 14), Geometry((8, 8), ()), None)
    assert image.shape == (1, 8, 8)
    assert np.array_equal(numbers.numpy(), case.numbers[9, 8:16, 10:18])
    turned, _ = cut_patch(case, (9, 12, 14), Geometry((8, 8), ()), np.array([[0.0, -1.0], [1.0, 0.0]]))
    assert turned.numpy()[0] == pytest.approx(np.rot90(case.image[0, 9, 8:16, 10:18], -1), abs=1e-4)


def test_batches_follow_from_the_seed_and_the_last_lies_around_a_structure() -> None:
    case, geometry = blob_case((60, 24, 28)), Geometry((8, 8, 8), (0, 1, 2))
    first, again = (draw_batch([case, case], geometry, seed=5) for _ in range(2))
    assert np.array_equal(first.images.numpy(), again.images.numpy())
    assert first.numbers.shape == (2, 8, 8, 8)
    held = [draw_batch([case, case], geometry, seed=seed).numbers.flatten(1).amax(1).tolist() for seed in range(60)]
    assert all(last == 1 for _, last in held)
    assert sum(other == 0 for other, _ in held) > 15


def test_images_smaller_than_the_patch_stay_in_its_middle() -> None:
    case = blob_case((6, 24, 28))
    random = np.random.default_rng(0)
    centres = [patches._any_centre(case.numbers.shape, (8, 8, 8), random) for _ in range(50)]
    assert {centre[0] for centre in centres} == {3}
    assert min(centre[1] for centre in centres) >= 4
    assert max(centre[1] for centre in centres) <= 20


def test_preparing_turns_resamples_and_is_done_once(tmp_path, shapes) -> None:
    """Stored upside down and back to front; prepared it is as it would be from the plain file."""
    image, labels = shapes.ball_and_box(0)
    shapes.write_case(tmp_path, "plain", image, labels)
    place = shapes.affine() @ np.diag([-1.0, 1.0, -1.0, 1.0])
    place[:3, 3] = shapes.affine()[:3, :3] @ (15, 0, 31)
    shapes.write_case(tmp_path, "turned", image[::-1, :, ::-1].copy(), labels[::-1, :, ::-1].copy(), place=place)
    shapes.write_dataset_json(tmp_path)
    dataset = open_dataset(tmp_path)
    how = Preparation(NONE, spacing_mm=(2.0, 2.0, 2.0), orientation="SPL", image_order=1)
    plain, turned = (prepare_case(case, dataset, how, tmp_path / "work") for case in dataset.cases)
    assert plain.image.shape == (1, 16, 16, 16)
    assert np.array_equal(plain.image, turned.image)
    assert np.array_equal(plain.numbers, turned.numbers)
    volume = [int((labels == n).sum()) for n in (1, 2)]
    assert [int((plain.numbers == n).sum()) * 4 for n in (1, 2)] == pytest.approx(volume, rel=0.3)
    assert all((plain.numbers[tuple(p.T)] == n).all() for n, p in enumerate(plain.places, start=1))
    for path in (tmp_path / "imagesTr").iterdir():
        path.unlink()
    again = prepare_case(dataset.cases[0], dataset, how, tmp_path / "work")
    assert np.array_equal(again.image, plain.image)
