"""A structure on a grid of equal spacing with its intensities in bins: what texture matrices are counted in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN_VOXELS = 2  # around a structure's box before it is resampled: linear interpolation looks at the next voxel
JUST_HALF = 1e-6  # a share of exactly a half counts as inside, however it was rounded
MAX_LEVELS = 1024  # matrices are levels x levels; more bins than this are noise


class TextureSettings(BaseModel):
    """How intensities are prepared before texture is measured; results with other settings cannot be compared.

    The defaults for Hounsfield units are those of configuration C of the IBSI's CT reference but for its upper limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: float | None = Field(default=2.0, gt=0, description="Edge of the cubes resampled to; null: as it is.")
    bin_size: float | None = Field(default=None, gt=0, description="Fixed bin size, in the image's unit.")
    bins: int | None = Field(default=None, ge=2, le=MAX_LEVELS, description="Fixed number of bins, if no bin size.")
    low: float | None = Field(default=None, description="Leave out voxels below; the first bin begins here.")
    high: float | None = Field(default=None, description="Leave out voxels above.")
    rounded: bool = Field(default=False, description="Round resampled intensities to whole numbers.")

    @property
    def described(self) -> str:
        """The settings in one line, for notes."""
        grid = "spacing as acquired" if self.spacing_mm is None else f"resampled to {self.spacing_mm:g} mm"
        bins = f"bin size {self.bin_size:g}" if self.bin_size is not None else f"{self.bins} bins"
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
    return TextureSettings(bins=32)


def levels_of(values: NDArray[np.floating], settings: TextureSettings) -> NDArray[np.int32]:
    """Return the bin of each value, from 1 (IBSI section 2.7: fixed bin size or fixed bin number).

    Raises InputError where there would be more than `MAX_LEVELS` bins.
    """
    if not len(values):
        return np.zeros(0, dtype=np.int32)
    low = float(values.min()) if settings.low is None else settings.low
    if settings.bin_size is not None:
        top = (float(values.max()) - low) / settings.bin_size
        if top >= MAX_LEVELS:
            raise InputError(
                f"texture: bin_size {settings.bin_size:g} makes {top:.0f} bins of this image, at most {MAX_LEVELS} are"
                " of use; choose a larger bin_size, or a number of bins"
            )
        return np.floor((values - low) / settings.bin_size).astype(np.int32) + 1
    bins = settings.bins or 32
    width = float(values.max()) - float(values.min())
    if width == 0:
        return np.ones(len(values), dtype=np.int32)
    scaled = np.floor(bins * (values - float(values.min())) / width).astype(np.int32) + 1
    return np.minimum(scaled, bins)


def levels_in_space(
    voxels: NDArray[np.generic], mask: NDArray[np.bool_], axes_mm: NDArray[np.float64], settings: TextureSettings
) -> NDArray[np.int32]:
    """Return the bins of the structure in the box around it, 0 outside: (slices, rows, columns), perhaps empty.

    `voxels` and `mask` are the whole image or a part of it, on a grid of `axes_mm`. Resampling is linear, mask voxels
    are those of at least half a share, and the centres of both grids agree (IBSI section 2.4). A sheared grid becomes
    an upright one.
    """
    if settings.spacing_mm is not None:
        voxels, mask = _resampled(voxels, mask, axes_mm, settings.spacing_mm)
        if settings.rounded:
            voxels = np.rint(voxels)
    mask = mask & np.isfinite(voxels)
    if settings.low is not None:
        mask &= voxels >= settings.low
    if settings.high is not None:
        mask &= voxels <= settings.high
    levels = np.zeros(mask.shape, dtype=np.int32)
    levels[mask] = levels_of(voxels[mask].astype(np.float64), settings)
    return levels[_box(mask)]


def _resampled(
    voxels: NDArray[np.generic], mask: NDArray[np.bool_], axes_mm: NDArray[np.float64], spacing_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample the box of the mask to cubes; a grid centred as the whole image's is, whatever the box."""
    from scipy.ndimage import affine_transform

    # Upright axes: columns and rows keep their direction where the grid is sheared along its slices.
    _, upper = np.linalg.qr(axes_mm[:, ::-1])
    upper = upper[::-1, ::-1] * np.sign(np.diag(upper))[::-1, None]
    to_index = np.linalg.inv(upper) * spacing_mm  # steps of the new grid in steps of the old one
    size = np.ceil(np.abs(np.linalg.inv(to_index)) @ np.array(mask.shape) - 1e-9).astype(int)
    centre = (np.array(mask.shape) - 1) / 2 - to_index @ ((size - 1) / 2)
    box = _box(mask)
    corners = np.array(np.meshgrid(*[(side.start - 1, side.stop) for side in box])).reshape(3, -1)
    inside = np.linalg.inv(to_index) @ (corners - centre[:, None])
    first = np.floor(inside.min(axis=1)).astype(int)
    shape = tuple(np.ceil(inside.max(axis=1)).astype(int) - first + 1)
    around = tuple(
        slice(max(side.start - MARGIN_VOXELS, 0), min(side.stop + MARGIN_VOXELS, length))
        for side, length in zip(box, mask.shape, strict=True)
    )
    offset = centre + to_index @ first - [side.start for side in around]
    known = voxels[around].astype(np.float32)
    image = affine_transform(known, to_index, offset, shape, order=1, mode="nearest")
    share = affine_transform(mask[around].astype(np.float32), to_index, offset, shape, order=1, mode="nearest")
    return image, share >= 0.5 - JUST_HALF


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    ends = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        ends.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0))
    return ends[0], ends[1], ends[2]
