"""Noise of the usual kinds, simulated, and transforms that make each of them Gaussian with a standard deviation of 1.

A Gaussian denoiser then serves all of them: transform, denoise, transform back without bias (`denoise_stabilised`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

Denoiser = Callable[["Image", float], "Image"]  # (image, sigma) -> image; sigma in the image's units

# The Rician tables: signal in units of sigma up to where the magnitude is Gaussian to 1e-3, and quadrature in z.
RICIAN_SIGNAL = 30.0
RICIAN_STEPS = 601
RICIAN_REFINEMENTS = 6  # of the transform: its noise has a standard deviation of 0.98 to 1.05 then
TAILS = 8.0  # standard deviations on either side that quadrature covers


def add_gaussian(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """The image with white Gaussian noise of standard deviation `sigma`, float32."""
    _check_sigma(sigma)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return image.astype(np.float32) + np.float32(sigma) * noise


def add_poisson(image: Image, photons_at_peak: float, rng: np.random.Generator, *, peak: float | None = None) -> Image:
    """The image as counts would show it: Poisson with mean `photons_at_peak` where the image is `peak`, scaled back.

    `peak` is the image's largest value where None. Raises InputError where the image has negative values.
    """
    peak = float(image.max()) if peak is None else peak
    if photons_at_peak <= 0 or peak <= 0 or float(image.min()) < 0:
        raise InputError(
            "Poisson noise needs an image without negative values, a peak and photons above 0; got a least value of "
            f"{float(image.min()):g}, peak {peak:g}, {photons_at_peak:g} photons; shift the image first"
        )
    scale = photons_at_peak / peak
    return (rng.poisson(image.astype(np.float64) * scale) / scale).astype(np.float32)


def add_rician(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """The magnitude of the image with Gaussian noise of `sigma` in its real and its imaginary part, float32.

    This is the noise of MR magnitude images of one coil (Gudbjartsson and Patz 1995, Magn Reson Med 34:910).
    """
    _check_sigma(sigma)
    real, imaginary = np.float32(sigma) * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image.astype(np.float32) + real, imaginary)


class Stabiliser(Protocol):
    """A transform after which noise has a standard deviation of about 1, and its exact unbiased inverse."""

    def forward(self, image: Image) -> Image:
        """Stabilised values of a noisy image."""

    def inverse(self, values: Image) -> Image:
        """The noise-free image whose noisy versions have these values on average."""


@dataclass(frozen=True)
class CountStabiliser:
    """Generalised Anscombe transform of `gain` x Poisson + Gaussian noise of mean `offset` and `sigma`.

    Starck, Murtagh and Bijaoui 1998, Image processing and data analysis; inverse: the closed form of the
    exact unbiased inverse (Mäkitalo and Foi 2013, IEEE TIP 22:91), never below no light at all.
    """

    gain: float = 1.0
    sigma: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.gain <= 0 or self.sigma < 0:
            raise InputError(
                f"Counts need a gain above 0 and a sigma of at least 0, got {self.gain:g} and {self.sigma:g}"
            )

    def forward(self, image: Image) -> Image:
        """2 sqrt(counts + 3/8 + variance), 0 where that is negative."""
        counts = (image - self.offset) / self.gain
        return 2 * np.sqrt(np.maximum(counts + 3 / 8 + (self.sigma / self.gain) ** 2, 0))

    def inverse(self, values: Image) -> Image:
        """The image whose stabilised noisy versions have the mean `values`."""
        variance = (self.sigma / self.gain) ** 2
        v = np.maximum(values, 2 * np.sqrt(3 / 8))  # that of no counts, below which the closed form turns
        root = np.sqrt(3 / 2)
        counts = v**2 / 4 + root / 4 / v - 11 / 8 / v**2 + 5 * root / 8 / v**3 - 1 / 8 - variance
        return np.maximum(counts, 0) * self.gain + self.offset


@dataclass(frozen=True)
class RicianStabiliser:
    """Transform of Rician magnitudes with noise `sigma`, by tables.

    Foi 2011 (ISBI, Noise estimation and removal in MR imaging: the variance-stabilization approach): the slope of the
    transform is the inverse of the noise's standard deviation at that mean, refined until the transformed noise has
    a standard deviation of 1; the inverse maps the mean of transformed magnitudes to the signal.
    """

    sigma: float

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)
        if self.sigma == 0:
            raise InputError("Rician noise can be stabilised where its sigma is above 0, got 0")

    def forward(self, image: Image) -> Image:
        """Stabilised magnitudes; those beyond the table grow by 1 a sigma."""
        z, f, _, _ = _rician_tables()
        scaled = image / self.sigma
        return np.interp(scaled, z, f) + np.maximum(scaled - z[-1], 0)

    def inverse(self, values: Image) -> Image:
        """The signal, 0 or more, whose stabilised magnitudes have the mean `values`."""
        _, _, signal, mean = _rician_tables()
        return self.sigma * (np.interp(values, mean, signal) + np.maximum(values - mean[-1], 0))


def denoise_stabilised(image: Image, stabiliser: Stabiliser, denoiser: Denoiser) -> Image:
    """The image denoised by a Gaussian denoiser between `stabiliser` and its inverse.

    The denoiser sees stabilised values scaled to the range 0 to 1, with noise of the `sigma` it is told.
    """
    values = stabiliser.forward(image)
    low, span = float(values.min()), float(np.ptp(values))
    if span == 0:
        return stabiliser.inverse(values)
    scaled = denoiser(((values - low) / span).astype(np.float32), 1 / span)
    return stabiliser.inverse(scaled.astype(np.float64) * span + low).astype(np.float32)


@lru_cache(maxsize=1)
def _rician_tables() -> tuple[Image, Image, Image, Image]:
    """(z, f(z)) of the transform and (signal, E f) of its inverse, all for a sigma of 1."""
    signal = np.linspace(0, RICIAN_SIGNAL, RICIAN_STEPS)
    z = np.linspace(0, RICIAN_SIGNAL + TAILS, 2 * RICIAN_STEPS)
    weights = _rician_density(z, signal)
    mean = weights @ z
    slope = np.ones_like(z)
    for _ in range(RICIAN_REFINEMENTS):
        f = _integral(slope, z)
        sd = np.sqrt(np.maximum(weights @ f**2 - (weights @ f) ** 2, 0))
        slope = slope / np.interp(z, mean, sd)  # np.interp holds the ends: below the least mean, and far out
    f = _integral(slope, z)
    return z, f, signal, weights @ f


def _rician_density(z: Image, signal: Image) -> Image:
    """Quadrature weights (signal, z) of the Rician density with a sigma of 1, each row with a sum of 1."""
    from scipy.special import i0e

    density = z * np.exp(-((z - signal[:, None]) ** 2) / 2) * i0e(z * signal[:, None])
    return density / density.sum(axis=1, keepdims=True)


def _integral(slope: Image, z: Image) -> Image:
    """Integral of `slope` from the first z, by trapezoids."""
    return np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(z))])


def _check_sigma(sigma: float) -> None:
    if not np.isfinite(sigma) or sigma < 0:
        raise InputError(f"A noise level must be a number of at least 0, got {sigma:g}")
