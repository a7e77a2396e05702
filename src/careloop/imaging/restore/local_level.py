"""How strong the grain of a plane is, place by place and size by size: what a network is told of noise not white."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

LEVEL_STEPS = (1, 2, 4)  # pixels between the values that are compared
BLOCK = 16  # pixels along a side that have one level
NORMAL_MEDIAN = 0.6745  # of the absolute value of a standard normal
DIFFERENCE_NORM = 6.0  # of the kernel [1, -2, 1] along rows times the same along columns


def local_levels(plane: Plane, count: int = len(LEVEL_STEPS)) -> NDArray[np.float32]:
    """Noise levels seen over the first `count` of `LEVEL_STEPS`, (count, rows, columns) float32.

    They are alike where noise is white. Noise that neighbouring pixels share hardly shows in the difference between
    them, so the first level is then far below its standard deviation: a fourth to a tenth of it for the kernels of CT.
    Over steps wider than its grain it shows whole, and some of the anatomy with it.
    """
    return np.stack([local_level(plane, step) for step in LEVEL_STEPS[:count]])


def local_level(plane: Plane, step: int = 1) -> NDArray[np.float32]:
    """Standard deviation of white noise that would give the plane's second differences, (rows, columns) float32.

    Differences are between pixels `step` apart. The median of their absolute values in each block of `BLOCK` x `BLOCK`
    pixels, so that edges count little (after Immerkaer 1996, Fast noise variance estimation), interpolated between the
    middles of blocks.
    """
    from scipy.ndimage import zoom

    rows, columns = plane.shape
    padded = np.pad(plane.astype(np.float64), step, mode="reflect")
    along = padded[: -2 * step] - 2 * padded[step:-step] + padded[2 * step :]
    grain = np.abs(along[:, : -2 * step] - 2 * along[:, step:-step] + along[:, 2 * step :])
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    filled = np.pad(grain, ((0, down * BLOCK - rows), (0, across * BLOCK - columns)), mode="symmetric")
    blocks = np.median(filled.reshape(down, BLOCK, across, BLOCK), axis=(1, 3))
    blocks = blocks / NORMAL_MEDIAN / DIFFERENCE_NORM
    smooth = zoom(blocks, BLOCK, order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(smooth[:rows, :columns], np.float32)
