"""Places and weights of tiles, against nnU-Net's documented example, closed forms and plain padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment.tiles import cut_tile, starts_along, tile_rows, tile_weights


def test_starts_are_those_of_nnunets_own_example() -> None:
    """The comment in its `compute_steps_for_sliding_window`: image 110, patch 64, step 0.5."""
    assert starts_along(110, 64, 0.5) == [0, 23, 46]
    assert starts_along(64, 64, 0.5) == [0]
    assert starts_along(65, 64, 0.5) == [0, 1]
    assert starts_along(59, 64, 0.5) == [-2]  # padded by 2 before and 3 behind


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.1, 1.0))
def test_starts_cover_the_axis_without_a_wider_stride(size: int, patch: int, step: float) -> None:
    starts = starts_along(size, patch, step)
    assert starts == sorted(starts)
    assert starts[0] <= 0
    assert starts[-1] + patch >= size
    if size > patch:
        assert starts[0] == 0
        assert starts[-1] + patch == size
        assert all(b - a <= max(step * patch, 1) + 1 for a, b in pairwise(starts))


def test_rows_of_tiles_begin_at_one_slice() -> None:
    rows = tile_rows((96, 64, 80), Tiling((64, 64, 64)))
    assert [len(row) for row in rows] == [2, 2]
    assert rows[1] == [(32, 0, 0), (32, 0, 16)]
    assert [row[0][0] for row in tile_rows((3, 64, 80), Tiling((64, 64)))] == [0, 1, 2]


@pytest.mark.parametrize("patch", [(32, 40, 24), (48, 64), (128, 16, 16)])
def test_gaussian_is_the_product_of_three_bells(patch: tuple[int, ...]) -> None:
    weights = tile_weights(Tiling(patch)).reshape(patch)
    bells = [np.exp(-0.5 * ((np.arange(p) - p // 2) / (p / 8)) ** 2) for p in patch]
    expected = 10 * np.array(np.ix_(*bells), dtype=object).prod().astype(float)
    assert weights.max() == 10
    assert np.allclose(weights, expected, rtol=2e-3, atol=6e-8 * 2)
    assert (weights > 0).all()
    assert (weights == weights.astype(np.float16)).all()


def test_what_half_precision_rounds_to_zero_has_the_smallest_weight_left() -> None:
    weights = tile_weights(Tiling((8, 8, 8)))
    assert weights[0, 0, 0] == weights.min() > 0
    assert (tile_weights(Tiling((8, 8, 8), weighting="constant")) == 1).all()


@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(1, 8)] * 3))
def test_tiles_of_a_small_image_are_those_of_the_padded_one(
    shape: tuple[int, int, int], patch: tuple[int, int, int]
) -> None:
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    missing = [max(p - s, 0) for p, s in zip(patch, shape, strict=True)]
    padded = np.pad(image, [(0, 0), *[(m // 2, m - m // 2) for m in missing]])
    for row in tile_rows(shape, Tiling(patch)):
        for origin in row:
            at = tuple(slice(o + m // 2, o + m // 2 + p) for o, m, p in zip(origin, missing, patch, strict=True))
            assert np.array_equal(cut_tile(image, origin, patch), padded[(slice(None), *at)])


@pytest.mark.parametrize(
    "tiling", [Tiling((8,)), Tiling((8, 0, 8)), Tiling((8, 8, 8), step=0), Tiling((8, 8), step=1.5)]
)
def test_impossible_tilings_are_refused(tiling: Tiling) -> None:
    with pytest.raises(InputError, match="mend the model"):
        tile_rows((8, 8, 8), tiling)
