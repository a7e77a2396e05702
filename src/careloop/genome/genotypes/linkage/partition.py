"""Variants of a contig parted into blocks between which there is little linkage, by dynamic programming.

As Prive, Optimal linkage disequilibrium splitting, Bioinformatics 2022;38:255; a cut's cost is the sum of r squared of
the pairs that it parts, so that a pair over several cuts counts at each.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

SIZE_COST = 1e-5  # a cut through a block of 500 in the middle is free up to a sum of r squared of 1.25


def crossing(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cost of a cut behind each variant of one contig: (variants,), 0 behind the last.

    `left` and `right` are `LinkageSums` of the same variants and of a window that does not leave them.
    """
    return np.maximum(np.cumsum(right - left), 0.0)


def partition(costs: NDArray[np.float64], *, max_size: int) -> list[slice]:
    """Cut where the costs are least in sum, no block above `max_size` variants; slices in order.

    Large blocks cost `SIZE_COST` times the square of their size, so that free cuts are made.

    Raises:
        InputError: a size below 1.
    """
    if max_size < 1:
        raise InputError(f"a block of linkage has at least one variant; got a largest size of {max_size}")
    count = costs.size
    best, came_from = np.zeros(count + 1), np.zeros(count + 1, np.int64)
    size_costs = SIZE_COST * np.arange(max_size, 0, -1.0) ** 2  # of blocks that start at end - max_size, ...
    for end in range(1, count + 1):
        first = max(0, end - max_size)
        totals = best[first:end] + size_costs[max_size - (end - first) :]
        at = int(totals.argmin())
        best[end], came_from[end] = totals[at] + costs[end - 1], first + at
    ends = [count]
    while ends[-1] > 0:
        ends.append(int(came_from[ends[-1]]))
    ends.reverse()
    return [slice(start, end) for start, end in pairwise(ends)]
