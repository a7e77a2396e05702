"""What a sequence network of each size needs before it is trained: parameters, memory, floating point work and hours.

Counts follow from the network's shape: token, value and quantile tables, a projection of time, and Transformer layers
with gated feed-forward and RMS norms without bias. Hours are work divided by an assumed share of a device's peak; they
are orders of magnitude to plan by, and small networks reach less of the peak than large ones.

Sources: Kaplan et al., Scaling laws for neural language models, 2020, section 2.1 and table 1 (operations a token);
Hoffmann et al., Training compute-optimal large language models, 2022 (about 20 tokens a parameter); Muennighoff et al.,
Scaling data-constrained language models, 2023 (up to about four epochs are worth nearly as much as new data);
Korthikanti et al., Reducing activation recomputation in large Transformer models, 2022, section 4 (activations).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop import InputError

# Features of time (age, time since the last event, both on several scales) that are projected to the width.
TIME_FEATURES = 16
QUANTILES = 10
FEED_FORWARD = 2.75
FEED_FORWARD_MULTIPLE = 8
# Bytes a parameter in training: weight, gradient and two Adam moments, each float32; in prediction the weight alone.
TRAINING_BYTES, PREDICTION_BYTES = 16, 4
COMPUTE_OPTIMAL_TOKENS = 20
USEFUL_EPOCHS = 4
# A network that is far from compute-optimal: fewer than this share of the tokens it could use, repeats included.
FAR_FEWER = 0.5
CPU_UTILISATION = 0.5
GPU_UTILISATION = 0.3
H100_FLOPS = 989e12
MATRIX = 1024
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Shape:
    """Width, layers and attention heads of a network; `feed_forward` is the inner width of its gated feed-forward."""

    width: int
    layers: int
    heads: int

    @property
    def feed_forward(self) -> int:
        """2.75 times the width, rounded up to a multiple of 8."""
        return -int(-self.width * FEED_FORWARD // FEED_FORWARD_MULTIPLE) * FEED_FORWARD_MULTIPLE


SIZES: dict[str, Shape] = {
    "tiny": Shape(64, 2, 2),
    "small": Shape(128, 4, 4),
    "medium": Shape(256, 6, 8),
    "base": Shape(512, 8, 8),
    "large": Shape(768, 12, 12),
}


@dataclass(frozen=True)
class Work:
    """What a network is to be trained on: `tokens` events an epoch, of a vocabulary of `vocabulary` tokens.

    `context` is the events that attention looks over, `batch_tokens` the events of one optimiser step on one device.
    """

    tokens: int
    vocabulary: int
    epochs: float = 10.0
    context: int = 512
    batch_tokens: int = 16_384

    def __post_init__(self) -> None:
        for name in ("tokens", "vocabulary", "epochs", "context", "batch_tokens"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Device:
    """One or several like processors: peak operations a second of each, the share assumed to be reached, precision."""

    name: str
    peak_flops: float
    utilisation: float
    count: int = 1
    activation_bytes: Literal[2, 4] = 2

    @property
    def flops(self) -> float:
        """Operations a second that training is assumed to reach on all of them together."""
        return self.peak_flops * self.utilisation * self.count

    @property
    def assumption(self) -> str:
        """The device and what is assumed of it, in words."""
        peak = f"{self.peak_flops / 1e12:,.3g} TFLOP/s"
        each = " each" if self.count > 1 else ""
        return f"{self.name}: {peak}{each}, {self.utilisation:.0%} of it assumed to be reached"


ONE_GPU = Device("one GPU (H100 SXM, bfloat16 dense)", H100_FLOPS, GPU_UTILISATION)
EIGHT_GPUS = Device("eight GPUs (H100 SXM, bfloat16 dense)", H100_FLOPS, GPU_UTILISATION, 8)


@dataclass(frozen=True)
class Resources:
    """What one size needs: bytes of memory on each device, operations a token in training, and hours by device name.

    `hint` says in words whether the data suffice for this size.
    """

    size: str
    shape: Shape
    parameters: int
    training_bytes: int
    prediction_bytes: int
    flops_a_token: float
    hours: dict[str, float]
    tokens_a_parameter: float
    hint: str


def parameter_count(tokens: int, quantiles: int, shape: Shape) -> int:
    """Parameters of the network without a head: `tokens` of the vocabulary, `quantiles` of numbers beside "no number".

    Ancestors of a code in its ontology are tokens too, so they are in `tokens`.
    """
    return embedding_parameters(tokens, quantiles, shape) + layer_parameters(shape)


def embedding_parameters(tokens: int, quantiles: int, shape: Shape) -> int:
    """Token and value tables (tokens, width), quantile table (quantiles + 1, width), and the projection of time."""
    return (2 * tokens + quantiles + 1 + TIME_FEATURES) * shape.width


def layer_parameters(shape: Shape) -> int:
    """All layers (attention 4 width^2, gated feed-forward 3 width x feed_forward, two norms) and the last norm."""
    width = shape.width
    return shape.layers * (4 * width**2 + 3 * width * shape.feed_forward + 2 * width) + width


def flops_a_token(shape: Shape, context: int) -> float:
    """Operations a token in training: 6 for each parameter of the layers, and attention over `context` tokens."""
    return 6.0 * layer_parameters(shape) + 6.0 * shape.layers * context * shape.width


def activation_count(shape: Shape, batch_tokens: int) -> int:
    """Numbers kept for the backward pass of one step, without the attention matrix, which fused kernels do not keep.

    A token and layer: input, scaled input and output of two norms, queries, keys, values, and attention's output (10
    width), and the gate, its activation, the other half and their product (4 feed_forward); then the last norm.
    """
    return batch_tokens * (shape.layers * (10 * shape.width + 4 * shape.feed_forward) + 3 * shape.width)


def prediction_bytes(parameters: int, shape: Shape, batch_tokens: int, activation_bytes: int) -> int:
    """Memory of a forward pass: the weights, and the largest arrays of one layer."""
    return PREDICTION_BYTES * parameters + batch_tokens * (4 * shape.width + 3 * shape.feed_forward) * activation_bytes


def estimate_resources(work: Work, devices: tuple[Device, ...]) -> tuple[Resources, ...]:
    """What each of `SIZES` needs for `work`; memory is that of the first device, hours are of every one.

    The vocabulary's head, which pre-training adds, is not counted: it depends on what is pre-trained.
    """
    return tuple(_resources(size, shape, work, devices) for size, shape in SIZES.items())


def measure_cpu(seconds: float = 1.0) -> Device:
    """This machine's processor as a device, its peak measured by float32 matrix products for about `seconds`."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((MATRIX, MATRIX), dtype=np.float32) for _ in range(2))
    out = left @ right  # the first product also starts the threads
    done, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds or not done:
        np.matmul(left, right, out=out)
        done += 1
    return Device("this machine's CPU (float32, measured)", 2.0 * MATRIX**3 * done / passed, CPU_UTILISATION, 1, 4)


