"""Physical values as whole numbers of 16 bits: with the source's scale where it is fine enough, else a finer one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS_PER_NOISE = 4.0  # rounding to a quarter of the noise adds 0.3 % to its standard deviation
MOST_UNSIGNED, MOST_SIGNED = 65535, 32767


@dataclass(frozen=True)
class StoredScale:
    """Value = `slope` x stored value + `intercept`; stored values have `bits`, two's complement where `signed`."""

    slope: float = 1.0
    intercept: float = 0.0
    bits: int = 16
    signed: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest stored value."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def holds(self, low: float, high: float) -> bool:
        """True where values from `low` to `high` can be stored."""
        least, most = (round((value - self.intercept) / self.slope) for value in (low, high))
        return self.limits[0] <= least and most <= self.limits[1]

    def stored(self, values: NDArray[Any]) -> NDArray[np.int16] | NDArray[np.uint16]:
        """The nearest whole numbers, little endian; values beyond the limits become the limits."""
        whole = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        return np.clip(whole, *self.limits).astype("<i2" if self.signed else "<u2")


def scale_for(values: NDArray[Any], source: StoredScale | None, *, noise_sd: float | None = None) -> StoredScale:
    """The scale to store `values` with: the source's, or one that spreads them over 16 bits.

    The source's is kept where it holds all values and its step is at most a quarter of `noise_sd` (any step where that
    is None). Raises InputError where a value is not finite.
    """
    low, high = value_range(values)
    fine = source is not None and (noise_sd is None or abs(source.slope) * STEPS_PER_NOISE <= noise_sd)
    if source is not None and fine and source.slope > 0 and source.holds(low, high):
        return source
    # One number is left free at either end: slope and intercept are rounded to the digits that a header holds.
    slope = as_written((high - low) / (MOST_UNSIGNED - 2)) or 1.0
    return StoredScale(slope, as_written(low - slope))


def scale_through_zero(values: NDArray[Any]) -> StoredScale:
    """A scale of signed numbers with an intercept of 0, as PET images must have."""
    low, high = value_range(values)
    return StoredScale(as_written(max(abs(low), abs(high)) / (MOST_SIGNED - 1)) or 1.0, signed=True)


def value_range(values: NDArray[Any]) -> tuple[float, float]:
    """Least and greatest value; raises InputError where one is not finite."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("An image to be stored needs finite values, got infinite or undefined ones")
    return low, high


def as_written(value: float) -> float:
    """The number as a decimal string of at most 16 characters holds it (PS3.5 table 6.2-1, DS)."""
    return float(decimal_string(value))


def decimal_string(value: float) -> str:
    """The number in at most 16 characters."""
    return next(text for digits in range(16, 0, -1) if len(text := f"{value:.{digits}g}") <= 16)
