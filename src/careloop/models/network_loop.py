"""The one training loop for networks: mini-batches over Lightning Fabric, early stopping, best weights kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from careloop import InputError

if TYPE_CHECKING:
    import torch

    Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

OPTIMIZERS = ("sgd", "adam", "adamw")
ROWS_AT_ONCE = 4096  # rows of a forward pass without gradients


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained; `patience` epochs without a better validation loss end it, `threads` are of the CPU."""

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 3
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    threads: int = 1  # small batches lose more to handing work between threads than they gain


@dataclass(frozen=True)
class Rows:
    """Inputs (n, ...), targets (n,) and weights (n,) or None, as tensors on the CPU."""

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
    optimizer: torch.optim.Optimizer | None = None,
) -> list[Epoch]:
    """Train `network` in place and leave it with the weights of its best epoch, in evaluation mode on the CPU.

    `loss(outputs, targets, weights)` is a mean over the rows it is given. Same seed and same threads: same weights on
    the CPU.
    """
    import torch
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=settings.device, devices=1, precision=settings.precision)  # type: ignore[arg-type]
    with cpu_threads(settings.threads):
        model, stepper = fabric.setup(network, optimizer or make_optimizer(network, settings))
        training = _on_device(training, fabric.device)
        validation = None if validation is None else _on_device(validation, fabric.device)
        shuffle = torch.Generator().manual_seed(settings.seed)
        epochs: list[Epoch] = []
        best_weights, best_loss, since_best = None, float("inf"), 0
        for _ in range(settings.max_epochs):
            model.train()
            total = torch.zeros((), device=fabric.device)
            for batch in shuffled_batches(training, settings.batch_size, shuffle):
                batch_loss = loss(model(batch.inputs), batch.targets, batch.weights)
                stepper.zero_grad()
                fabric.backward(batch_loss)
                stepper.step()
                total += batch_loss.detach() * len(batch.targets)
            held_loss = None if validation is None else mean_loss(model, validation, loss)
            epochs.append(Epoch(float(total) / len(training.targets), held_loss))
            _stop_if_diverged(epochs)
            if held_loss is None:
                continue
            if held_loss < best_loss:
                best_loss, since_best = held_loss, 0
                best_weights = {name: value.clone() for name, value in network.state_dict().items()}
            elif (since_best := since_best + 1) >= settings.patience:
                break
        if best_weights is not None:
            network.load_state_dict(best_weights)
    network.to("cpu").eval()
    return epochs


def make_optimizer(network: torch.nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """The torch optimizer named in the settings, over the network's parameters."""
    import torch

    if settings.optimizer not in OPTIMIZERS:
        raise InputError(f"Optimizer '{settings.optimizer}' is not known; choose one of {', '.join(OPTIMIZERS)}.")
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(network.parameters(), lr=settings.learning_rate, fused=True)


def shuffled_batches(rows: Rows, batch_size: int, shuffle: torch.Generator) -> Iterator[Rows]:
    """The rows in a new order, cut into batches: one copy an epoch, then views."""
    import torch

    order = torch.randperm(len(rows.targets), generator=shuffle).to(rows.targets.device)
    weights = None if rows.weights is None else rows.weights[order].split(batch_size)
    inputs, targets = rows.inputs[order].split(batch_size), rows.targets[order].split(batch_size)
    for i, batch in enumerate(inputs):
        yield Rows(batch, targets[i], None if weights is None else weights[i])


def mean_loss(model: torch.nn.Module, rows: Rows, loss: Loss) -> float:
    """Loss over all rows in evaluation mode."""
    import torch

    model.eval()
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
