"""Small random changes of whole training images in two and three dimensions, a batch at a time, all from one seed.

Anatomy keeps its sides: images are mirrored only where that was asked for. Ranges are small, as a change must leave
the label true (Shorten and Khoshgoftaar 2019, J Big Data 6:60, on the safety of a transformation).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SHARE = 0.5  # of images that are moved: interpolation smooths their noise, so the network must see others too
ROTATION_DEG = 10.0  # either way; in three dimensions about each axis
SCALE = 0.1  # a part larger or smaller
SHIFT = 0.06  # of an axis's length, either way
CONTRAST, BRIGHTNESS = 0.1, 0.1  # a part of the contrast about the mean; of the images' standard deviation, which is 1
MIRRORED = 0.5


@dataclass(frozen=True)
class Changes:
    """Which changes are made: how much of the ranges above is used (0 for none), and the share of mirrored images."""

    strength: float = 1.0
    mirrored: float = 0.0


def changed(images: torch.Tensor, changes: Changes, *, seed: int) -> torch.Tensor:
    """Images (n, channels, *size) moved, scaled, and with other contrast; what enters at an edge repeats the edge."""
    random = np.random.default_rng(seed)
    n, dims = len(images), images.ndim - 2
    mirrored = random.random(n) < changes.mirrored
    if changes.strength:
        images = _moved(images, random_affines(images.shape[2:], changes.strength, random, n=n))
        images = _contrasted(images, changes.strength, random)
    if mirrored.any():
        images = images.clone()
        images[mirrored] = images[mirrored].flip(dims + 1)
    return images


def random_affines(
    size: tuple[int, ...], strength: float, random: np.random.Generator, *, n: int
) -> NDArray[np.float64]:
    """(n, d, d + 1), from places in the new image to those in the old one, both from -1 to 1 along the array's axes.

    Rotations are about the middle and by angles in voxels, so that an oblong image is not sheared.
    """
    dims = len(size)
    affines = np.zeros((n, dims, dims + 1))
    affines[:, :, :dims] = np.eye(dims)
    half = np.array(size, dtype=float) / 2
    for place in np.flatnonzero(random.random(n) < SHARE):
        turn = np.eye(dims)
        for a, b in itertools.combinations(range(dims), 2):
            angle = math.radians(random.uniform(-1, 1) * ROTATION_DEG * strength)
            step = np.eye(dims)
            step[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
            turn = turn @ step
        scale = 1 + random.uniform(-1, 1) * SCALE * strength
        affines[place, :, :dims] = turn * scale * half / half[:, None]
        affines[place, :, dims] = random.uniform(-1, 1, dims) * 2 * SHIFT * strength
    return affines


def _moved(images: torch.Tensor, affines: NDArray[np.float64]) -> torch.Tensor:
    """Linear interpolation; images whose affine is the identity stay as they are, to the last bit."""
    import torch
    from torch.nn import functional

    dims = affines.shape[1]
    still = np.hstack([np.eye(dims), np.zeros((dims, 1))])
    places = torch.from_numpy(np.flatnonzero((affines != still).any(axis=(1, 2)))).to(images.device)
    if not len(places):
        return images
    # torch's axes run from columns to slices.
    backwards = affines[places.cpu().numpy()][:, ::-1][:, :, [*range(dims - 1, -1, -1), dims]]
    theta = images.new_tensor(np.ascontiguousarray(backwards))
    chosen = images[places]
    grid = functional.affine_grid(theta, list(chosen.shape), align_corners=False)
    moved = functional.grid_sample(chosen, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return images.index_copy(0, places, moved)


def _contrasted(images: torch.Tensor, strength: float, random: np.random.Generator) -> torch.Tensor:
    n, rest = len(images), [1] * (images.ndim - 1)
    factor = images.new_tensor(1 + random.uniform(-1, 1, n) * CONTRAST * strength).reshape(n, *rest)
    offset = images.new_tensor(random.uniform(-1, 1, n) * BRIGHTNESS * strength).reshape(n, *rest)
    mean = images.mean(tuple(range(1, images.ndim)), keepdim=True)
    return (images - mean) * factor + mean + offset
