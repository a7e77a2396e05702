"""The intensity range in which a restoration network sees an image, and back to the image's own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

CT_RANGE_HU = (-1000.0, 1000.0)  # from air to dense bone; metal and teeth lie above 1 and are restored as well
HIGH_PERCENTILE = 99.5  # of arbitrary intensities: what is brighter is a vessel, a fold or a spike


@dataclass(frozen=True)
class IntensityRange:
    """`low` becomes 0 and `high` 1; nothing is clipped."""

    low: float
    high: float

    def scaled(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Values as the network sees them."""
        return ((np.asarray(values, np.float64) - self.low) / (self.high - self.low)).astype(np.float32)

    def unscaled(self, values: Image) -> NDArray[np.float32]:
        """Back in the image's units."""
        return (np.asarray(values, np.float64) * (self.high - self.low) + self.low).astype(np.float32)

    def width(self, values: Image) -> NDArray[np.float32]:
        """A difference or an error back in the image's units."""
        return (np.asarray(values, np.float64) * (self.high - self.low)).astype(np.float32)


def intensity_range(volume: Volume) -> IntensityRange:
    """The range of an image: fixed for CT, 0 to a high percentile of the whole volume for other modalities.

    Raises InputError for an image without contrast or in colour.
    """
    if volume.voxels.ndim != 3:
        raise InputError("Restoration takes images of one channel, got a colour image; convert it to grey first")
    if volume.modality == "CT":
        return IntensityRange(*CT_RANGE_HU)
    low = min(0.0, float(volume.voxels.min()))
    high = float(np.percentile(volume.voxels.astype(np.float32), HIGH_PERCENTILE))
    if not high > low:
        raise InputError(f"An image to be restored must have contrast, got values of {low:g} only")
    return IntensityRange(low, high)
