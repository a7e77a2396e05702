"""What a network is to take, from a look at training images: size, channels, intensities, mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.classify.data.dataset import TRAIN, ImageDataset
from careloop.imaging.classify.model import InputFormat, Intensities
from careloop.imaging.classify.prepare import prepare
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKED_AT = 128  # training images, evenly spread over the file
LARGEST = {2: 224, 3: 64}  # voxels of the longest axis, unless a size is asked for
WINDOW = (0.5, 99.5)  # percentiles of Hounsfield units over training images; Isensee et al. 2021 (nnU-Net)
HOUNSFIELD, BYTE = "[hnsf'U]", 255.0
UPRIGHT = "SPL"  # slices towards the head, rows towards the back, columns towards the left
VALUES_AN_IMAGE = 20_000  # for the window's percentiles
SMALLEST_STD = 1e-3


def choose_format(dataset: ImageDataset, *, size: tuple[int, ...] | None) -> InputFormat:
    """The format that suits the training rows of a data set with splits.

    Hounsfield units are cut to a window of what the training images hold, 8-bit pictures keep their range, and all
    others are scaled by their own percentiles, as their units are arbitrary.

    Raises:
        InputError: none of the images looked at can be used, or the size has another number of axes than they have.
    """
    train = np.flatnonzero(dataset.split == TRAIN)
    chosen = train[np.unique(np.linspace(0, len(train) - 1, min(LOOKED_AT, len(train))).round().astype(int))]
    seen = list(dataset.images.volumes(dataset.places[chosen].tolist()))
    usable = [volume for _, volume in seen if isinstance(volume, Volume)]
    if not usable:
        raise InputError(f"{dataset.path}: none of {len(seen)} training images can be used (the first: {seen[0][1]})")
    flat = np.mean([len(volume.voxels) == 1 for volume in usable]) >= 0.5
    usable = [volume for volume in usable if (len(volume.voxels) == 1) == flat]
    dims = 2 if flat else 3
    if size is not None and len(size) != dims:
        raise InputError(f"size must have {dims} axes, as the images of {dataset.path} have, got {size}")
    taken = InputFormat(
        size=size or _size(usable, dims),
        channels=3 if any(volume.voxels.ndim == 4 for volume in usable) else 1,
        intensities=_intensities(usable),
        orientation=UPRIGHT if dims == 3 and all(volume.placed for volume in usable) else None,
    )
    return _standardised(usable, taken)


def _size(volumes: Sequence[Volume], dims: int) -> tuple[int, ...]:
    """The median image's proportions, with as many voxels along its longest axis as it has, or `LARGEST`."""
    shapes = np.array([volume.voxels.shape[3 - dims : 3] for volume in volumes])
    length_mm = np.median(
        [np.multiply(shape, v.spacing_mm[3 - dims :]) for shape, v in zip(shapes, volumes, strict=True)], axis=0
    )
    longest = min(LARGEST[dims], int(np.median(shapes.max(axis=1))))
    return tuple(max(1, round(float(n))) for n in length_mm / length_mm.max() * longest)


def _intensities(volumes: Sequence[Volume]) -> Intensities:
    if all(volume.unit == HOUNSFIELD for volume in volumes):
        values = np.concatenate([_some(volume.voxels) for volume in volumes])
        low, high = np.percentile(values[np.isfinite(values)], WINDOW)
        return Intensities("window", float(low), float(high))
    if all(volume.voxels.dtype == np.uint8 for volume in volumes):
        return Intensities("range", 0.0, BYTE)
    return Intensities()


def _some(voxels: NDArray[np.generic]) -> NDArray[np.float32]:
    flat = voxels.reshape(-1)
    return flat[:: max(1, len(flat) // VALUES_AN_IMAGE)].astype(np.float32)


def _standardised(volumes: Sequence[Volume], taken: InputFormat) -> InputFormat:
    """The format with the mean and standard deviation of each channel over the images that fit it."""
    sums = np.zeros((3, taken.channels))
    for volume in volumes:
        try:
            image = prepare(volume, taken).astype(np.float64).reshape(taken.channels, -1)
        except InputError:
            continue  # said again, and counted, when all rows are prepared
        sums += np.stack([np.full(len(image), image.shape[1]), image.sum(axis=1), (image**2).sum(axis=1)])
    if not sums[0].all():
        raise InputError("none of the training images looked at can be prepared; see what `image info` says of them")
    mean = sums[1] / sums[0]
    std = np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, SMALLEST_STD**2))
    return replace(taken, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
