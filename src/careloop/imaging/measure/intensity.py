"""Statistics of the intensities inside a mask, by the names of the Image Biomarker Standardisation Initiative."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.measure.texture.grid import Bins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.number]

AT_ONCE = 2**20  # values that are taken to double precision together
PEAK_RADIUS_MM = 10 * (3 / (4 * np.pi)) ** (1 / 3)  # of a sphere of 1 cm3


def statistics(values: Values) -> dict[str, float]:
    """Return the intensity statistics (IBSI UHIW, arXiv:1612.07003 section 3.3) of finite `values`, at least one.

    Variance and standard deviation are those of a population, kurtosis is excess kurtosis. Skewness and kurtosis are 0
    where all values are equal, as IBSI has it.
    """
    mean = sum(float(part.sum()) for part in _parts(values)) / len(values)
    energy = second = third = fourth = 0.0
    for part in _parts(values):
        energy += float(part @ part)
        part -= mean
        square = part * part
        second += float(square.sum())
        third += float(square @ part)
        fourth += float(square @ square)
    low, p10, p25, median, p75, p90, high = (float(v) for v in np.percentile(values, (0, 10, 25, 50, 75, 90, 100)))
    variance = second / len(values) if high > low else 0.0
    return {
        "intensity_mean": mean,
        "intensity_sd": variance**0.5,
        "intensity_variance": variance,
        "intensity_skewness": third / len(values) / variance**1.5 if variance > 0 else 0.0,
        "intensity_kurtosis": fourth / len(values) / variance**2 - 3 if variance > 0 else 0.0,
        "intensity_median": median,
        "intensity_minimum": low,
        "intensity_p10": p10,
        "intensity_p90": p90,
        "intensity_maximum": high,
        "intensity_iqr": p75 - p25,
        "intensity_range": high - low,
        "intensity_energy": energy,
    }


def entropy(values: Values, bins: Bins) -> float:
    """Return the entropy in bits of the values in bins (IBSI TLU2, section 3.4.18)."""
    counts = np.zeros(0, dtype=np.int64)
    for part in _parts(values):
        more = np.bincount(bins.levels(part), minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    share = counts[counts > 0] / len(values)
    return float(-(share * np.log2(share)).sum()) + 0.0


def peak(voxels: Values, mask: NDArray[np.bool_], axes_mm: NDArray[np.float64]) -> float:
    """Return the highest mean in a sphere of 1 cm3 around any voxel of `mask`: SUVpeak where intensities are SUV.

    IBSI 0F91 (section 3.2.2; Frings et al., Radiology 2014;273:748): spheres reach beyond the mask; beyond the image
    they count what is there. `voxels` and `mask` (slices, rows, columns) lie on one grid of `axes_mm`.
    """
    from scipy.signal import oaconvolve

    ball = _ball(axes_mm)
    known = np.isfinite(voxels)
    sums = oaconvolve(np.where(known, voxels, 0).astype(np.float64), ball, mode="same")
    counts = np.rint(oaconvolve(known.astype(np.float64), ball, mode="same"))
    return float((sums[mask] / np.maximum(counts[mask], 1)).max())


def peak_margin(axes_mm: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return how many voxels around a mask `peak` looks at, along each axis."""
    steps = PEAK_RADIUS_MM * np.linalg.norm(np.linalg.inv(axes_mm), axis=1)
    a, b, c = (int(step) for step in np.floor(steps + 1e-9))
    return a, b, c


def _ball(axes_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = peak_margin(axes_mm)
    offsets = np.indices([2 * step + 1 for step in reach]).reshape(3, -1).T - reach
    inside = np.linalg.norm(offsets @ axes_mm.T, axis=1) <= PEAK_RADIUS_MM
    return inside.reshape([2 * step + 1 for step in reach]).astype(np.float64)


def _parts(values: Values) -> Iterator[NDArray[np.float64]]:
    return (values[start : start + AT_ONCE].astype(np.float64) for start in range(0, len(values), AT_ONCE))
