"""Where a network is put down on an image that is larger than its patch, and how much each voxel of a tile counts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.segment.model import Tiling

if TYPE_CHECKING:
    from numpy.typing import NDArray

Origin = tuple[int, int, int]  # slice, row and column of a tile's first voxel; negative where the image is padded

SIGMA_PER_PATCH = 1 / 8
CENTRE_WEIGHT = 10.0  # nnU-Net's value_scaling_factor: keeps the tails out of half precision's subnormal numbers


def patch_3d(tiling: Tiling) -> tuple[int, int, int]:
    """The patch as (slices, rows, columns); a 2D network's is one slice thick."""
    if len(tiling.patch) not in (2, 3) or min(tiling.patch) < 1:
        raise InputError(f"A patch has two or three axes of at least one voxel, got {tiling.patch}; mend the model")
    if not 0 < tiling.step <= 1:
        raise InputError(f"The step of tiles must be above 0 and at most 1 patch, got {tiling.step}; mend the model")
    whole = (1,) * (3 - len(tiling.patch)) + tuple(tiling.patch)
    return whole[0], whole[1], whole[2]


def starts_along(size: int, patch: int, step: float) -> list[int]:
    """First voxels of the tiles along one axis: evenly spread, at most `step` patches apart, the last one flush.

    An axis shorter than the patch has one tile that begins before it, as if the image had been padded on both sides
    (by one voxel more behind it where that is uneven). As nnU-Net v2's `compute_steps_for_sliding_window` after
    `pad_nd_image`.
    """
    if size <= patch:
        return [-((patch - size) // 2)]
    count = int(np.ceil((size - patch) / (patch * step))) + 1
    return [int(np.round((size - patch) / (count - 1) * i)) for i in range(count)]


def tile_rows(shape: tuple[int, ...], tiling: Tiling) -> list[list[Origin]]:
    """Tiles of an image (slices, rows, columns) in rows that begin at the same slice, in rising order.

    A 2D network's tiles cover each slice, so that every slice is a row.
    """
    patch = patch_3d(tiling)
    along_z = list(range(shape[0])) if len(tiling.patch) == 2 else starts_along(shape[0], patch[0], tiling.step)
    along_y, along_x = (starts_along(size, p, tiling.step) for size, p in zip(shape[1:], patch[1:], strict=True))
    return [[(z, y, x) for y in along_y for x in along_x] for z in along_z]


def inside(origin: Origin, patch: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], ...]:
    """The part of a tile that lies in the image: as slices of the image, and as slices of the tile."""
    starts = [max(o, 0) for o in origin]
    stops = [min(o + p, size) for o, p, size in zip(origin, patch, shape, strict=True)]
    of_image = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    of_tile = tuple(slice(a - o, b - o) for a, b, o in zip(starts, stops, origin, strict=True))
    return of_image, of_tile


def cut_tile(image: NDArray[np.float32], origin: Origin, patch: tuple[int, int, int]) -> NDArray[np.float32]:
    """The tile (C, *patch) of an image (C, Z, Y, X), zero outside the image; a view where it lies inside."""
    of_image, of_tile = inside(origin, patch, image.shape[1:])
    content = image[(slice(None), *of_image)]
    if content.shape[1:] == patch:
        return content
    tile = np.zeros((len(image), *patch), np.float32)
    tile[(slice(None), *of_tile)] = content
    return tile


@lru_cache(maxsize=2)
def tile_weights(tiling: Tiling) -> NDArray[np.float32]:
    """How much each voxel of a tile counts (slices, rows, columns): values of half precision, none of them zero.

    `gaussian` is nnU-Net v2's `compute_gaussian`: sigma an eighth of the patch, 10 at the centre, rounded to half
    precision, and what that rounds to zero raised to the smallest weight left (Isensee et al. 2021, Nat Methods 18).
    """
    patch = tiling.patch
    if tiling.weighting == "constant":
        return np.ones(patch_3d(tiling), np.float32)
    from scipy.ndimage import gaussian_filter

    weights = np.zeros(patch)
    weights[tuple(p // 2 for p in patch)] = 1
    weights = gaussian_filter(weights, [p * SIGMA_PER_PATCH for p in patch], 0, mode="constant", cval=0)
    weights /= weights.max() / CENTRE_WEIGHT
    rounded = weights.astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    whole = rounded.astype(np.float32).reshape(patch_3d(tiling))
    whole.flags.writeable = False
    return whole
