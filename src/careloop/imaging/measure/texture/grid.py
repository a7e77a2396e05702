"""A structure on a grid of equal spacing with its intensities in bins: what texture matrices are counted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN_VOXELS = 2  # around a structure's box before it is resampled: linear interpolation looks at the next voxel
JUST_HALF = 1e-6  # a share of exactly a half counts as inside, however it was rounded
JUST_WHOLE = 1e-9  # a size that is a whole number stays it
MAX_LEVELS = 2048  # matrices are levels x levels; 25 HU bins of any 16-bit image are fewer
DEFAULT_BINS = 32


class TextureSettings(BaseModel):
    """How intensities are prepared before texture is measured; results with other settings cannot be compared.

    The defaults for Hounsfield units are those of configuration C of the IBSI's CT reference but for its upper limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: float | None = Field(default=2.0, gt=0, description="Edge of the cubes resampled to; null: as it is.")
    bin_size: float | None = Field(default=None, gt=0, description="Fixed bin size, in the image's unit.")
    bins: int | None = Field(default=None, ge=2, le=MAX_LEVELS, description="Number of bins where no size is set.")
    low: float | None = Field(default=None, description="Leave out voxels below; the first bin begins here.")
    high: float | None = Field(default=None, description="Leave out voxels above.")
    rounded: bool = Field(default=False, description="Round resampled intensities to whole numbers.")

    @property
    def described(self) -> str:
        """The settings in one line, for notes."""
        grid = "spacing as acquired" if self.spacing_mm is None else f"resampled to {self.spacing_mm:g} mm"
        bins = f"bin size {self.bin_size:g}" if self.bin_size is not None else f"{self.bins or DEFAULT_BINS} bins"
        ends = [f"from {self.low:g}"] if self.low is not None else []
        ends += [f"to {self.high:g}"] if self.high is not None else []
        return ", ".join([grid, " ".join([bins, *ends])])


def settings_for(unit: str) -> TextureSettings:
    """Return the default settings: bins of 25 HU from -1000 HU, of 0.25 g/mL from 0 for SUV, else 32 bins.

    Fixed bin sizes need a unit that means the same in every image (IBSI, arXiv:1612.07003, section 2.7).
    """
    if unit == "[hnsf'U]":
        return TextureSettings(bin_size=25.0, low=-1000.0, rounded=True)
    if unit == "g/mL":
        return TextureSettings(bin_size=0.25, low=0.0)
    return TextureSettings(bins=DEFAULT_BINS)


@dataclass(frozen=True)
class Bins:
    """Bins of equal width (IBSI section 2.7): `count` of them from `low` over `span`, and perhaps on beyond."""

    low: float
    span: float
    count: int
    last: int | None = None

    @classmethod
    def of(cls, values: NDArray[np.number], settings: TextureSettings) -> Bins:
        """The bins for a structure's values, at least one."""
        least, most = float(values.min()), float(values.max())
        if settings.bin_size is not None:
            return cls(least if settings.low is None else settings.low, settings.bin_size, 1)
        bins = settings.bins or DEFAULT_BINS
        return cls(least, most - least if most > least else np.inf, bins, bins)

    def levels(self, values: NDArray[np.number]) -> NDArray[np.int32]:
        """The bin of each value, from 1."""
        found = np.floor(self.count * (values.astype(np.float64) - self.low) / self.span).astype(np.int32) + 1
        return found if self.last is None else np.minimum(found, self.last)


def in_range(voxels: NDArray[np.number], settings: TextureSettings) -> NDArray[np.bool_]:
    """True for finite voxels that are neither below `low` nor above `high` (IBSI section 2.6)."""
    known = np.isfinite(voxels)
    if settings.low is not None:
        known &= voxels >= settings.low
    if settings.high is not None:
        known &= voxels <= settings.high
    return known


@dataclass(frozen=True)
class Crop:
    """Where a part of an image was cut out: the index of its first voxel, and the shape of the whole."""

    start: tuple[int, int, int]
    whole: tuple[int, int, int]


def levels_in_space(
    voxels: NDArray[np.number],
    mask: NDArray[np.bool_],
    axes_mm: NDArray[np.float64],
    settings: TextureSettings,
    *,
    crop: Crop | None = None,
) -> NDArray[np.int32]:
    """Return the bins of the structure in the box around it, 0 outside: (slices, rows, columns), perhaps empty.

    `voxels` and `mask` lie on a grid of `axes_mm`; where they are a part of the image, `crop` says which, and should
    reach `MARGIN_VOXELS` beyond the mask. Resampling is linear, mask voxels are those of at least half a share, and
    the centres of both grids agree (IBSI section 2.4). A sheared grid becomes an upright one.

    Raises:
        InputError: there would be more than `MAX_LEVELS` bins.
    """
    if settings.spacing_mm is not None:
        where = crop or Crop((0, 0, 0), (mask.shape[0], mask.shape[1], mask.shape[2]))
        voxels, mask = _resampled(voxels, mask, _upright(axes_mm, settings.spacing_mm), where)
        if settings.rounded:
            voxels = np.rint(voxels)
    mask = mask & in_range(voxels, settings)
    levels = np.zeros(mask.shape, dtype=np.int32)
    values = voxels[mask]
    if len(values):
        levels[mask] = Bins.of(values, settings).levels(values)
    if levels.max(initial=0) > MAX_LEVELS:
        raise InputError(
            f"texture: bin_size {settings.bin_size:g} makes {levels.max()} bins of this image, at most {MAX_LEVELS} are"
            " of use; choose a larger bin_size, or a number of bins"
        )
    return levels[_box(mask)]


def _upright(axes_mm: NDArray[np.float64], spacing_mm: float) -> NDArray[np.float64]:
    """Return the steps of a grid of cubes in steps of the image's: rows and columns keep their directions."""
    _, upper = np.linalg.qr(axes_mm[:, ::-1])
    along = upper[::-1, ::-1] * np.sign(np.diag(upper))[::-1, None]
    return np.asarray(np.linalg.inv(along) * spacing_mm)


def _resampled(
    voxels: NDArray[np.number], mask: NDArray[np.bool_], steps: NDArray[np.float64], crop: Crop
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample what lies around the mask, on the grid that the whole image would be resampled to."""
    from scipy.ndimage import affine_transform

    back = np.linalg.inv(steps)
    size = np.ceil(np.abs(back) @ np.array(crop.whole) - JUST_WHOLE)
    origin = (np.array(crop.whole) - 1) / 2 - steps @ ((size - 1) / 2) - crop.start
    corners = np.array(np.meshgrid(*[(side.start - 1, side.stop) for side in _box(mask)])).reshape(3, -1)
    reach = back @ (corners - origin[:, None])
    first, last = np.maximum(np.floor(reach.min(axis=1)), 0), np.minimum(np.ceil(reach.max(axis=1)), size - 1)
    how = {
        "matrix": steps,
        "offset": origin + steps @ first,
        "output_shape": tuple((last - first + 1).astype(int)),
        "order": 1,
        "mode": "nearest",
    }
    share = affine_transform(mask.astype(np.float32), **how)
    return affine_transform(voxels.astype(np.float32), **how), share >= 0.5 - JUST_HALF


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    ends = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        ends.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0))
    return ends[0], ends[1], ends[2]
