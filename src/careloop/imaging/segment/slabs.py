"""The networks slid over an image: class scores by slabs of planes, each as soon as no later tile touches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as bound
from itertools import chain, combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment.partial import Partial
from careloop.imaging.segment.runtime import Network, usable_cores
from careloop.imaging.segment.tiles import Origin, cut_tile, inside, patch_3d, tile_rows, tile_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Progress = Callable[[int, int], None]  # tiles done, tiles in all
    Spread = Callable[[int, Callable[[slice], None]], None]  # does the work on parts of so many rows, in threads

SLAB_BYTES = 64 * 2**20  # a slab holds as many planes as fit, at least one
SLICES_TOGETHER = 8  # of a 2D network: what its batches are taken from, and what each of an ensemble runs on in turn


@dataclass(frozen=True)
class Slab:
    """Scores (outputs, stop - start, rows, columns), float32, of planes [start, stop) of the image's first axis."""

    start: int
    stop: int
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Tiles that one network runs on at once; `stop` is, after the last batch of a row, the first unfinished plane."""

    network: int
    origins: tuple[Origin, ...]
    stop: int | None


def scores_by_slab(
    networks: Sequence[Network],
    image: NDArray[np.float32],
    *,
    tiling: Tiling,
    outputs: int,
    progress: Progress | None = None,
    partial: Partial | None = None,
) -> Iterator[Slab]:
    """Scores of an image (C, Z, Y, X) in the networks' axes, averaged over tiles, flips and networks, in rising planes.

    Sums are kept in half precision, each network's apart, and rounded where nnU-Net v2 rounds (its
    `predict_sliding_window_return_logits`), so that ties between classes fall alike; they hold one patch's depth of
    planes, whatever the image's. All networks run on a row of tiles before the next row. With `partial`, a run that was
    killed goes on where it last saved; its planes before that are not yielded again. Raises InputError where scores
    are not finite.
    """
    work = planned(image.shape[1:], tiling, networks=len(networks), batch=min(n.batch for n in networks))
    sums = Sums.empty(image.shape[1:], work, tiling=tiling, outputs=outputs, networks=len(networks))
    done = sums.restore(partial)
    tiles = np.cumsum([0, *(len(batch.origins) for batch in work)])
    flips = all_flips(tiling)
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        spread = bound(over_rows, pool, cores)
        for at, batch in enumerate(work[done:], start=done):
            try:
                scores = averaged_over_flips(networks[batch.network], stacked(image, batch.origins, tiling), flips)
            except KeyboardInterrupt:
                if partial is not None:
                    partial.save(sums.state(at))
                raise
            for origin, tile_scores in zip(batch.origins, scores, strict=True):
                sums.add(batch.network, origin, tile_scores, spread=spread)
            if len(networks) > 1 and (at + 1 == len(work) or work[at + 1].network != batch.network):
                networks[batch.network].release()
            if batch.stop is not None:
                yield from sums.finished(batch.stop, spread=spread)
            if progress is not None:
                progress(int(tiles[at + 1]), int(tiles[-1]))
            if partial is not None and at + 1 < len(work):
                partial.save_when_due(bound(sums.state, at + 1))


def planned(shape: tuple[int, ...], tiling: Tiling, *, networks: int, batch: int) -> list[Batch]:
    """All batches in their order: row by row of tiles, in a row network by network."""
    rows = tile_rows(shape, tiling)
    together = SLICES_TOGETHER if len(tiling.patch) == 2 else 1
    rows = [list(chain(*rows[i : i + together])) for i in range(0, len(rows), together)]
    stops = [max(row[0][0], 0) for row in rows[1:]] + [shape[0]]
    work = []
    for row, stop in zip(rows, stops, strict=True):
        parts = [tuple(row[i : i + batch]) for i in range(0, len(row), batch)]
        for network in range(networks):
            last = len(parts) - 1 if network == networks - 1 else None
            work += [Batch(network, part, stop if i == last else None) for i, part in enumerate(parts)]
    return work


def stacked(image: NDArray[np.float32], origins: Sequence[Origin], tiling: Tiling) -> NDArray[np.float32]:
    """The tiles as the network takes them: (n, C, *patch)."""
    tiles = [cut_tile(image, origin, patch_3d(tiling)) for origin in origins]
    return np.stack(tiles).reshape(len(tiles), len(image), *tiling.patch)


def all_flips(tiling: Tiling) -> list[tuple[int, ...]]:
    """Every combination of the axes to mirror, as axes of (n, C, *patch), in nnU-Net's order; the first is none."""
    axes = [axis + 2 for axis in tiling.mirror_axes]
    return [flip for count in range(len(axes) + 1) for flip in combinations(axes, count)]


def averaged_over_flips(
    network: Network, tiles: NDArray[np.float32], flips: Sequence[tuple[int, ...]]
) -> NDArray[np.float32]:
    """The network's scores of the tiles, the mean over all flips turned back."""
    scores = network(tiles)
    if len(flips) == 1:
        return scores
    scores = scores.copy()
    for flip in flips[1:]:
        scores += np.flip(network(np.ascontiguousarray(np.flip(tiles, flip))), flip)
    scores /= len(flips)
    return scores


