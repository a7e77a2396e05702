"""Resources of sequence networks: parameters, kept numbers and operations are those of the built network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.models.sequence.resources import (
    EIGHT_GPUS,
    ONE_GPU,
    QUANTILES,
    SIZES,
    Device,
    Work,
    activation_count,
    estimate_resources,
    flops_a_token,
    measure_cpu,
    parameter_count,
    tokens_hint,
)

VOCABULARY, ROWS, LENGTH = 300, 2, 255
# Kept numbers outside the layers (embedding, pooling), and the operations of embedding and head, are not counted.
LEFT_OUT = 0.03


def built(size: str) -> Any:
    """The network of a size."""
    pytest.importorskip("transformers")
    from careloop.models.sequence.arrays import TokenSpace
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork

    shape = SIZES[size]
    space = TokenSpace(VOCABULARY, QUANTILES, np.zeros((VOCABULARY, 0), dtype=np.int32))
    return SequenceNetwork(space, NetworkShape("transformer", shape.width, shape.layers, shape.heads, dropout=0.0))


def batch() -> Any:
    """Rows of equal length, with `NOW` at the end: ROWS x (LENGTH + 1) events."""
    from careloop.models.sequence.arrays import Sequences
    from careloop.models.sequence.batches import padded

    random, events = np.random.default_rng(0), ROWS * LENGTH
    return padded(
        Sequences(
            offsets=np.arange(0, events + 1, LENGTH),
            code=random.integers(4, VOCABULARY, events).astype(np.int32),
            quantile=random.integers(0, QUANTILES + 1, events).astype(np.uint8),
            value=random.normal(size=events).astype(np.float32),
            time=np.tile(np.arange(LENGTH, dtype=np.float64), ROWS),
            at=np.full(ROWS, float(LENGTH)),
        )
    )


@pytest.mark.parametrize("size", ["tiny", "small", "medium"])
def test_parameters_are_those_of_the_network(size: str) -> None:
    network = built(size)
    assert parameter_count(VOCABULARY, QUANTILES, SIZES[size]) == sum(p.numel() for p in network.parameters())
    assert network.shape.feed_forward == SIZES[size].feed_forward


def test_widths_are_a_multiple_of_eight_and_heads_divide_them() -> None:
    assert {name: shape.feed_forward for name, shape in SIZES.items()} == {
        "tiny": 176, "small": 352, "medium": 704, "base": 1408, "large": 2112,
    }  # fmt: skip
    assert all(shape.width % (2 * shape.heads) == 0 for shape in SIZES.values())


def test_kept_numbers_are_those_that_autograd_keeps() -> None:
    network, events = built("small").train(), batch()
    import torch

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(events).sum()
    work = Work(1, VOCABULARY, context=LENGTH + 1, batch_tokens=ROWS * (LENGTH + 1))
    counted = activation_count(SIZES["small"], work)
    assert sum(kept.values()) / 4 == pytest.approx(counted, rel=LEFT_OUT)
    assert loss.requires_grad


def test_operations_are_those_that_torch_counts() -> None:
    network, events = built("small").eval(), batch()
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter does not know the CPU's fused attention.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(events)
    forward = counter.get_total_flops() / (ROWS * (LENGTH + 1))
    assert flops_a_token(SIZES["small"], LENGTH + 1) == pytest.approx(3 * forward, rel=LEFT_OUT)


def test_memory_and_hours_follow_from_the_counts() -> None:
    slow = Device("slow", 2e12, "assumed", 0.5, activation_bytes=4)
    work = Work(tokens=10**6, vocabulary=1000, epochs=3, context=100, batch_tokens=1000)
    found = {one.size: one for one in estimate_resources(work, (slow, ONE_GPU, EIGHT_GPUS))}
    assert list(found) == list(SIZES)
    small, large = found["small"], found["large"]
    assert small.parameters == parameter_count(1000, QUANTILES, SIZES["small"])
    assert small.training_bytes["slow"] == 16 * small.parameters + 4 * activation_count(SIZES["small"], work)
    assert small.hours["slow"] == pytest.approx(small.flops_a_token * 3e6 / 1e12 / 3600)
    assert small.hours[ONE_GPU.name] == pytest.approx(3000 * 0.02 / 3600)  # so small that steps decide
    assert large.hours[ONE_GPU.name] == pytest.approx(
        max(large.flops_a_token * 3e6 / (0.3 * 989e12), 3000 * 0.02) / 3600
    )
    assert large.hours[EIGHT_GPUS.name] == pytest.approx(large.hours[ONE_GPU.name] / 8)
    assert large.prediction_bytes > 4 * large.parameters
    assert "30% of it reached" in ONE_GPU.assumption
    assert "989 TFLOP/s each" in EIGHT_GPUS.assumption


def test_the_hint_compares_tokens_with_twenty_a_parameter() -> None:
    assert tokens_hint(20_000_000, 1_000_000, 1) == "enough"
    assert tokens_hint(5_000_000, 1_000_000, 4) == "about enough with repeats"
    assert tokens_hint(5_000_000, 1_000_000, 1) == "far too few (20 million suit)"
    assert tokens_hint(1_000_000, 1_000_000, 100) == "far too few (20 million suit)"


def test_the_processor_is_measured() -> None:
    cpu = measure_cpu(seconds=0.02)
    assert 1e8 < cpu.peak_flops < 1e15
    assert "measured now" in cpu.assumption


def test_work_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="tokens must be above 0, got 0"):
        Work(tokens=0, vocabulary=10)
