"""What a sequence network of each size needs before it is trained: parameters, memory, floating point work and hours.

Counts follow from the shape of `network.SequenceNetwork` with a Transformer and one output, without static columns.
Hours are work divided by an assumed share of a device's peak; they are orders of magnitude to plan by, and small
networks reach less of the peak than large ones, above all on a GPU.

Sources: Kaplan et al., Scaling laws for neural language models, 2020, section 2.1 (6 operations a parameter and token);
Chowdhery et al., PaLM, 2022, appendix B (attention's operations where every pair of tokens is computed);
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

# Inputs of the projection of time: three times, each with itself and sine waves of it (`network.waves`).
TIME_FEATURES = 51
QUANTILES = 10
FEED_FORWARD = 2.75
NEAR = 5  # `network.NEAR`: events that a convolution joins before the layers
FEED_FORWARD_MULTIPLE = 8
# Bytes a parameter in training: weight, gradient and two Adam moments, each float32; in prediction the weight alone.
TRAINING_BYTES, PREDICTION_BYTES = 16, 4
COMPUTE_OPTIMAL_TOKENS = 20
USEFUL_EPOCHS = 4
# A network that is far from compute-optimal: fewer than this share of the tokens it could use, repeats included.
FAR_FEWER = 0.5
CPU_UTILISATION = 0.3  # steps of tiny to medium networks reached 0.1 to 0.7 of the products on two cores, busy or not
GPU_UTILISATION = 0.3
GPU_STEP_SECONDS = 0.02  # some hundred kernels forward, backward and in the optimiser, started from Python
H100_FLOPS, H100_ORIGIN = 989e12, "dense, data sheet"
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
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        for name in ("tokens", "vocabulary", "epochs", "context", "batch_tokens"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Device:
    """One or several like processors: peak operations a second of each and where that is from, and the share assumed.

    `activation_bytes` is the precision. Attention is a fused kernel, which keeps no (context, context) arrays.
    A step takes at least `least_step_seconds`, the time that starting its kernels one by one needs.
    """

    name: str
    peak_flops: float
    origin: str
    utilisation: float
    count: int = 1
    activation_bytes: Literal[2, 4] = 2
    least_step_seconds: float = 0.0

    @property
    def flops(self) -> float:
        """Operations a second that training is assumed to reach on all of them together."""
        return self.peak_flops * self.utilisation * self.count

    @property
    def assumption(self) -> str:
        """The device and what is assumed of it, in words."""
        each = " each" if self.count > 1 else ""
        least = f", and at least {self.least_step_seconds * 1000:.0f} ms a step" if self.least_step_seconds else ""
        peak = f"{self.peak_flops / 1e12:,.3g} TFLOP/s{each} ({self.origin})"
        return f"{self.name}: {peak}, {self.utilisation:.0%} of it reached{least}"

    def hours(self, work: Work, operations: float) -> float:
        """Hours of training with so many `operations` a token."""
        tokens = work.tokens * work.epochs
        least = tokens / (work.batch_tokens * self.count) * self.least_step_seconds
        return max(operations * tokens / self.flops, least) / SECONDS_AN_HOUR


ONE_GPU = Device(
    "one H100 SXM, bfloat16", H100_FLOPS, H100_ORIGIN, GPU_UTILISATION, least_step_seconds=GPU_STEP_SECONDS
)
EIGHT_GPUS = Device(
    "eight H100 SXM, bfloat16", H100_FLOPS, H100_ORIGIN, GPU_UTILISATION, 8, least_step_seconds=GPU_STEP_SECONDS
)


@dataclass(frozen=True)
class Resources:
    """What one size needs: operations a token in training, and, by the device's name, bytes to train and hours.

    `prediction_bytes` is the memory of a prediction in float32; `hint` says in words whether the data suffice.
    """

    size: str
    shape: Shape
    parameters: int
    prediction_bytes: int
    training_bytes: dict[str, int]
    flops_a_token: float
    hours: dict[str, float]
    tokens_a_parameter: float
    hint: str


def parameter_count(tokens: int, quantiles: int, shape: Shape) -> int:
    """Parameters of the network: `tokens` of the vocabulary, `quantiles` of numbers beside "none" and "hidden".

    Ancestors of a code in its ontology are tokens too, so they are in `tokens`.
    """
    head = 2 * shape.width + 1
    return embedding_parameters(tokens, quantiles, shape) + layer_parameters(shape) + head


def embedding_parameters(tokens: int, quantiles: int, shape: Shape) -> int:
    """Token and value tables (tokens, width), quantile table (quantiles + 2, width), projection of time with bias."""
    return (2 * tokens + quantiles + 2 + TIME_FEATURES + 1) * shape.width


def layer_parameters(shape: Shape) -> int:
    """The convolution over `NEAR` events, all layers (attention, gated feed-forward, two norms) and the last norm."""
    width = shape.width
    joined = (NEAR * width + 1) * width
    return joined + shape.layers * (4 * width**2 + 3 * width * shape.feed_forward + 2 * width) + width


def flops_a_token(shape: Shape, context: int) -> float:
    """Operations a token in training: 6 for each parameter of the layers, and attention over all `context` tokens."""
    return 6.0 * layer_parameters(shape) + 12.0 * shape.layers * context * shape.width


def activation_count(shape: Shape, work: Work) -> int:
    """Numbers kept for the backward pass of one step of training.

    A token and layer: input, scaled input and output of two norms, queries, keys, values, and attention's output (10
    width), the gate, its activation, the other half and their product (4 feed_forward); then the last norm.
    """
    kept = 10 * shape.width + 4 * shape.feed_forward
    return work.batch_tokens * (shape.layers * kept + 3 * shape.width)


def prediction_bytes(parameters: int, shape: Shape, batch_tokens: int) -> int:
    """Memory of a forward pass in float32: the weights, and the largest arrays of one layer."""
    return PREDICTION_BYTES * (parameters + batch_tokens * (4 * shape.width + 3 * shape.feed_forward))


def estimate_resources(work: Work, devices: tuple[Device, ...]) -> tuple[Resources, ...]:
    """What each of `SIZES` needs for `work` on each device; of several, each holds the whole network.

    What pre-training adds (its heads, and the logits of hidden codes) is not counted.
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
    peak = 2.0 * MATRIX**3 * done / passed
    origin = "matrix products, measured now"
    return Device("this CPU, float32", peak, origin, CPU_UTILISATION, activation_bytes=4)


