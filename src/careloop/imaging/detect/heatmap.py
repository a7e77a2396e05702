"""Centres as peaks of a map: what a network is to give for boxes, the loss, and boxes from what it gives.

Of L labels and d axes a network gives L + 2 d maps: the logit of each label's centre, the logarithm of the box's sides
in voxels, and where in its voxel the centre lies. Source: Zhou et al. 2019, Objects as Points (arXiv 1904.07850),
sections 3 and 4. Different from it: maps have the image's resolution, sides are learnt as logarithms with weight 1, and
a box's Gaussian has a standard deviation of a sixth of each side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.unet import UNet

FOCUS, NEAR = 2.0, 4.0  # alpha and beta of the penalty-reduced focal loss, equation 1
SIDES_PER_SD = 6.0
SMALLEST_SD = 0.7  # voxels
FIRST_PROBABILITY = 0.1  # of a centre before training, the authors' choice
LONGEST_LOG = 8.0  # of a side; what is longer is no finding


@dataclass(frozen=True, eq=False)
class Target:
    """Of one patch: `heat` (labels, *patch), 1 at a centre; `centre` (k, d) the voxels of centres.

    `value` (k, 2 d) is what the other maps are to be there: log sides, and the centre's place in its voxel.
    """

    heat: torch.Tensor
    centre: torch.Tensor
    value: torch.Tensor


def target_of(boxes: NDArray[np.float64], labels: NDArray[np.integer], *, patch: tuple[int, ...], names: int) -> Target:
    """What the maps are to be for boxes (k, 2 d) in a patch; those whose centre lies outside only leave their slope."""
    dims = len(patch)
    heat = np.zeros((names, *patch), np.float32)
    middle, sides = (boxes[:, :dims] + boxes[:, dims:]) / 2, boxes[:, dims:] - boxes[:, :dims]
    voxel = np.floor(middle).astype(int)
    inside = ((voxel >= 0) & (voxel < patch)).all(axis=1)
    for i in range(len(boxes)):
        sd = np.maximum(sides[i] / SIDES_PER_SD, SMALLEST_SD)
        bump = np.ones((1,) * dims, np.float32)
        for axis in range(dims):
            line = np.exp(-0.5 * ((np.arange(patch[axis]) - voxel[i, axis]) / sd[axis]) ** 2)
            bump = bump * line.reshape([-1 if a == axis else 1 for a in range(dims)]).astype(np.float32)
        np.maximum(heat[labels[i]], bump, out=heat[labels[i]])
    value = np.hstack([np.log(np.maximum(sides, 1e-3)), middle - voxel])[inside].astype(np.float32)
    return Target(torch.from_numpy(heat), torch.from_numpy(voxel[inside]), torch.from_numpy(value))


def detection_loss(maps: torch.Tensor, targets: list[Target]) -> tuple[torch.Tensor, int]:
    """The summed loss of patches (n, labels + 2 d, *patch), and the number of boxes that it is to be divided by."""
    names = len(targets[0].heat)
    heat = torch.stack([target.heat for target in targets]).to(maps.device)
    total = focal_loss(maps[:, :names].float(), heat)
    count = 0
    for patch, target in zip(maps, targets, strict=True):
        if len(target.centre):
            at = tuple(target.centre.to(maps.device).T)
            given = patch[names:][(slice(None), *at)].T.float()
            total = total + functional.l1_loss(given, target.value.to(maps.device), reduction="sum")
            count += len(target.centre)
    return total, max(count, 1)


def focal_loss(logits: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Equation 1 of the source without its division: summed over the maps (n, labels, *patch)."""
    probability = torch.sigmoid(logits)
    centre = heat >= 1
    hit = functional.logsigmoid(logits) * (1 - probability) ** FOCUS
    missed = functional.logsigmoid(-logits) * probability**FOCUS * (1 - heat) ** NEAR
    return -torch.where(centre, hit, missed).sum()


def start_at(network: UNet, names: int, log_sides: NDArray[np.float64]) -> None:
    """Set the last layer's bias so that before training centres are rare and boxes have the usual sides (d,)."""
    bias = cast("nn.Conv2d | nn.Conv3d", network.decoder.seg_layers[-1]).bias
    assert bias is not None
    dims = len(log_sides)
    with torch.no_grad():
        bias[:names] = float(np.log(FIRST_PROBABILITY / (1 - FIRST_PROBABILITY)))
        bias[names : names + dims] = torch.from_numpy(log_sides).to(bias)
        bias[names + dims :] = 0.5


@dataclass(frozen=True, eq=False)
class Peaks:
    """Findings of one patch: `box` (m, 2 d) in its voxels, `logit` (m,) and `label` (m,)."""

    box: NDArray[np.float64]
    logit: NDArray[np.float64]
    label: NDArray[np.intp]


def peaks_of(maps: torch.Tensor, *, names: int, most: int, lowest: float) -> Peaks:
    """The highest local maxima of the centre maps of one patch (labels + 2 d, *patch), at least `lowest` (a logit)."""
    dims = maps.ndim - 1
    heat = maps[:names].float()
    pool = functional.max_pool2d if dims == 2 else functional.max_pool3d
    highest = pool(heat[None], 3, stride=1, padding=1)[0]
    flat = torch.where(heat >= highest, heat, -torch.inf).flatten()
    logit, index = flat.topk(min(most, len(flat)))
    index = index[logit >= lowest]
    logit = logit[logit >= lowest]
    place = torch.stack(torch.unravel_index(index, heat.shape), dim=1)
    at = tuple(place[:, 1:].T)
    other = maps[names:][(slice(None), *at)].T.double().cpu().numpy()
    half = np.exp(np.minimum(other[:, :dims], LONGEST_LOG)) / 2
    middle = place[:, 1:].cpu().numpy() + np.clip(other[:, dims:], 0, 1)
    return Peaks(
        np.hstack([middle - half, middle + half]),
        logit.double().cpu().numpy(),
        place[:, 0].cpu().numpy().astype(np.intp),
    )
