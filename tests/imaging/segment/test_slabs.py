"""Scores by slabs against sums over the whole image, written plainly, with nnU-Net's roundings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from careloop import InputError
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment.slabs import Sums, planned, scores_by_slab
from careloop.imaging.segment.tiles import tile_weights

F32, F16 = np.float32, np.float16


class Toy:
    """A network whose scores of a voxel depend on its neighbours and on its place in the tile, so that tiles differ."""

    note, weight_bytes, activation_bytes = "toy", 0, 0

    def __init__(self, outputs: int, *, seed: int = 0, batch: int = 1) -> None:
        self.factors = np.random.default_rng(seed).normal(size=(2, outputs)).astype(F32)
        self.batch, self.released = batch, 0

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(tiles) <= self.batch
        mean = tiles.mean(1)
        axes = range(1, mean.ndim)
        near = mean + sum(np.roll(mean, 1, axis) for axis in axes)
        place = sum(np.arange(mean.shape[a]).reshape([-1 if a == b else 1 for b in range(mean.ndim)]) for a in axes)
        scores = [a * near + b * np.sin(place) for a, b in self.factors.T]
        return np.stack(scores, 1).astype(F32)

    def release(self) -> None:
        self.released += 1


def whole(
    networks: list[Toy], image: NDArray[np.float32], tiling: Tiling, starts: list[list[int]]
) -> NDArray[np.float16]:
    """nnU-Net's own order and roundings over a padded image: one network after the other, the whole image at once."""
    patch = (1,) * (3 - len(tiling.patch)) + tiling.patch
    missing = [max(p - s, 0) for p, s in zip(patch, image.shape[1:], strict=True)]
    padded = np.pad(image, [(0, 0), *[(m // 2, m - m // 2) for m in missing]])
    weights = tile_weights(tiling)
    axes = [a + 2 for a in tiling.mirror_axes]
    flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    total = None
    for network in networks:
        sums = np.zeros((network.factors.shape[1], *padded.shape[1:]), F16)
        counts = np.zeros(padded.shape[1:], F16)
        for origin in itertools.product(*starts):
            at = tuple(slice(o, o + p) for o, p in zip(origin, patch, strict=True))
            tile = padded[(slice(None), *at)].reshape(1, len(image), *tiling.patch)
            scores = sum(np.flip(network(np.flip(tile, f)), f) for f in flips) / F32(len(flips))
            weighted = scores[0].reshape(-1, *patch) * weights
            sums[(slice(None), *at)] = (sums[(slice(None), *at)].astype(F32) + weighted).astype(F16)
            counts[at] += weights.astype(F16)
        mean = (sums.astype(F32) / counts.astype(F32)).astype(F16)
        total = mean if total is None else total + mean
    if len(networks) > 1:
        total = (total.astype(F32) / F32(len(networks))).astype(F16)
    inner = tuple(slice(m // 2, m // 2 + s) for m, s in zip(missing, image.shape[1:], strict=True))
    return total[(slice(None), *inner)]


def starts_of(size: int, patch: int, step: float) -> list[int]:
    """Tiles along one axis of a padded image, spread evenly."""
    count = int(np.ceil(max(size - patch, 0) / (patch * step))) + 1
    return [int(v) for v in np.round(np.linspace(0, max(size - patch, 0), count))]


def joined(*args: object, **how: object) -> NDArray[np.float32]:
    """All slabs in one, checked to follow each other."""
    slabs = list(scores_by_slab(*args, **how))  # type: ignore[arg-type]
    assert [slab.start for slab in slabs] == [0, *[slab.stop for slab in slabs[:-1]]]
    return np.concatenate([slab.scores for slab in slabs], axis=1)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 10)] * 3),
    patch=st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple),
    step=st.sampled_from([0.3, 0.5, 1.0]),
    count=st.integers(1, 3),
    batch=st.integers(1, 3),
    mirrored=st.booleans(),
    weighting=st.sampled_from(["gaussian", "constant"]),
)
def test_slabs_are_the_whole_image_bit_for_bit(
    shape: tuple[int, int, int],
    patch: tuple[int, ...],
    step: float,
    count: int,
    batch: int,
    mirrored: bool,
    weighting: str,
) -> None:
    tiling = Tiling(patch, step, weighting, tuple(range(len(patch))) if mirrored else ())  # type: ignore[arg-type]
    image = np.random.default_rng(1).normal(size=(2, *shape)).astype(F32)
    networks = [Toy(4, seed=seed, batch=batch) for seed in range(count)]
    in_space = (1,) * (3 - len(patch)) + patch
    steps = [1.0] * (3 - len(patch)) + [step] * len(patch)
    starts = [starts_of(s, p, q) for s, p, q in zip(shape, in_space, steps, strict=True)]
    singly = [Toy(4, seed=seed) for seed in range(count)]
    got = joined(networks, image, tiling=tiling, outputs=4)
    assert got.dtype == F32
    assert np.array_equal(got, whole(singly, image, tiling, starts))


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(3, 9)] * 3))
def test_a_constant_network_gives_its_constant(shape: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    class Constant(Toy):
        def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.ones((len(tiles), 2, *tiles.shape[2:]), F32)

    image = np.zeros((1, *shape), F32)
    assert (joined([Constant(2)], image, tiling=Tiling(patch), outputs=2) == 1).all()


def test_planes_come_as_soon_as_no_later_tile_touches_them_and_only_a_patch_of_them_is_held() -> None:
    tiling, shape = Tiling((8, 8, 8)), (200, 8, 8)
    work = planned(shape, tiling, networks=1, batch=1)
    sums = Sums.empty(shape, work, tiling=tiling, outputs=3, networks=1)
    assert sums.scores.shape == (1, 8, 3, 8, 8)
    done: list[int] = []
    image = np.zeros((1, *shape), F32)
    slabs = scores_by_slab([Toy(3)], image, tiling=tiling, outputs=3, progress=lambda n, of: done.append(n))
    first = next(iter(slabs))
    assert (first.start, first.stop) == (0, 4)
    assert done == []  # the first tile's planes came before the second tile was run


def test_networks_of_an_ensemble_take_turns_row_by_row_and_give_their_memory_back() -> None:
    networks = [Toy(2, seed=seed) for seed in range(2)]
    progress: list[tuple[int, int]] = []
    image = np.zeros((1, 16, 8, 8), F32)
    tiling = Tiling((8, 8, 8))
    joined(networks, image, tiling=tiling, outputs=2, progress=lambda *now: progress.append(now))
    assert [network.released for network in networks] == [3, 3]
    assert progress == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    class Broken(Toy):
        def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((len(tiles), 2, *tiles.shape[2:]), bad, F32)

    with pytest.raises(InputError, match="finite"):
        joined([Broken(2)], np.zeros((1, 8, 8, 8), F32), tiling=Tiling((8, 8, 8)), outputs=2)
