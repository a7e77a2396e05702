"""A slice whose noise is made white Gaussian, which the networks take out, and the way back to its unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop.imaging.restore.intensities import IntensityRange
from careloop.imaging.restore.noise import CountStabiliser, RicianStabiliser, Stabiliser
from careloop.imaging.restore.noise_level import noise_sigma, rician_sigma
from careloop.imaging.restore.run import RestoredPlane

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOTHING = 0.5 / 255  # a noise level below which there is nothing to take out


@dataclass(frozen=True)
class NoisyPlane:
    """A plane (rows, columns) float32 of about 0 to 1, with white Gaussian noise of the standard deviation `level`."""

    plane: NDArray[np.float32]
    level: float


@dataclass(frozen=True)
class Whitened:
    """What a network is given for a slice, None where it has no noise, and the way back of its result.

    `level` is the noise's standard deviation in the slice's unit; for Poisson noise, the value of a photon.
    """

    level: float
    noisy: NoisyPlane | None
    in_unit: Callable[[RestoredPlane], RestoredPlane]


def whitened(
    values: NDArray[np.float64],
    noise: Literal["gaussian", "rician", "poisson"],
    within: IntensityRange,
    *,
    level: float | None = None,
    gain: float = 1.0,
) -> Whitened:
    """White noise as it is; Rician and Poisson noise after a transform that makes it white (see noise.py).

    `values` (rows, columns) are in the image's unit, whose usual range is `within`; a `level` of None is estimated.
    """
    if noise == "gaussian":
        sigma, width = level if level is not None else noise_sigma(values), within.high - within.low
        noisy = NoisyPlane(within.scaled(values), sigma / width)
        return Whitened(sigma, noisy if noisy.level >= NOTHING else None, partial(_unscaled, within))
    if noise == "poisson":
        return _stabilised(values, CountStabiliser(gain=gain), gain)
    sigma = level if level is not None else rician_sigma(values)
    if sigma < NOTHING * (within.high - within.low):
        return Whitened(sigma, None, partial(_unscaled, within))
    return _stabilised(values, RicianStabiliser(sigma), sigma)


def _unscaled(within: IntensityRange, restored: RestoredPlane) -> RestoredPlane:
    return RestoredPlane(within.unscaled(restored.plane), within.width(restored.expected_error))


def _stabilised(values: NDArray[np.float64], stabiliser: Stabiliser, level: float) -> Whitened:
    stable = stabiliser.forward(values)
    low, width = float(stable.min()), max(1.0, float(np.ptp(stable)))

    def in_unit(found: RestoredPlane) -> RestoredPlane:
        """The expected error goes through the inverse transform as half the distance between its two sides."""
        plane, error = (part.astype(np.float64) * width for part in (found.plane, found.expected_error))
        plane += low
        sides = stabiliser.inverse(plane + error) - stabiliser.inverse(plane - error)
        return RestoredPlane(stabiliser.inverse(plane).astype(np.float32), (np.abs(sides) / 2).astype(np.float32))

    return Whitened(level, NoisyPlane(((stable - low) / width).astype(np.float32), 1 / width), in_unit)
