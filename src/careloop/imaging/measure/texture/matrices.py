"""Six texture matrices of a discretised structure in three dimensions, counted with whole-array operations.

Each takes `levels` (slices, rows, columns): bins from 1, 0 outside the structure. Neighbours are the 26 around a voxel,
13 directions and their opposites; counts of all directions are added up (IBSI: 3D, merged).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.int32]
    Counts = NDArray[np.int64]

DIRECTIONS = tuple(step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0))


def cooccurrence(levels: Levels) -> Counts:
    """Return (levels, levels): how often two levels are neighbours, both ways round (GLCM; Haralick 1973)."""
    top = int(levels.max())
    counts = np.zeros(top * top, dtype=np.int64)
    for step in DIRECTIONS:
        a, b = _pair(levels, step)
        both = (a > 0) & (b > 0)
        counts += np.bincount((a[both] - 1) * top + b[both] - 1, minlength=top * top)
    one_way = counts.reshape(top, top)
    return one_way + one_way.T


def run_lengths(levels: Levels) -> Counts:
    """Return (levels, lengths): how many runs of equal level have a length (GLRLM; Galloway 1975)."""
    top, longest = int(levels.max()), max(levels.shape)
    padded = np.pad(levels, 1)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    counts = np.zeros(top * (longest + 1), dtype=np.int64)
    for step in DIRECTIONS:
        # Steps along a direction are equal steps in memory; between two lines there is always padding.
        apart = int(strides @ step)
        flat = np.pad(padded.ravel(), (0, -padded.size % apart))
        line = flat.reshape(-1, apart).T.ravel()
        change = np.flatnonzero(line[1:] != line[:-1]) + 1
        starts, ends = change[:-1], change[1:]
        level = line[starts]
        lengths = (ends - starts)[level > 0]
        counts += np.bincount((level[level > 0] - 1) * (longest + 1) + lengths, minlength=len(counts))
    return counts.reshape(top, longest + 1)[:, 1:]


def zones(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each voxel's zone (same order as `levels[levels > 0]`), from 0, and each zone's level.

    A zone is a set of connected voxels (26 neighbours) of equal level.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    inside = levels > 0
    many = int(inside.sum())
    zone = np.full(levels.shape, -1, dtype=np.int32)
    zone[inside] = np.arange(many)
    total = many
    for step in DIRECTIONS:  # zones grow together direction by direction: memory stays within a few arrays
        a, b = _pair(levels, step)
        same = (a == b) & (a > 0)
        one, other = (part[same] for part in _pair(zone, step))
        apart = one != other
        if apart.any():
            links = coo_array((np.ones(int(apart.sum()), dtype=bool), (one[apart], other[apart])), shape=(total, total))
            total, merged = connected_components(links, directed=False)
            zone[inside] = merged[zone[inside]]
    of_voxel = zone[inside].astype(np.int64)
    level = np.zeros(total, dtype=np.int64)
    level[of_voxel] = levels[inside]
    return of_voxel, level


def size_zones(of_voxel: NDArray[np.int64], level: NDArray[np.int64]) -> tuple[NDArray[np.int64], Counts]:
    """Return the sizes that occur, and (levels, sizes): how many zones have each (GLSZM; Thibault 2014).

    Takes what `zones` returns; sizes are in voxels.
    """
    sizes, column = np.unique(np.bincount(of_voxel), return_inverse=True)
    counts = np.zeros((int(level.max()), len(sizes)), dtype=np.int64)
    np.add.at(counts, (level - 1, column), 1)
    return sizes, counts


def distance_zones(levels: Levels, of_voxel: NDArray[np.int64], level: NDArray[np.int64]) -> Counts:
    """Return (levels, distances): how many zones are that far from the structure's border (GLDZM; Thibault 2014).

    A zone's distance is that of its nearest voxel; voxels with an open face have distance 1.
    """
    from scipy.ndimage import distance_transform_cdt

    inside = levels > 0
    padded = np.pad(inside, 1)
    distance = distance_transform_cdt(padded, "taxicab")[1:-1, 1:-1, 1:-1][inside]
    nearest = np.full(len(level), distance.max(), dtype=np.int64)
    np.minimum.at(nearest, of_voxel, distance)
    counts = np.zeros((int(level.max()), int(nearest.max())), dtype=np.int64)
    np.add.at(counts, (level - 1, nearest - 1), 1)
    return counts


def dependence(levels: Levels) -> Counts:
    """Return (levels, 1 to 27): how many voxels have that many of their level around, with themselves.

    (NGLDM; Sun and Wee 1983; coarseness 0.)
    """
    alike = np.ones(levels.shape, dtype=np.int8)
    for step in DIRECTIONS:
        same = np.equal(*_pair(levels, step))
        for part in _pair(alike, step):
            part += same
    inside = levels > 0
    counts = np.bincount((levels[inside] - 1) * 27 + alike[inside] - 1, minlength=int(levels.max()) * 27)
    return counts.reshape(-1, 27)


def tone_difference(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return of each level: voxels with a neighbour, and the sum of differences from their neighbours' mean.

    (NGTDM; Amadasun and King 1989.)
    """
    inside = levels > 0
    total, many = (_with_neighbours(array) for array in (levels.astype(np.int64), inside.astype(np.int64)))
    own = levels[inside].astype(np.int64)
    total, many = total[inside] - own, many[inside] - 1
    has = many > 0
    apart = np.abs(own[has] - total[has] / many[has])
    top = int(levels.max())
    many_of_level = np.bincount(own[has] - 1, minlength=top)
    return many_of_level, np.asarray(np.bincount(own[has] - 1, weights=apart, minlength=top), dtype=np.float64)


def _with_neighbours(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of each voxel the sum over itself and its 26 neighbours."""
    for axis in range(3):
        step = tuple(int(other == axis) for other in range(3))
        total = array.copy()
        (into, into_next), (own, own_next) = _pair(total, step), _pair(array, step)
        into += own_next
        into_next += own
        array = total
    return array


def _pair(array: NDArray[np.generic], step: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Return two views of equal shape: voxels, and their neighbours one step on."""
    here = tuple(slice(max(-s, 0), -max(s, 0) or None) for s in step)
    there = tuple(slice(max(s, 0), min(s, 0) or None) for s in step)
    return array[here], array[there]
