"""The one training loop for networks: mini-batches over Lightning Fabric, early stopping, best weights kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from careloop import InputError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    Step = Callable[["Rows"], torch.Tensor]  # trains on one batch and returns its mean loss
    MakeStep = Callable[[torch.nn.Module, "Loss", "LoopSettings", Fabric], tuple[torch.nn.Module, Step]]
    Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

OPTIMIZERS = ("sgd", "adam", "adamw")
ROWS_AT_ONCE = 4096  # rows of a forward pass without gradients


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained; `patience` epochs without a better validation loss end it, `threads` are of the CPU.

    `weight_decay` is the optimizer's; None leaves it at torch's default, which AdamW alone has above 0.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    weight_decay: float | None = None
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 3
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    threads: int = 1  # small batches lose more to handing work between threads than they gain


@dataclass(frozen=True)
class Rows:
    """Inputs (n, ...), targets (n, ...) and weights (n, ...) or None, as tensors on the CPU."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None


@dataclass(frozen=True)
class Epoch:
    """Mean loss over the rows of one epoch; `validation_loss` is None where there are no validation rows."""

    training_loss: float
    validation_loss: float | None


def train_network(
    network: torch.nn.Module,
    training: Rows,
    validation: Rows | None,
    *,
    loss: Loss,
    settings: LoopSettings,
    make_step: MakeStep | None = None,
) -> list[Epoch]:
    """Train `network` in place, on the settings' device; it ends in evaluation mode with its best epoch's weights.

    `loss(outputs, targets, weights)` is a mean over the rows it is given; `make_step` replaces autograd's step.
    The same seed and number of threads give the same weights on the CPU.
    """
    import torch
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=settings.device, devices=1, precision=settings.precision)  # type: ignore[arg-type]
    with cpu_threads(settings.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        shuffle = torch.Generator().manual_seed(settings.seed)
        model, step = (make_step or autograd_step)(network.to(fabric.device), loss, settings, fabric)
        training = _on_device(training, fabric.device)
        validation = None if validation is None else _on_device(validation, fabric.device)
        best = _Best(settings.patience)
        epochs: list[Epoch] = []
        while len(epochs) < settings.max_epochs and not best.is_stale:
            model.train()
            total = torch.zeros((), device=fabric.device)
            for batch in shuffled_batches(training, settings.batch_size, shuffle):
                total += step(batch) * len(batch.targets)
            training_loss = float(total) / len(training.targets)
            model.eval()
            held_loss = None if validation is None else mean_loss(model, validation, loss)
            epochs.append(Epoch(training_loss, held_loss))
            _stop_if_diverged(epochs)
            best.see(network, held_loss)
        best.restore(network)
    return epochs


class _Best:
    """The weights of the epoch with the lowest validation loss, and how many epochs ago that was."""

    def __init__(self, patience: int) -> None:
        self.patience, self.since, self.loss = patience, 0, float("inf")
        self.weights: dict[str, torch.Tensor] | None = None

    @property
    def is_stale(self) -> bool:
        return self.since >= self.patience and self.weights is not None

    def see(self, network: torch.nn.Module, loss: float | None) -> None:
        self.since += 1
        if loss is not None and loss < self.loss:
            self.since, self.loss = 0, loss
            self.weights = {name: value.clone() for name, value in network.state_dict().items()}

    def restore(self, network: torch.nn.Module) -> None:
        if self.weights is not None:
            network.load_state_dict(self.weights)


def autograd_step(
    network: torch.nn.Module, loss: Loss, settings: LoopSettings, fabric: Fabric
) -> tuple[torch.nn.Module, Step]:
    """The usual step for any network: loss, gradient by autograd, and the optimizer named in the settings."""
    model, optimizer = fabric.setup(network, make_optimizer(network, settings))

    def step(batch: Rows) -> torch.Tensor:
        value = loss(model(batch.inputs), batch.targets, batch.weights)
        fabric.backward(value)
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    return model, step


def make_optimizer(network: torch.nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """The torch optimizer named in the settings, over the network's parameters."""
    import torch

    if settings.optimizer not in OPTIMIZERS:
        raise InputError(f"Optimizer '{settings.optimizer}' is not known; choose one of {', '.join(OPTIMIZERS)}.")
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    decay = {} if settings.weight_decay is None else {"weight_decay": settings.weight_decay}
    return kind(network.parameters(), lr=settings.learning_rate, fused=True, **decay)


def shuffled_batches(rows: Rows, batch_size: int, shuffle: torch.Generator) -> Iterator[Rows]:
    """The rows in a new order, batch by batch; each is copied when its turn comes, while it is still in the cache."""
    import torch

    order = torch.randperm(len(rows.targets), generator=shuffle).to(rows.targets.device)
    for batch in order.split(batch_size):
        weights = None if rows.weights is None else rows.weights.index_select(0, batch)
        yield Rows(rows.inputs.index_select(0, batch), rows.targets.index_select(0, batch), weights)


def mean_loss(model: torch.nn.Module, rows: Rows, loss: Loss) -> float:
    """Loss over all rows, without gradients."""
    import torch

    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows.targets), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            weights = None if rows.weights is None else rows.weights[part]
            targets = rows.targets[part]
            total += float(loss(model(rows.inputs[part]), targets, weights)) * len(targets)
    return total / len(rows.targets)


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Torch's CPU threads set for the block and put back after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_device(rows: Rows, device: torch.device) -> Rows:
    weights = None if rows.weights is None else rows.weights.to(device)
    return Rows(rows.inputs.to(device), rows.targets.to(device), weights)


def _stop_if_diverged(epochs: list[Epoch]) -> None:
    if epochs[-1].training_loss != epochs[-1].training_loss:
        raise InputError(
            f"Training diverged in epoch {len(epochs)}: the loss is not a number. "
            "Standardise the features or lower learning_rate."
        )
