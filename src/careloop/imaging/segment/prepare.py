"""From volumes to the array that a network takes (turned, cropped, normalised, resampled), and where it came from.

The values are nnU-Net's (2.8, preprocessing/preprocessors/default_preprocessor.py, cropping, normalization; Apache-2.0)
where a model's `Preparation` says so; sources are read once and only the crop is ever copied.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.segment.resample import Resampling, axis_between, resample, resampled_shape, separate_axis
from careloop.imaging.volume import Volume, check_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.segment.model import Normalization, Preparation

SMALLEST_SD = 1e-8  # nnU-Net's: a constant image is divided by this
PICTURE_SLICE = 999.0  # nnU-Net's spacing across a single picture, in its largest spacing
TOWARDS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}  # in LPS axes
SIGNIFICANT = 7  # digits of a spacing: what the float32 of a NIfTI header holds


@dataclass(frozen=True)
class Turn:
    """Other axes for a volume: new axis i is old axis `order[i]`, reversed where `flipped[i]`."""

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of (slices, rows, columns) in the new axes."""
        return array.transpose(self.order)[self._slices]

    def undo(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of an array in the new axes as (slices, rows, columns)."""
        return array[self._slices].transpose(tuple(np.argsort(self.order)))

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)


@dataclass(frozen=True)
class Placing:
    """How the prepared grid lies in the volume's: turned to `shape`, cut to `box`, resampled; `scores` leads back."""

    turn: Turn
    shape: tuple[int, int, int]
    box: tuple[slice, slice, slice]
    image: Resampling
    scores: Resampling


@dataclass(frozen=True)
class Prepared:
    """`image` (C, Z, Y, X), float32, in the network's axes, and how it lies in the volume."""

    image: NDArray[np.float32]
    placing: Placing


def prepare(volumes: Sequence[Volume], preparation: Preparation) -> Prepared:
    """Volumes on one grid, one a channel (a colour volume is three), as the model's networks take them.

    Raises:
        InputError: more or fewer channels than the model has, or volumes on different grids.
    """
    channels = _channels(volumes, len(preparation.normalizations))
    turn = turn_of(volumes[0], preparation)
    turned = [turn.apply(channel) for channel in channels]
    inside = _nonzero(turned) if preparation.crop == "nonzero" else None
    box = _box(turned[0].shape, inside)
    placing = _placing(volumes[0], preparation, turn, box)
    outside = None
    if inside is not None and any(n.scheme == "zscore_foreground" for n in preparation.normalizations):
        outside = ~_without_holes(inside[box])
    del inside
    images = []
    for channel, how in zip(turned, preparation.normalizations, strict=True):
        values = np.array(channel[box], dtype=np.float32, order="C")
        if preparation.normalize_first:
            normalize(values, how, outside)
        values = resample(values, placing.image)
        if not preparation.normalize_first:
            normalize(values, how, values == 0)
        images.append(values)
    image = images[0][None] if len(images) == 1 else np.stack(images)
    return Prepared(image, placing)


def turn_of(volume: Volume, preparation: Preparation) -> Turn:
    """From a volume's axes to the network's: turned to the model's orientation first, then in the network's order.

    As SimpleITK and nibabel do for an oblique image, each axis counts as the patient's axis that it is closest to.
    """
    if preparation.orientation is None:
        return Turn(preparation.axes)
    cosines = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    lps = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[p[i], i]) for i in range(3)))
    order, flipped = [], []
    for letter in preparation.orientation:
        along, sign = TOWARDS[letter]
        order.append(lps.index(along))
        flipped.append(bool(np.sign(cosines[along, order[-1]]) != sign))
    z, y, x = preparation.axes
    return Turn((order[z], order[y], order[x]), (flipped[z], flipped[y], flipped[x]))


