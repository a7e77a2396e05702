"""Blocks of linkage put beside each other in arrays, so that one step of a sampler works on many blocks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP = 16  # variants of a block that are gone through before the rest of the block hears of it
_SIZE_RATIO = 2.0  # between the largest and the smallest block of a stack: how much is padded


@dataclass(frozen=True)
class Stack:
    """Blocks of about one size, padded to the largest: `size` variants, a multiple of `STEP`.

    `r` (blocks, size, size): correlations, the off-diagonal ones shrunk, 0 in the padding. `near` (size, STEP, blocks):
    of each variant those with the variants of its own step. `place` (size, blocks): row of the variant, 0 in the
    padding; `real` (size, blocks): whether it is one.
    """

    r: NDArray[np.float32]
    near: NDArray[np.float32]
    place: NDArray[np.int64]
    real: NDArray[np.bool_]

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values of variants (variants,) at their places in the stack (size, blocks), 0 in the padding."""
        return np.where(self.real, values[self.place], 0).astype(np.float32)


def stacked(matrices: Sequence[NDArray[np.float32]], *, kept: float) -> list[Stack]:
    """Stack blocks by size, off-diagonal r multiplied by `kept`, which tempers a panel that does not fit quite."""
    starts = np.cumsum([0, *(len(one) for one in matrices)])
    order = sorted(range(len(matrices)), key=lambda number: len(matrices[number]))
    stacks, group = [], list[int]()
    for number in order:
        if group and len(matrices[number]) > max(_SIZE_RATIO * len(matrices[group[0]]), STEP):
            stacks.append(_stack(matrices, starts, group, kept))
            group = []
        group.append(number)
    return [*stacks, _stack(matrices, starts, group, kept)] if group else stacks


def _stack(matrices: Sequence[NDArray[np.float32]], starts: NDArray[np.int64], group: list[int], kept: float) -> Stack:
    size = -(-len(matrices[group[-1]]) // STEP) * STEP
    r = np.zeros((len(group), size, size), np.float32)
    place, real = np.zeros((size, len(group)), np.int64), np.zeros((size, len(group)), bool)
    for at, number in enumerate(group):
        count = len(matrices[number])
        r[at, :count, :count] = matrices[number] * np.float32(kept)
        r[at, np.arange(count), np.arange(count)] = 1
        place[:count, at] = starts[number] + np.arange(count)
        real[:count, at] = True
    firsts = np.arange(size) // STEP * STEP
    columns = firsts[:, None] + np.arange(STEP)
    near = np.ascontiguousarray(r[:, np.arange(size)[:, None], columns].transpose(1, 2, 0))
    return Stack(r, near, place, real)
