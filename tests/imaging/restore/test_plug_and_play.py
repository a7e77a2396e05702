"""Deblurring and upsampling against a dense solution of the same least squares, and on known blur."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.restore import plug_and_play
from careloop.imaging.restore.plug_and_play import deblurred, transfer_function, upsampled

KERNEL = np.outer([1, 2, 1], [1, 3, 1]) / 20.0


def blurred_circularly(image: np.ndarray) -> np.ndarray:
    return np.real(np.fft.ifft2(np.fft.fft2(image) * transfer_function(KERNEL, image.shape)))


def test_transfer_function_is_that_of_a_centred_convolution() -> None:
    from scipy.ndimage import convolve

    image = np.random.default_rng(0).random((12, 10))
    assert np.allclose(blurred_circularly(image), convolve(image, KERNEL, mode="wrap"))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_data_step_solves_the_least_squares_problem(factor: int) -> None:
    """Minimise ||S K x - y||^2 + w ||x - z||^2 by dense matrices."""
    rng, shape, weight = np.random.default_rng(1), (6, 12), 0.3
    guess, data = rng.random(shape), rng.random((shape[0] // factor, shape[1] // factor))
    basis = np.eye(np.prod(shape)).reshape(-1, *shape)
    forward = np.stack([blurred_circularly(e)[::factor, ::factor].ravel() for e in basis], axis=1)
    left = forward.T @ forward + weight * np.eye(np.prod(shape))
    truth = np.linalg.solve(left, forward.T @ data.ravel() + weight * guess.ravel()).reshape(shape)
    transfer = transfer_function(KERNEL, shape)
    from_data = np.conj(transfer) * np.fft.fft2(plug_and_play._spread(data, factor))
    assert np.allclose(plug_and_play._data_step(guess, transfer, from_data, weight, factor), truth)


def smooth(plane: np.ndarray, level: float) -> np.ndarray:
    """A poor denoiser: a little blur that grows with the level."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(plane, 4 * level)


def test_known_blur_is_undone() -> None:
    from scipy.ndimage import convolve, gaussian_filter

    truth = gaussian_filter(np.random.default_rng(2).random((64, 64)), 2)
    truth = (truth - truth.min()) / np.ptp(truth)
    kernel = np.outer(*[np.array([1, 4, 6, 4, 1]) / 16] * 2)
    blurry = convolve(truth, kernel, mode="reflect")
    sharp = deblurred(blurry, kernel, 0.0, denoise=smooth)
    assert np.sqrt(np.mean((sharp - truth) ** 2)) < 0.5 * np.sqrt(np.mean((blurry - truth) ** 2))


def test_upsampling_keeps_pixels_where_they_are() -> None:
    rows, columns = np.mgrid[:20, :24]
    plane = (rows + 2 * columns) / 70.0
    fine = upsampled(plane, np.ones((1, 1)), 0.0, factor=2, denoise=lambda p, level: p)
    assert fine.shape == (40, 48)
    inner = (slice(8, -8), slice(8, -8))
    truth = (np.mgrid[:40, :48][0] / 2 + np.mgrid[:40, :48][1]) / 70.0
    assert np.allclose(fine[inner], truth[inner], atol=0.01)


@pytest.mark.parametrize("kernel", [np.ones((2, 2)) / 4, np.ones((3, 3)), np.ones(3) / 3])
def test_what_is_no_kernel_is_refused(kernel: np.ndarray) -> None:
    with pytest.raises(InputError, match="odd length and the sum 1"):
        deblurred(np.zeros((8, 8)), kernel, 0.1, denoise=smooth)
