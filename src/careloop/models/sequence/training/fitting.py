"""From rows with targets to a trained network: supervised work for the loop, adaptation of a pre-trained trunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.arrays import AnySequences, TokenSpace
from careloop.models.sequence.batches import batch_of, batch_rows
from careloop.models.sequence.training.loop import Checkpoint, Listener, LoopSettings, train

if TYPE_CHECKING:
    import torch

    from careloop.models.sequence.losses import Loss
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork

Adaptation = Literal["full", "frozen", "lora"]
LORA_RANK = 8
LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONSTANT_STEPS, SMALLEST_PULL = 50, 1e-6  # the pull towards 0 keeps what no row decides finite
PREDICTED_TOKENS = 16_384  # padded positions of a forward pass without gradients


@dataclass(frozen=True, eq=False)
class Targets:
    """Rows of sequences with what is to be predicted (n, ...) float32 and weights (n,) float32."""

    sequences: AnySequences
    values: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Start:
    """A pre-trained network to begin from: its shape and its weights by name (the head's are not used)."""

    shape: NetworkShape
    weights: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted: its shape, the loop's settings, and how `Start` is adapted."""

    shape: NetworkShape
    settings: LoopSettings
    adaptation: Adaptation = "full"


class SupervisedWork:
    """Training on rows with targets; validation on others."""

    def __init__(self, training: Targets, validation: Targets | None, loss: Loss, recipe: Recipe) -> None:
        self.training, self.validation, self.loss_of, self.recipe = training, validation, loss, recipe
        self.lengths = training.sequences.lengths
        known = ~np.isnan(training.values).reshape(len(self.lengths), -1).all(axis=1)
        self.counted = np.flatnonzero(known & (training.weights > 0))

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of like length together, in another order each epoch; without those that cannot count in the loss."""
        random = np.random.default_rng([self.recipe.settings.seed, epoch])
        batches = batch_rows(self.lengths[self.counted], self.recipe.settings.tokens, random=random)
        return [self.counted[rows] for rows in batches]

    def loss(self, model: torch.nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch."""
        value, divisor = self._loss(model, self.training, rows)
        return value, divisor, int(self.lengths[rows].sum()) + len(rows)

    def validation_loss(self, model: torch.nn.Module) -> float | None:
        """The weighted mean loss over the validation rows."""
        if self.validation is None:
            return None
        total, divisor = 0.0, 0.0
        for rows in batch_rows(self.validation.sequences.lengths, PREDICTED_TOKENS):
            value, weight = self._loss(model, self.validation, rows)
            total, divisor = total + float(value), divisor + float(weight)
        return total / max(divisor, 1e-12)

    def best_constant(self, outputs: int) -> torch.Tensor:
        """The outputs (k,) that, given to every training row, have the lowest loss: where training begins."""
        import torch

        constant = torch.zeros(outputs, requires_grad=True)
        values, weights = torch.from_numpy(self.training.values), torch.from_numpy(self.training.weights)
        search = torch.optim.LBFGS([constant], max_iter=CONSTANT_STEPS, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            search.zero_grad()
            value, divisor = self.loss_of(constant.expand(len(weights), outputs), values, weights)
            mean = value / divisor + SMALLEST_PULL * constant.square().sum()
            mean.backward()
            return mean

        search.step(closure)
        return constant.detach()

    def _loss(self, model: torch.nn.Module, data: Targets, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        device = next(model.parameters()).device
        batch = batch_of(data.sequences, rows).to(device)
        values, weights = (torch.from_numpy(a[rows]).to(device) for a in (data.values, data.weights))
        return self.loss_of(model(batch).float(), values, weights)


def fit_network(
    recipe: Recipe,
    space: TokenSpace,
    work: Callable[[Recipe], SupervisedWork],
    *,
    start: Start | None = None,
    checkpoint: Checkpoint | None = None,
    listener: Listener | None = None,
) -> tuple[SequenceNetwork, list[float]]:
    """A network trained on `work`, from `start` if given, and the validation loss of each epoch."""
    import torch

    from careloop.models.sequence.network import SequenceNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.settings.seed)
        network = SequenceNetwork(space, recipe.shape)
        if start is not None:
            begin_from(network, start)
        adapted = adapt(network, recipe.adaptation)
    supervised = work(recipe)
    if start is None:  # a pre-trained network has its own scale
        network.embedding.scale_notes(supervised.training.sequences)
    network.head.begin_at(supervised.best_constant(recipe.shape.outputs))
    history = train(network, supervised, recipe.settings, checkpoint=checkpoint, listener=listener)
    adapted()
    return network.eval(), history


def begin_from(network: SequenceNetwork, start: Start) -> None:
    """Copy the embedding's and the trunk's weights of `start`. InputError where the shapes differ."""
    import torch

    wanted = replace(start.shape, outputs=network.shape.outputs, dropout=network.shape.dropout)
    if wanted != network.shape:
        raise InputError(
            f"the pre-trained network is {start.shape}; the one to fine-tune is {network.shape}: make them alike"
        )
    ours = network.state_dict()
    taken = {
        n: torch.from_numpy(np.array(v)) for n, v in start.weights.items() if n in ours and not n.startswith("head.")
    }
    wrong = [n for n, v in taken.items() if v.shape != ours[n].shape]
    absent = [n for n in ours if n not in taken and not n.startswith("head.")]
    if wrong or absent:
        raise InputError(
            f"the pre-trained weights do not fit ({(wrong + absent)[0]}): pre-train with the timelines of this study"
        )
    network.load_state_dict({**ours, **taken})


def adapt(network: SequenceNetwork, adaptation: Adaptation) -> Callable[[], None]:
    """Leave trainable what the adaptation trains; returns what is to be done when training has ended.

    `frozen` trains the head only; `lora` adds low-rank matrices to the trunk's linear layers, trains them and the head,
    and adds them up afterwards (Hu et al. 2022, section 4.1).
    """
    if adaptation == "full":
        return lambda: None
    for module in (network.embedding, network.trunk):
        module.requires_grad_(False)
    if adaptation == "frozen":
        return lambda: None
    if not hasattr(network.trunk, "model"):
        raise InputError(f"adaptation lora needs a Transformer; got {network.shape.trunk}")
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=LORA_LAYERS)
    wrapped = LoraModel(network.trunk.model, config, "default")

    def merge() -> None:
        network.trunk.model = wrapped.merge_and_unload()

    return merge


def check_notes(sequences: AnySequences, width: int) -> None:
    """InputError unless the notes' vectors are as wide as the network reads them, 0 without notes."""
    if sequences.note_width != width:
        raise InputError(
            f"the network reads vectors of notes of width {width}, the sequences have width {sequences.note_width}"
            " (0: no notes); extract timelines with the recipe that the network was trained with"
        )


def outputs_of(
    network: SequenceNetwork, sequences: AnySequences, *, of: Callable[..., Any] | None = None
) -> NDArray[np.float32]:
    """Outputs (n, k) of a network in evaluation mode, in the order of the rows; `of(batch)` takes its place.

    InputError: sequences with notes for a network that reads none, or the other way round.
    """
    import torch

    check_notes(sequences, network.note_width)
    compute = of or network
    found: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for rows in batch_rows(sequences.lengths, PREDICTED_TOKENS):
            part = compute(batch_of(sequences, rows)).float().numpy()
            if found is None:
                found = np.empty((len(sequences), part.shape[1]), dtype=np.float32)
            found[rows] = part
    return np.zeros((0, 1), dtype=np.float32) if found is None else found
