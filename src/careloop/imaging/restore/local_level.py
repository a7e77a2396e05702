"""How strong the fine grain of a plane is, place by place: what a network is told of noise that is not white."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

BLOCK = 16  # pixels along a side that have one level
NORMAL_MEDIAN = 0.6745  # of the absolute value of a standard normal
DIFFERENCE_NORM = 6.0  # of the kernel [1, -2, 1] along rows times the same along columns


def local_level(plane: Plane) -> NDArray[np.float32]:
    """Standard deviation of white noise that would give the plane's second differences, (rows, columns) float32.

    The median of their absolute values in each block of `BLOCK` x `BLOCK` pixels, so that edges count little (after
    Immerkaer 1996, Fast noise variance estimation), interpolated between the middles of blocks. For noise that is
    correlated between pixels it is in proportion to the noise's strength, not equal to it.
    """
    from scipy.ndimage import zoom

    rows, columns = plane.shape
    kernel = np.array([1.0, -2.0, 1.0])
    padded = np.pad(plane.astype(np.float64), 1, mode="reflect")
    along = kernel[0] * padded[:-2] + kernel[1] * padded[1:-1] + kernel[2] * padded[2:]
    grain = np.abs(kernel[0] * along[:, :-2] + kernel[1] * along[:, 1:-1] + kernel[2] * along[:, 2:])
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    filled = np.pad(grain, ((0, down * BLOCK - rows), (0, across * BLOCK - columns)), mode="symmetric")
    blocks = np.median(filled.reshape(down, BLOCK, across, BLOCK), axis=(1, 3))
    blocks = blocks / NORMAL_MEDIAN / DIFFERENCE_NORM
    smooth = zoom(blocks, BLOCK, order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(smooth[:rows, :columns], np.float32)
