"""The denoiser's network: scaling, shapes, and what its expected error learns from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.imaging.restore.network import Denoiser, DenoiserSizes, initialize

SMALL = DenoiserSizes(features=(4, 8), deepest_blocks=1)


def network() -> Denoiser:
    made = Denoiser(SMALL)
    initialize(made, 3)
    return made.double()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
def test_image_and_noise_scaled_together_scale_the_result(scale: float, seed: int) -> None:
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.allclose(network()(x * scale), network()(x) * scale, rtol=1e-9, atol=1e-9 * scale)


def test_result_has_a_plane_and_a_positive_expected_error() -> None:
    x = torch.rand(2, 2, 16, 8, dtype=torch.float64)
    with torch.no_grad():
        out = network()(x)
    assert out.shape == x.shape
    assert (out[:, 1] > 0).all()


def test_a_network_with_more_maps_of_the_noise_level_uses_each() -> None:
    made = Denoiser(DenoiserSizes((4, 8), 1, level_maps=3))
    initialize(made, 3)
    x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = made(x)
        assert before.shape == (1, 2, 8, 8)
        for channel in range(4):
            other = x.clone()
            other[:, channel] += 1
            assert not torch.allclose(made(other)[:, :1] - other[:, :1], before[:, :1] - x[:, :1], atol=1e-4)


def test_expected_error_does_not_teach_the_plane() -> None:
    made = network()
    made(torch.rand(1, 2, 8, 8, dtype=torch.float64))[:, 1].sum().backward()
    moved = {name for name, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"spread.weight"}


def test_same_seed_gives_the_same_weights() -> None:
    first, again, other = Denoiser(SMALL), Denoiser(SMALL), Denoiser(SMALL)
    initialize(first, 1)
    initialize(again, 1)
    initialize(other, 2)
    assert torch.equal(first.enter.weight, again.enter.weight)
    assert not torch.equal(first.enter.weight, other.enter.weight)


@pytest.mark.parametrize("features", [(4, 8), (4, 8, 8, 8)])
def test_multiple_is_what_the_stages_halve(features: tuple[int, ...]) -> None:
    sizes = DenoiserSizes(features, 1)
    edge = sizes.multiple
    assert Denoiser(sizes)(torch.rand(1, 2, edge, 3 * edge)).shape == (1, 2, edge, 3 * edge)