def tokens_hint(tokens: int, parameters: int, epochs: float) -> str:
    """Whether the data suffice for a network of this size, in words (Hoffmann et al. 2022)."""
    wanted = COMPUTE_OPTIMAL_TOKENS * parameters
    useful = tokens * min(epochs, USEFUL_EPOCHS)
    if tokens >= wanted:
        return "enough"
    if useful >= FAR_FEWER * wanted:
        return "about enough with repeats"
    return f"far too few ({wanted / 1e6:,.0f} million suit)"


def _resources(size: str, shape: Shape, work: Work, devices: tuple[Device, ...]) -> Resources:
    parameters = parameter_count(work.vocabulary, QUANTILES, shape)
    operations = flops_a_token(shape, work.context)

    def training_bytes(device: Device) -> int:
        activations = activation_count(shape, work) * device.activation_bytes
        return TRAINING_BYTES * parameters + activations

    return Resources(
        size=size,
        shape=shape,
        parameters=parameters,
        prediction_bytes=prediction_bytes(parameters, shape, work.batch_tokens),
        training_bytes={device.name: training_bytes(device) for device in devices},
        flops_a_token=operations,
        hours={device.name: device.hours(work, operations) for device in devices},
        tokens_a_parameter=work.tokens / parameters,
        hint=tokens_hint(work.tokens, parameters, work.epochs),
    )
