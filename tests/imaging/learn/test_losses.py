"""Soft Dice plus cross-entropy: closed forms, ignored voxels, regions, weights of resolutions."""

from __future__ import annotations

import math

import pytest
import torch

from careloop.imaging.learn.dataset import Labels
from careloop.imaging.learn.losses import memberships, supervised_loss

LABELS = Labels(("a", "b"), ((1,), (2,)))


def scores_of(numbers: torch.Tensor, outputs: int, size: float) -> torch.Tensor:
    """Scores that are `size` for the right label and 0 for the others."""
    return size * torch.nn.functional.one_hot(numbers, outputs).movedim(-1, 1).float()


def test_even_scores_have_the_entropy_of_a_fair_draw_and_the_dice_of_thirds() -> None:
    numbers = torch.tensor([[[0, 1], [1, 2]]])
    loss = supervised_loss([torch.zeros(1, 3, 2, 2)], numbers, LABELS)
    # Each structure has 1/3 everywhere: dice 2 x n/3 / (4/3 + n), n voxels of it.
    dice = (2 * 2 / 3 / (4 / 3 + 2) + 2 * 1 / 3 / (4 / 3 + 1)) / 2
    assert float(loss) == pytest.approx(math.log(3) - dice, abs=1e-4)


def test_certain_and_right_is_minus_one() -> None:
    numbers = torch.tensor([[[0, 1], [1, 2]]])
    assert float(supervised_loss([scores_of(numbers, 3, 50.0)], numbers, LABELS)) == pytest.approx(-1.0, abs=1e-4)


def test_dice_is_over_the_batch_so_that_an_absent_structure_in_one_patch_does_not_count() -> None:
    numbers = torch.tensor([[[0, 1], [1, 2]], [[0, 0], [0, 0]]])
    assert float(supervised_loss([scores_of(numbers, 3, 50.0)], numbers, LABELS)) == pytest.approx(-1.0, abs=1e-4)


def test_ignored_voxels_have_no_gradient() -> None:
    labels = Labels(("a",), ((1,),), ignore=2)
    numbers = torch.tensor([[[0, 1], [2, 2]]])
    scores = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    supervised_loss([scores], numbers, labels).backward()
    assert torch.equal(scores.grad[..., 1, :], torch.zeros(1, 2, 2))
    assert bool((scores.grad[..., 0, :] != 0).all())


def test_regions_overlap() -> None:
    labels = Labels(("whole", "core"), ((1, 2), (2,)), is_regions=True, written=(1, 2))
    numbers = torch.tensor([[[0, 1], [1, 2]]])
    inside = memberships(numbers, labels)
    assert inside[0, 0].tolist() == [[False, True], [True, True]]
    assert inside[0, 1].tolist() == [[False, False], [False, True]]
    right = (inside.float() - 0.5) * 100
    assert float(supervised_loss([right], numbers, labels)) == pytest.approx(-1.0, abs=1e-4)
    assert float(supervised_loss([-right], numbers, labels)) > 10


def test_coarser_resolutions_count_half_and_the_coarsest_not_at_all() -> None:
    numbers = torch.zeros(1, 8, 8, dtype=torch.long)
    numbers[:, :4] = 1
    labels = Labels(("a",), ((1,),))
    wrong = torch.zeros(1, 2, 8, 8)
    right = scores_of(numbers, 2, 50.0)
    fine, coarse = float(supervised_loss([wrong], numbers, labels)), -1.0
    levels = [wrong, right[..., ::2, ::2], torch.full((1, 2, 2, 2), 1e3)]
    assert float(supervised_loss(levels, numbers, labels)) == pytest.approx((fine + 0.5 * coarse) / 1.5, abs=1e-4)
