"""Numbers that describe an image without any network: its grey values, its texture, its edges and its layout.

A network reads an image for what it was trained on and can be blind to everything else: it sees faces in noise. These
numbers are cheap, need no training, and change when an image is inverted, noisy, of another organ or no medical image
at all. They depend on the grid only through frequencies in cycles a voxel, so images of different sizes compare.

Sources: Ruderman, Network 1994;5:517 (power spectra and gradients of natural images, sections 3 and 4); Pertuz, Puig
and Garcia, Pattern Recognit 2013;46:1415 (energy of the Laplacian as sharpness).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

# What each group of statistics says when it is unlike, in words for people.
GROUPS = {
    "grey values": "grey values unlike those of the training images",
    "texture": "texture (fine against coarse detail) unlike that of the training images",
    "edges": "edges and sharpness unlike those of the training images",
    "layout": "layout (where bright and dark parts lie) unlike that of the training images",
}
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
EDGE_QUANTILES = (0.5, 0.75, 0.9, 0.99)
BANDS = (0.0, 0.0625, 0.088, 0.125, 0.177, 0.25, 0.354, 0.5)  # cycles a voxel, half an octave each
CELLS = {2: 8, 3: 4}  # of the layout along each axis
LEAST_SIZE = 4  # voxels along an axis, below which there is neither gradient nor spectrum to speak of
FAINT = 1e-6  # added where a logarithm is taken, so that a flat image has one


def image_statistics(image: Floats) -> dict[str, NDArray[np.float64]]:
    """Statistics of one image (channels, rows, columns) or (channels, slices, rows, columns), by the keys of `GROUPS`.

    Values are as the network gets them; only `grey values` heeds their level and spread, the other groups are of the
    image less its mean in its standard deviations. InputError: other shapes, too few voxels, or values not finite.
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim not in (3, 4) or min(values.shape[1:]) < LEAST_SIZE:
        raise InputError(
            f"Images must be (channels, rows, columns) or (channels, slices, rows, columns) of at least {LEAST_SIZE} "
            f"voxels along each axis; got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InputError("Images must hold finite values only; put in a number for voxels without one")
    parts = [_of_channel(channel) for channel in values]
    return {name: np.concatenate([part[name] for part in parts]) for name in GROUPS}


def statistics_table(images: Sequence[Floats] | Floats) -> dict[str, NDArray[np.float64]]:
    """Statistics of images (n, channels, *size), or of a list of images of several sizes: (n, numbers) by group."""
    rows = [image_statistics(image) for image in images]
    return {name: np.stack([row[name] for row in rows]) for name in GROUPS}


def _of_channel(channel: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    spread = float(channel.std())
    standard = (channel - channel.mean()) / (spread + FAINT)
    return {
        "grey values": _grey_values(channel, standard),
        "texture": _texture(standard),
        "edges": _edges(standard),
        "layout": _layout(standard),
    }


def _grey_values(channel: NDArray[np.float64], standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles, mean, standard deviation, skewness and kurtosis, and the shares at the lowest and highest value."""
    quantiles = np.quantile(channel, QUANTILES)
    ends = [np.count_nonzero(channel == end) / channel.size for end in (channel.min(), channel.max())]
    return np.array([*quantiles, channel.mean(), channel.std(), *_shape(standard), *ends])


def _shape(standard: NDArray[np.float64]) -> tuple[float, float]:
    """Skewness, and the logarithm of kurtosis, of values with mean 0 and standard deviation 1."""
    flat = standard.ravel()
    squared = flat * flat
    return float(squared @ flat) / flat.size, float(np.log(squared @ squared / flat.size + FAINT))


def _texture(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the mean power in each band of frequencies, seen through a Hann window."""
    window = standard
    for axis, n in enumerate(standard.shape):
        shape = [-1 if a == axis else 1 for a in range(standard.ndim)]
        window = window * np.hanning(n + 2)[1:-1].reshape(shape)
    power = np.square(np.abs(np.fft.fftn(window))) / standard.size
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in standard.shape), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    band = np.digitize(radius.ravel(), BANDS[1:])
    number = np.bincount(band, minlength=len(BANDS))
    mean = np.bincount(band, weights=power.ravel(), minlength=len(BANDS)) / np.maximum(number, 1)
    return np.log(mean + FAINT)


def _edges(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """How steep edges are, how they are spread over sizes and directions, and how sharp, bright or dark detail is."""
    slopes = np.stack(list(np.gradient(standard)))
    squared = slopes * slopes
    steepness = np.sqrt(squared.sum(axis=0))
    second = [np.diff(standard, 2, axis=axis)[_inner(standard.ndim, axis)] for axis in range(standard.ndim)]
    curved = np.sum(second, axis=0)
    sharpness = float(np.std(curved))
    detail = (curved - curved.mean()) / (sharpness + FAINT)
    energy = np.log(squared.reshape(len(squared), -1).mean(axis=1) + FAINT)
    flat = np.count_nonzero(steepness < 0.1 * steepness.mean()) / steepness.size
    found = [*np.log(np.quantile(steepness, EDGE_QUANTILES) + FAINT), *(energy[1:] - energy[0])]
    return np.array([*found, np.log(sharpness + FAINT), *_shape(detail), flat])


def _inner(dimensions: int, axis: int) -> tuple[slice, ...]:
    """What second differences along one axis have in common with those along the others."""
    return tuple(slice(None) if a == axis else slice(1, -1) for a in range(dimensions))


def _layout(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over a coarse grid of cells, so that where things lie counts and how fine they are does not."""
    cells = CELLS[standard.ndim]
    found = standard
    for axis, n in enumerate(standard.shape):
        found = np.moveaxis(np.tensordot(_averaging(n, cells), found, axes=(1, axis)), 0, axis)
    return found.ravel()


def _averaging(n: int, cells: int) -> NDArray[np.float64]:
    """Weights (cells, n) that average n voxels in equal cells; a voxel on a border counts for both by its parts."""
    edges = np.linspace(0, n, cells + 1)
    starts, ends = np.maximum(edges[:-1, None], np.arange(n)), np.minimum(edges[1:, None], np.arange(1, n + 1))
    shared = np.maximum(ends - starts, 0.0)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True), dtype=np.float64)
