"""What the log-odds do when parts of an image are really taken away, or put back, in the order of a map.

Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.3 (deletion and insertion). Parts are the cells of a grid
rather than single pixels, and what is taken away is blurred rather than black: single black pixels are noise that no
network was trained on, against which any map would look good. As in RISE, the order is beside random orders; it is also
beside that of an edge detector, which is right wherever the eye is drawn and knows nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop.imaging.explain.scored import Scored, blurred

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

CELLS = {2: 12, 3: 6}  # of the grid along each axis, where the image has as many voxels
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)  # of the cells taken away or put back
RANDOM_ORDERS = 5  # averaged, so that chance's curve is steadier than the map's
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """A mean over images with its 95 % interval (bootstrap by image)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curves:
    """Mean log-odds after `shares` of the cells were taken from the images, or put into their blurred selves.

    `area` are the mean distances over the shares by which the map does better than the random order and the edges: for
    deletion how much further, for insertion how much less far the log-odds stay below.
    """

    test: Literal["deletion", "insertion"]
    shares: tuple[float, ...]
    map: tuple[float, ...]
    random: tuple[float, ...]
    edges: tuple[float, ...]
    area: dict[Literal["random", "edges"], Difference]


def removal_curves(scored: Scored, images: Floats, maps: Floats, *, label: int, seed: int = 0) -> tuple[Curves, Curves]:
    """Deletion and insertion of images (n, channels, *size) in the order of maps (n, *size), largest first."""
    cells, random = cell_numbers(images.shape[2:]), np.random.default_rng(seed)
    by_map = _places(_cell_means(maps, cells), random)
    by_edges = _places(_cell_means(edge_maps(images), cells), random)
    by_chance = [random.permuted(by_map, axis=1) for _ in range(RANDOM_ORDERS)]
    plain = blurred(images)

    def curves(test: Literal["deletion", "insertion"]) -> Curves:
        pair = (images, plain) if test == "deletion" else (plain, images)
        sign = -1.0 if test == "deletion" else 1.0
        mine, edges, *chances = (_curve(scored, pair, p[:, cells], label) for p in (by_map, by_edges, *by_chance))
        chance = np.mean(chances, axis=0)
        area: dict[Literal["random", "edges"], Difference] = {
            "random": mean_with_interval((sign * (mine - chance)).mean(axis=1), seed=seed),
            "edges": mean_with_interval((sign * (mine - edges)).mean(axis=1), seed=seed),
        }
        return Curves(test, SHARES, _means(mine), _means(chance), _means(edges), area)

    return curves("deletion"), curves("insertion")


def mean_with_interval(values: Floats, *, seed: int = 0) -> Difference:
    """Mean of values (n,) of as many images, with the percentile interval of the bootstrap."""
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(axis=1), INTERVAL)
    return Difference(float(np.mean(values)), float(low), float(high))


def edge_maps(images: Floats) -> NDArray[np.float32]:
    """Steepness of the grey values (n, *size), of all channels together (Sobel's filter)."""
    from scipy.ndimage import sobel

    axes = range(2, images.ndim)
    return np.asarray(sum(sobel(images, axis=axis) ** 2 for axis in axes), dtype=np.float32).sum(axis=1)


def cell_numbers(size: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of the cell that each voxel (*size) lies in."""
    number = np.zeros(size, dtype=np.int64)
    for axis, length in enumerate(size):
        count = min(CELLS[len(size)], length)
        along = np.arange(length) * count // length
        number = number * count + along.reshape([-1 if a == axis else 1 for a in range(len(size))])
    return number


def _cell_means(maps: Floats, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean (n, cells) of each map in each cell."""
    voxels = np.bincount(cells.ravel())
    return np.stack([np.bincount(cells.ravel(), weights=m.ravel().astype(np.float64)) / voxels for m in maps])


def _places(values: Floats, random: np.random.Generator) -> NDArray[np.float64]:
    """Where each cell (n, cells) stands when the largest goes first, 0 to below 1; equal ones in random order."""
    order = np.lexsort((random.random(values.shape), -values), axis=1)
    return np.asarray(np.argsort(order, axis=1) / values.shape[1], dtype=np.float64)


def _curve(scored: Scored, pair: tuple[Floats, Floats], places: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """Log-odds (n, shares) where voxels of cells in the first places (n, *size) are those of the second images."""
    altered = (np.where((places < share)[:, None], pair[1], pair[0]) for share in SHARES)
    return np.stack([scored.log_odds(images, label) for images in altered], axis=1)


def _means(curves: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in curves.mean(axis=0))
