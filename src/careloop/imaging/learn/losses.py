"""Soft Dice plus cross-entropy over the resolutions of a U-Net with deep supervision, as nnU-Net v2 trains with.

Sources: Drozdzal et al. 2016 (soft Dice); Isensee et al. 2021, Nature Methods 18, online methods (sum of both, weights
that halve with each resolution, background left out of Dice).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from careloop.imaging.learn.dataset import Labels

if TYPE_CHECKING:
    import torch

SMOOTH = 1e-5
SMALLEST = 1e-8


def supervised_loss(levels: Sequence[torch.Tensor], numbers: torch.Tensor, labels: Labels) -> torch.Tensor:
    """The loss of a batch; `levels` are scores (n, outputs, *patch) at each resolution, the finest first.

    `numbers` (n, *patch) are labels as in the files. Resolution i counts 2^-i; the coarsest does not count where there
    are several, as in nnU-Net. Dice is taken over the whole batch.
    """
    weights = [2.0**-i for i in range(len(levels))]
    if len(levels) > 1:
        weights[-1] = 0.0
    losses = [
        weight * _loss(level.float(), _at_resolution(numbers, tuple(level.shape[2:])), labels)
        for level, weight in zip(levels, weights, strict=True)
        if weight > 0
    ]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / sum(weights)


def memberships(numbers: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Which structures each voxel belongs to: (n, structures, *patch) bool, from labels (n, *patch)."""
    import torch

    found = []
    for group in labels.numbers:
        inside = numbers == group[0]
        for number in group[1:]:
            inside = inside | (numbers == number)
        found.append(inside)
    return torch.stack(found, dim=1)


def _at_resolution(numbers: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Labels at a coarser grid, the nearest voxel's."""
    import torch

    for axis, wanted in enumerate(size, start=1):
        have = numbers.shape[axis]
        if have != wanted:
            nearest = ((torch.arange(wanted, device=numbers.device) + 0.5) * have / wanted).long()
            numbers = numbers.index_select(axis, nearest)
    return numbers


def _loss(scores: torch.Tensor, numbers: torch.Tensor, labels: Labels) -> torch.Tensor:
    import torch
    from torch.nn import functional

    is_known = torch.ones_like(numbers, dtype=torch.bool) if labels.ignore is None else numbers != labels.ignore
    known = is_known.to(scores)
    counted = known.sum().clamp_min(1.0)
    inside = memberships(numbers, labels).to(scores)
    if labels.is_regions:
        entropy = functional.binary_cross_entropy_with_logits(scores, inside, reduction="none").mean(1)
        chances = scores.sigmoid()
    else:
        entropy = functional.cross_entropy(scores, torch.where(is_known, numbers, 0).long(), reduction="none")
        chances = scores.softmax(1)[:, 1:]
    return (entropy * known).sum() / counted - _soft_dice(chances, inside, known)


def _soft_dice(chances: torch.Tensor, inside: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over structures of 2 |A B| / (|A| + |B|), voxels of the whole batch together."""
    axes = (0, *range(2, chances.ndim))
    known = known[:, None]
    both = (chances * inside * known).sum(axes)
    sizes = (chances * known).sum(axes) + (inside * known).sum(axes)
    return ((2 * both + SMOOTH) / (sizes + SMOOTH).clamp_min(SMALLEST)).mean()
