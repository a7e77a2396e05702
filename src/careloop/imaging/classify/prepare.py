"""Images to the array that a classification network takes: grey or colour, scaled, resampled, padded, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.segment.model import Preparation
from careloop.imaging.segment.prepare import turn_of
from careloop.imaging.upright import upright
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.model import InputFormat, Intensities

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as pillow and torchvision take grey from colour


def prepare(volume: Volume, taken: InputFormat) -> NDArray[np.float32]:
    """The volume as (channels, *size): its one slice for a format of pictures, the whole of it for one of volumes.

    A tilted gantry is straightened, and the volume turned to the format's orientation where the image has a place.

    Raises:
        InputError: several slices for a network of pictures (`slices_of` takes them apart), or as `prepare_array`.
    """
    if taken.dimensions == 2:
        if len(volume.voxels) != 1:
            raise InputError(f"the model takes pictures of one slice, got {len(volume.voxels)}; give it a slice each")
        return prepare_array(volume.voxels[0], taken, spacing_mm=volume.spacing_mm[1:])
    straight = upright(volume)
    voxels, spacing = straight.voxels, straight.spacing_mm
    if taken.orientation is not None and straight.placed:
        turn = turn_of(straight, Preparation((), None, orientation=taken.orientation))
        planes = [turn.apply(voxels[..., i]) for i in range(3)] if voxels.ndim == 4 else [turn.apply(voxels)]
        voxels = np.stack(planes, axis=-1) if voxels.ndim == 4 else planes[0]
        spacing = (spacing[turn.order[0]], spacing[turn.order[1]], spacing[turn.order[2]])
    return prepare_array(voxels, taken, spacing_mm=spacing)


def prepare_array(
    pixels: NDArray[Any], taken: InputFormat, *, spacing_mm: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Pixels (*axes) or, in colour, (*axes, 3) as (channels, *size); `spacing_mm` of the axes, all alike if not given.

    In this order: colour to grey (BT.601) or grey to three equal channels; intensities to 0 to 1; resampling with
    antialiasing; zeros around, or what is too large cut off evenly; mean and standard deviation. Values that are not
    finite count as the lowest.

    Raises:
        InputError: another number of axes than the format has, no pixels, or values outside of a stated range.
    """
    axes = taken.dimensions
    colour = pixels.ndim == axes + 1 and pixels.shape[-1] == 3
    if not (pixels.ndim == axes or colour) or not pixels.size:
        raise InputError(f"the model takes {axes} axes, grey or with 3 colours last, got an image of {pixels.shape}")
    planes = np.moveaxis(pixels, -1, 0) if colour else pixels[np.newaxis]
    image = np.asarray(planes, np.float32)
    if colour and taken.channels == 1:
        image = np.tensordot(np.array(LUMA, np.float32), image, axes=1)[np.newaxis]
    image = resampled(scaled(image, taken.intensities), taken, spacing_mm or (1.0,) * axes)
    image = np.broadcast_to(image, (taken.channels, *taken.size))
    each = (-1, *(1,) * axes)
    return np.asarray((image - np.reshape(taken.mean, each)) / np.reshape(taken.std, each), np.float32)


def scaled(image: NDArray[np.float32], how: Intensities) -> NDArray[np.float32]:
    """Values to 0 to 1 by the rule; an image of one value becomes 0 where the rule is its own percentiles."""
    finite = np.isfinite(image)
    whole = bool(finite.all())
    low, high = how.low, how.high
    if how.rule == "percentiles":
        known = image if whole else image[finite]
        low, high = (float(value) for value in np.percentile(known, (low, high))) if known.size else (0.0, 0.0)
    elif how.rule == "range":
        least = float(np.min(image, where=finite, initial=np.inf))
        most = float(np.max(image, where=finite, initial=-np.inf))
        if least < low or most > high:
            raise InputError(
                f"the model takes values of {low:g} to {high:g}, got {least:g} to {most:g}; convert the image to that "
                "range, or use a model that scales images by their own percentiles"
            )
    if not whole:
        image = np.where(finite, image, np.float32(low))
    return np.clip((image - np.float32(low)) / np.float32(high - low or 1.0), 0.0, 1.0)


def resampled(image: NDArray[np.float32], taken: InputFormat, spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Image (c, *axes) as (c, *size): at the format's spacing, or as large as fits with its proportions kept."""
    length_mm = np.multiply(image.shape[1:], spacing_mm)
    voxel_mm = taken.spacing_mm or (float((length_mm / taken.size).max()),) * taken.dimensions
    fitted = [max(1, round(float(length / voxel))) for length, voxel in zip(length_mm, voxel_mm, strict=True)]
    for axis, new in sorted(enumerate(fitted, start=1), key=lambda pair: pair[1] / image.shape[pair[0]]):
        if new != image.shape[axis]:
            weights = averaging_matrix(image.shape[axis], new)
            image = np.moveaxis(np.tensordot(weights, image, axes=(1, axis)), 0, axis)
    return _centred(image, taken.size)


@lru_cache(maxsize=32)
def averaging_matrix(old: int, new: int) -> NDArray[np.float32]:
    """Weights (new, old) of linear interpolation whose triangle is as wide as a new pixel where that is the larger.

    The outer faces of both grids coincide. These are pillow's weights of a resize with BILINEAR, and torch's with
    antialias=True.
    """
    step = old / new
    centres = (np.arange(new)[:, None] + 0.5) * step
    apart = np.abs(np.arange(old)[None] + 0.5 - centres) / max(step, 1.0)
    weights = np.maximum(0.0, 1.0 - apart)
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def _centred(image: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Image (c, *axes) in the middle of (c, *size), zeros around it, cut evenly where it is larger."""
    if image.shape[1:] == tuple(size):
        return image
    out = np.zeros((len(image), *size), np.float32)
    source, target = [slice(None)], [slice(None)]
    for old, new in zip(image.shape[1:], size, strict=True):
        kept = min(old, new)
        source.append(slice((old - kept) // 2, (old - kept) // 2 + kept))
        target.append(slice((new - kept) // 2, (new - kept) // 2 + kept))
    out[tuple(target)] = image[tuple(source)]
    return out
