"""Batches that follow from the epoch, validation over tiles, and how many epochs fit into a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from careloop.imaging.learn import fit
from careloop.imaging.learn.dataset import Labels
from careloop.imaging.learn.fit import Pace, PatchWork, case_counts, structure_dice, tile_count, tiles, validated_cases
from careloop.imaging.learn.patches import PreparedCase

LABELS = Labels(("a", "b"), ((1,), (2,)))


class Threshold(torch.nn.Module):
    """Scores of which the image's own value (0, 1 or 2) has the highest."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-((x - n) ** 2) for n in range(3)], dim=1)


def case_of(numbers: np.ndarray, image: np.ndarray | None = None) -> PreparedCase:
    shown = numbers if image is None else image
    return PreparedCase("case", shown[None].astype(np.float32), numbers.astype(np.uint8), ())


def plan_of(patch, batch_size: int = 2) -> SimpleNamespace:
    return SimpleNamespace(tiling=SimpleNamespace(patch=patch), batch_size=batch_size, mirror_axes=())


def random_numbers(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, shape)


@pytest.mark.parametrize("patch", [(4, 8, 8), (16, 16, 16), (8, 8)])
def test_tiles_cover_every_voxel_once(patch) -> None:
    case = case_of(random_numbers((9, 16, 13)))
    parts = list(tiles(case, patch))
    assert len(parts) == tile_count(case, patch)
    assert sum(numbers.size for _, numbers, _ in parts) == case.numbers.size
    for image, numbers, where in parts:
        assert image.shape == (1, *patch)
        assert np.array_equal(image[0][where], numbers)


def test_tiles_are_not_filled_up_where_the_image_is_large_enough() -> None:
    case = case_of(random_numbers((9, 16, 13)) + 1)
    assert all(np.all(image > 0) for image, _, _ in tiles(case, (4, 8, 8)))


def test_counts_are_those_of_the_whole_image() -> None:
    truth, shown = random_numbers((9, 16, 13)), random_numbers((9, 16, 13), seed=1)
    counts = case_counts(Threshold(), case_of(truth, shown), (4, 8, 8), LABELS)
    expected = [[((truth == n) & (shown == n)).sum(), (shown == n).sum(), (truth == n).sum()] for n in (1, 2)]
    assert counts.tolist() == expected


def test_ignored_voxels_are_not_counted() -> None:
    truth, shown = random_numbers((4, 8, 8)), random_numbers((4, 8, 8), seed=1)
    truth[:2] = 3
    labels = Labels(LABELS.names, LABELS.numbers, ignore=3)
    counts = case_counts(Threshold(), case_of(truth, shown), (4, 8, 8), labels)
    assert counts[:, 1].tolist() == [(shown[2:] == n).sum() for n in (1, 2)]


def test_regions_are_found_above_one_half() -> None:
    scores = torch.tensor([[[-1.0, 2.0]], [[3.0, -0.5]]]).reshape(1, 2, 1, 2)
    labels = Labels(("whole", "core"), ((1, 2), (2,)), is_regions=True, written=(1, 2))
    assert fit.decided(scores, labels)[0, :, 0].tolist() == [[False, True], [True, False]]


def test_dice_is_averaged_over_cases_and_not_given_for_what_no_case_has() -> None:
    counts = np.array([[[5, 5, 5], [0, 2, 0]], [[0, 5, 5], [0, 0, 0]]])
    assert structure_dice(counts) == (0.5, None)


def test_an_epoch_s_batches_are_the_same_each_time_and_use_all_cases() -> None:
    work = PatchWork(plan_of((8, 8, 8)), LABELS, ([None] * 5, []), steps=10, seed=3)
    first, again, other = work.epoch_batches(1), work.epoch_batches(1), work.epoch_batches(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(np.concatenate(first)).tolist() == [4] * 5


def test_validation_is_kept_to_a_tenth_of_an_epoch_but_is_never_left_out() -> None:
    cases = [case_of(np.zeros((8, 16, 16)))] * 10  # four tiles each
    assert len(validated_cases(cases, plan_of((8, 8, 8)), steps=50)) == 7  # 0.3 x 50 x 2 tiles
    assert len(validated_cases(cases, plan_of((8, 8, 8)), steps=1)) == 1


def test_epochs_that_fit() -> None:
    pace = Pace(step_seconds=0.5, validation_seconds=5.0, threads=2)
    assert pace.epochs_in(600.0, steps=50) == 20
    assert pace.epochs_in(1.0, steps=50) == 1