class Sums:
    """Weighted sums of scores, and of weights, over the planes that are open, in half precision as nnU-Net's.

    Plane p lies at p modulo the depth: `scores` (networks, depth, outputs, rows, columns), `weights` (depth, rows,
    columns). `first` is the first open plane.
    """

    def __init__(self, scores: NDArray[np.float16], weights: NDArray[np.float16], tiling: Tiling, slices: int) -> None:
        self.scores, self.weights = scores, weights
        self.tile_weights, self.patch = tile_weights(tiling), patch_3d(tiling)
        self.slices, self.first = slices, 0

    @classmethod
    def empty(
        cls, shape: tuple[int, ...], work: Sequence[Batch], *, tiling: Tiling, outputs: int, networks: int
    ) -> Sums:
        """Nothing summed yet, deep enough for the planes that are open at any time."""
        depth = open_planes(shape, work, patch_3d(tiling)[0])
        return cls(
            np.zeros((networks, depth, outputs, *shape[1:]), np.float16),
            np.zeros((depth, *shape[1:]), np.float16),
            tiling,
            shape[0],
        )

    def state(self, done: int) -> dict[str, NDArray[Any]]:
        """All that is needed to go on after `done` batches."""
        return {"done": np.array([done, self.first]), "scores": self.scores, "weights": self.weights}

    def restore(self, partial: Partial | None) -> int:
        """Take over what `partial` holds, if anything; batches that are done."""
        state = partial.state() if partial is not None else None
        if state is None:
            return 0
        done, self.first = (int(value) for value in state["done"])
        self.scores, self.weights = state["scores"], state["weights"]
        return done

    def add(self, network: int, origin: Origin, scores: NDArray[np.float32], *, spread: Spread) -> None:
        """Add a tile's scores (outputs, *patch), weighted; what lies outside the image falls away."""
        (planes, rows, columns), of_tile = inside(origin, self.patch, (self.slices, *self.weights.shape[1:]))
        part = scores.reshape(len(scores), *self.patch)[(slice(None), *of_tile)]
        weights = self.tile_weights[of_tile]

        def add_rows(some: slice) -> None:
            within = slice(rows.start + some.start, rows.start + some.stop)
            for i, plane in enumerate(range(planes.start, planes.stop)):
                into = self.scores[network, plane % len(self.weights)][:, within, columns]
                with np.errstate(over="ignore", invalid="ignore"):  # found when the planes are finished
                    into[...] = part[:, i, some] * weights[i, some] + into
                if network == 0:
                    self.weights[plane % len(self.weights), within, columns] += weights[i, some].astype(np.float16)

        spread(rows.stop - rows.start, add_rows)

    def finished(self, stop: int, *, spread: Spread) -> Iterator[Slab]:
        """The planes before `stop`, which no later tile touches, divided by their weights; their places are freed."""
        outputs, rows, columns = self.scores.shape[2:]
        at_once = max(1, SLAB_BYTES // (4 * outputs * rows * columns))
        while self.first < stop:
            start, self.first = self.first, min(self.first + at_once, stop)
            slab = np.empty((outputs, self.first - start, rows, columns), np.float32)

            def divide(some: slice, start: int = start, slab: NDArray[np.float32] = slab) -> None:
                for i in range(slab.shape[1]):
                    at = (start + i) % len(self.weights)
                    slab[:, i, some] = mean_scores(self.scores[:, at, :, some], self.weights[at, some])
                    self.scores[:, at, :, some], self.weights[at, some] = 0, 0

            spread(rows, divide)
            if not np.isfinite(slab).all():
                raise InputError("Scores of a network must be finite numbers, got others; its weights or the image are")
            yield Slab(start, self.first, slab)


def open_planes(shape: tuple[int, ...], work: Sequence[Batch], depth: int) -> int:
    """The most planes that tiles have touched, or are about to, while they cannot be finished yet."""
    first, most = 0, 1
    for batch in work:
        most = max(most, min(batch.origins[-1][0] + depth, shape[0]) - first)
        first = first if batch.stop is None else batch.stop
    return most


def over_rows(pool: ThreadPoolExecutor, parts: int, rows: int, work: Callable[[slice], None]) -> None:
    """Do the work on all rows, cut into so many parts at once; numpy lets the threads run side by side."""
    edges = np.linspace(0, rows, parts + 1).astype(int)
    list(pool.map(work, [slice(int(a), int(b)) for a, b in pairwise(edges) if a < b]))


def mean_scores(sums: NDArray[np.float16], weights: NDArray[np.float16]) -> NDArray[np.float16]:
    """Sums (networks, outputs, ...) over weights, each network's quotient and their mean rounded to half precision."""
    mean = _halved(sums[0], weights)
    for others in sums[1:]:
        mean = mean + _halved(others, weights)
    return mean if len(sums) == 1 else _halved(mean, np.float16(len(sums)))


def _halved(a: NDArray[np.float16], b: NDArray[np.float16] | np.float16) -> NDArray[np.float16]:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.divide(a, b, dtype=np.float32).astype(np.float16)
