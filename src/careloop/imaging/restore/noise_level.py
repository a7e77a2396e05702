"""How much noise an image has, estimated from the image alone, with texture and edges in it.

The eigenvalues of the covariance of small patches are those of the noise, all alike, and a few larger ones of the
structure (Chen, Zhu and Heng 2015, An efficient statistical method for image noise level estimation, ICCV).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.restore.noise import RicianStabiliser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

PATCH = 8  # pixels a side; the authors' choice
FEWEST_PATCHES = 10 * PATCH**2  # below this sample covariances spread the noise's own eigenvalues
MOST_PATCHES = 20_000  # more change the estimate by less than 1 %
RICIAN_ROUNDS, RICIAN_CLOSE = 30, 1e-3


def noise_sigma(image: Image) -> float:
    """Standard deviation of white Gaussian noise in `image` (rows, columns), in its units.

    Patches that touch pixels at the image's least or greatest value are left out where there are enough others: clipped
    noise and padding would make it look smaller. Noise that is not white (reconstructed CT's, compressed images') is
    underestimated.

    Raises:
        InputError: the image has fewer than 640 patches of 8 x 8 pixels.
    """
    if image.ndim != 2 or _places(image.shape) < FEWEST_PATCHES:
        raise InputError(
            f"Noise is estimated from images (rows, columns) with at least {FEWEST_PATCHES} patches of {PATCH} x "
            f"{PATCH} pixels, got shape {image.shape}"
        )
    return _patch_sigma(_patches(image))


def rician_sigma(image: Image) -> float:
    """Standard deviation of the noise in the channels of an MR magnitude image (rows, columns), in its units.

    The value at which the stabilised image has noise of 1 (Foi 2011, ISBI): background and tissue both count. In an
    image of background alone it comes out about 15 % low.
    Raises InputError as `noise_sigma`.
    """
    sigma = noise_sigma(image)
    if sigma == 0:
        return 0.0
    patches = _patches(image)
    for _ in range(RICIAN_ROUNDS):
        left = _patch_sigma(RicianStabiliser(sigma).forward(patches))
        sigma *= left
        if abs(left - 1) < RICIAN_CLOSE or sigma == 0:
            break
    return float(sigma)


def _places(shape: tuple[int, ...]) -> int:
    return int(np.prod([max(0, n - PATCH + 1) for n in shape]))


def _patches(image: Image) -> Image:
    """At most about 20,000 patches (n, 64), evenly spread; without clipped pixels where there are enough of them."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH))
    clipped = (image == image.min()) | (image == image.max())
    touched = np.lib.stride_tricks.sliding_window_view(clipped, (PATCH, PATCH)).any(axis=(2, 3))
    rows, columns = np.nonzero(~touched if (~touched).sum() >= FEWEST_PATCHES else np.ones_like(touched))
    every = math.ceil(len(rows) / MOST_PATCHES)
    return windows[rows[::every], columns[::every]].reshape(-1, PATCH * PATCH).astype(np.float64)


def _patch_sigma(patches: Image) -> float:
    """Square root of the mean of the eigenvalues that are left when those of the structure are taken off.

    The largest are taken off until the mean of the rest is their median, as it is for noise alone.
    """
    eigenvalues = np.linalg.eigvalsh(np.cov(patches, rowvar=False))
    for left in range(len(eigenvalues), 1, -1):
        mean = eigenvalues[:left].mean()
        if mean <= np.median(eigenvalues[:left]):
            return float(np.sqrt(max(mean, 0.0)))
    return float(np.sqrt(max(eigenvalues[0], 0.0)))