def normalize(values: NDArray[np.float32], how: Normalization, outside: NDArray[np.bool_] | None) -> None:
    """Scale one channel in place; `outside` are the voxels that `zscore_foreground` leaves as they are."""
    if how.scheme == "ct":
        np.clip(values, how.low, how.high, out=values)
        values -= how.mean
        values /= max(how.sd, SMALLEST_SD)
    elif how.scheme == "fixed":
        values -= how.mean
        values /= max(how.sd, SMALLEST_SD)
    elif how.scheme == "zscore":
        mean, sd = values.mean(), values.std()
        values -= mean
        values /= max(sd, SMALLEST_SD)
    elif how.scheme == "zscore_foreground":
        if outside is None:
            raise InputError("a model that normalises the foreground must crop to it; its preparation does not")
        inside = values[~outside]
        if len(inside):
            values[~outside] = (inside - inside.mean()) / max(inside.std(), SMALLEST_SD)
    elif how.scheme == "own_range":
        values -= values.min()
        values /= max(values.max(), SMALLEST_SD)
    elif how.scheme == "range":
        np.clip(values, how.low, how.high, out=values)
        values -= how.low
        values *= (how.scaled_high - how.scaled_low) / (how.high - how.low)
        values += how.scaled_low


def _channels(volumes: Sequence[Volume], expected: int) -> list[NDArray[np.generic]]:
    channels: list[NDArray[np.generic]] = []
    for volume in volumes:
        check_same_grid(volumes[0], volume, what="the images of one patient")
        if volume.voxels.ndim == 4:
            channels += [volume.voxels[..., i] for i in range(volume.voxels.shape[3])]
        else:
            channels.append(volume.voxels)
    if len(channels) != expected:
        raise InputError(f"the model takes {expected} images (one a channel), got {len(channels)}")
    return channels


def _nonzero(channels: Sequence[NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Where any channel is not 0."""
    mask: NDArray[np.bool_] = channels[0] != 0
    for channel in channels[1:]:
        mask |= channel != 0
    return mask


def _box(shape: Sequence[int], inside: NDArray[np.bool_] | None) -> tuple[slice, slice, slice]:
    """The smallest box of all that is inside; everything where nothing is."""
    if inside is None or not inside.any():
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    z, y = (np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    x = np.flatnonzero(inside.any(axis=0).any(axis=0))
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def _without_holes(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: what is not joined through faces to the border of the box is inside.

    The values of `scipy.ndimage.binary_fill_holes`, by one labelling in place of a dilation for each voxel of depth.
    """
    from scipy.ndimage import label

    parts, count = label(~inside)
    at_border = np.zeros(count + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            at_border[np.unique(np.take(parts, end, axis=axis))] = True
    at_border[0] = False
    return ~at_border[parts]


def _placing(volume: Volume, preparation: Preparation, turn: Turn, box: tuple[slice, slice, slice]) -> Placing:
    stored = volume.voxels.shape[:3]
    shape = stored[turn.order[0]], stored[turn.order[1]], stored[turn.order[2]]
    cut = [part.stop - part.start for part in box]
    own = _spacing(volume, preparation, turn)
    target = (
        own if preparation.spacing_mm is None else [*own[: 3 - len(preparation.spacing_mm)], *preparation.spacing_mm]
    )
    new = resampled_shape(cut, own, target, preparation.grid)
    image = _resampling(cut, new, (own, target), preparation, preparation.image_order)
    return Placing(turn, shape, box, image, _resampling(new, cut, (target, own), preparation, preparation.score_order))


def _spacing(volume: Volume, preparation: Preparation, turn: Turn) -> list[float]:
    """Spacing in the network's axes, rounded to a NIfTI header's digits: nnU-Net's shapes come from those numbers."""
    spacing = [float(np.float32(f"{volume.spacing_mm[i]:.{SIGNIFICANT}g}")) for i in turn.order]
    if volume.voxels.shape[0] == 1 and not volume.placed:
        spacing[turn.order.index(0)] = PICTURE_SLICE * max(spacing)
    return spacing


def _resampling(
    old: Sequence[int], new: Sequence[int], spacings: tuple[Sequence[float], Sequence[float]],
    preparation: Preparation, order: int,
) -> Resampling:  # fmt: skip
    """From `old` to `new` voxels at `spacings` (before, after)."""
    apart = None
    if preparation.separate_axis_order is not None:
        apart = separate_axis(*spacings, preparation.anisotropy)
    z, y, x = (
        axis_between(
            old[i], new[i],
            ratio=spacings[1][i] / spacings[0][i],
            grid=preparation.grid,
            order=order if i != apart or preparation.separate_axis_order is None else preparation.separate_axis_order,
        )
        for i in range(3)
    )  # fmt: skip
    return Resampling((z, y, x), apart)
