"""Deblurring and super-resolution with a denoiser as the prior: half-quadratic splitting, data step in closed form.

Zhang et al. 2021, Plug-and-play image restoration with deep denoiser prior (IEEE TPAMI 44:6360), sections 4.1
(deblurring) and 4.2 (super-resolution, with the closed form of Zhao et al. 2016, IEEE TIP 25:3683). The image is
continued beyond its edges before anything is transformed, as Fourier transforms would join opposite edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]
    Denoise = Callable[["Plane", float], "Plane"]
    Progress = Callable[[str, int, int], None]

STEPS = 8  # the authors' number
FIRST_LEVEL = 49 / 255  # of the denoiser; it falls to the image's own noise
TRADE_OFF = 0.23  # between data and prior, the authors'
LEAST_LEVEL = 2 / 255  # of images that are said to have no noise: the kernel is never known exactly
EDGE = 2  # kernels' widths by which an image is continued beyond its edges


def deblurred(
    plane: Plane, kernel: Plane, level: float, *, denoise: Denoise, progress: Progress | None = None
) -> NDArray[np.float32]:
    """A plane (0 to 1) blurred by `kernel` (odd edges, sum 1), with noise of `level`, sharpened.

    Raises InputError for a kernel that is none.
    """
    return upsampled(plane, kernel, level, factor=1, denoise=denoise, progress=progress)


def upsampled(
    plane: Plane,
    kernel: Plane,
    level: float,
    *,
    factor: int,
    denoise: Denoise,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """A plane (rows, columns) that was blurred by `kernel` and thinned by `factor`, on the finer grid.

    The pixel (r, c) of the plane is the blurred pixel (factor r, factor c) of the result.
    """
    _check(kernel, factor)
    level = max(float(level), LEAST_LEVEL)
    margin = -(-EDGE * max(kernel.shape) // factor)
    wide = np.pad(plane.astype(np.float64), margin, mode="symmetric")
    shape = (wide.shape[0] * factor, wide.shape[1] * factor)
    transfer = transfer_function(kernel, shape)
    from_data = np.conj(transfer) * np.fft.fft2(_spread(wide, factor))
    guess = _enlarged(wide, factor)
    for number, step_level in enumerate(np.geomspace(max(FIRST_LEVEL, level), level, STEPS), start=1):
        weight = TRADE_OFF * level**2 / step_level**2
        fitted = _data_step(guess, transfer, from_data, weight, factor)
        guess = denoise(fitted.astype(np.float32), float(step_level)).astype(np.float64)
        if progress is not None:
            progress("restoring", number, STEPS)
    edge = margin * factor
    return guess[edge : edge + plane.shape[0] * factor, edge : edge + plane.shape[1] * factor].astype(np.float32)


def transfer_function(kernel: Plane, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """The kernel's Fourier transform on a grid, its middle at the grid's first pixel."""
    placed = np.zeros(shape)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.fft2(np.roll(placed, [-(n // 2) for n in kernel.shape], (0, 1)))


def _data_step(guess: Plane, transfer: Any, from_data: Any, weight: float, factor: int) -> Plane:
    """The image nearest to the guess that explains the data, in the balance of `weight`."""
    right = from_data + weight * np.fft.fft2(guess)
    folded = _folded(transfer * right, factor) / (_folded(np.abs(transfer) ** 2, factor) + weight)
    return np.real(np.fft.ifft2((right - np.conj(transfer) * np.tile(folded, (factor, factor))) / weight))


def _folded(spectrum: Any, factor: int) -> Any:
    """Mean of the parts of a spectrum that thinning by `factor` makes one."""
    rows, columns = (n // factor for n in spectrum.shape)
    return spectrum.reshape(factor, rows, factor, columns).mean((0, 2))


def _spread(plane: Plane, factor: int) -> Plane:
    """The plane's pixels on the finer grid, nothing between them."""
    fine = np.zeros((plane.shape[0] * factor, plane.shape[1] * factor))
    fine[::factor, ::factor] = plane
    return fine


def _enlarged(plane: Plane, factor: int) -> Plane:
    """The plane on the finer grid by cubic splines, pixel (0, 0) staying where it is."""
    from scipy.ndimage import affine_transform

    if factor == 1:
        return plane
    shape = (plane.shape[0] * factor, plane.shape[1] * factor)
    return np.asarray(affine_transform(plane, [1 / factor] * 2, output_shape=shape, order=3, mode="nearest"))


def _check(kernel: Plane, factor: int) -> None:
    odd = kernel.ndim == 2 and all(n % 2 for n in kernel.shape)
    if not odd or not np.isclose(kernel.sum(), 1.0, atol=1e-3) or factor < 1:
        raise InputError(
            "A blur kernel must have two axes of odd length and the sum 1, and the factor be at least 1; got shape "
            f"{kernel.shape}, sum {kernel.sum():.4g}, factor {factor}"
        )