def tokens_hint(tokens: int, parameters: int, epochs: float) -> str:
    """Whether the data suffice for a network of this size, in words (Hoffmann et al. 2022)."""
    wanted = COMPUTE_OPTIMAL_TOKENS * parameters
    useful = tokens * min(epochs, USEFUL_EPOCHS)
    if tokens >= wanted:
        return f"enough: {tokens / parameters:.3g} tokens a parameter"
    if useful >= FAR_FEWER * wanted:
        return f"about enough with repeats: {tokens / parameters:.3g} tokens a parameter"
    return (
        f"too few: {tokens / parameters:.2g} tokens a parameter, {wanted / 1e6:,.0f} million tokens would suit it; "
        "expect overfitting without early stopping"
    )


def _resources(size: str, shape: Shape, work: Work, devices: tuple[Device, ...]) -> Resources:
    parameters = parameter_count(work.vocabulary, QUANTILES, shape)
    operations = flops_a_token(shape, work.context)
    width_of = devices[0].activation_bytes
    activations = activation_count(shape, work.batch_tokens) * width_of
    return Resources(
        size=size,
        shape=shape,
        parameters=parameters,
        training_bytes=TRAINING_BYTES * parameters + activations,
        prediction_bytes=prediction_bytes(parameters, shape, work.batch_tokens, width_of),
        flops_a_token=operations,
        hours={d.name: operations * work.tokens * work.epochs / d.flops / SECONDS_AN_HOUR for d in devices},
        tokens_a_parameter=work.tokens / parameters,
        hint=tokens_hint(work.tokens, parameters, work.epochs),
    )
