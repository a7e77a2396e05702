"""The training loop for networks over sequences: epochs over Lightning Fabric, early stopping, exact resume."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from careloop import InputError
from careloop.models.network_loop import cpu_threads

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from torch import nn

    State = dict[str, Any]

WARM_UP = 0.05  # of all steps; the rate then falls along a cosine
LAST_RATE = 0.05  # of the learning rate, at the last step
LONGEST_GRADIENT = 1.0
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class LoopSettings:
    """How a network over sequences is trained.

    `tokens` padded events make a batch; `patience` epochs without a better validation loss end training; `devices` is a
    number of them, which share each epoch's batches (DDP); `precision` as Fabric names it, such as `bf16-mixed`.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    tokens: int = 4096
    max_epochs: int = 20
    patience: int = 3
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    threads: int = 1


@dataclass(frozen=True)
class Step:
    """What a listener hears: the step of all, the epoch, and since the last call the mean loss and the speed."""

    step: int
    steps: int
    epoch: int
    loss: float
    tokens_per_second: float
    steps_per_second: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of training is kept, and how often it is written; the same place resumes from it."""

    path: Path
    every_seconds: float = 60.0


class Work(Protocol):
    """One kind of training: its batches, and the loss of one.

    `epoch_batches` gives an epoch's batches as numbers that `loss` understands, the same ones for the same epoch, so
    that training can be taken up anywhere.
    """

    validation: Any  # None where training runs all its epochs

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch, in the order of training."""

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The sum of losses, what it is to be divided by, and the number of events."""

    def validation_loss(self, model: nn.Module) -> float | None:
        """The mean loss over the validation rows, None where there are none."""


Listener = Callable[[Step], None]


def train(
    network: nn.Module,
    work: Work,
    settings: LoopSettings,
    *,
    checkpoint: Checkpoint | None = None,
    listener: Listener | None = None,
) -> list[float]:
    """Train `network` in place; it ends on the CPU in evaluation mode with the weights of its best epoch.

    Returns the validation loss of each epoch (the training loss where there are no validation rows). Every batch and
    every random draw follows from the seed and the number of the step, so that training which is killed and taken up
    from its checkpoint gives the same weights as one that was not (on the CPU, with the same number of threads).

    Raises:
        InputError: the loss is no longer a number; the checkpoint is of another network or of other settings.
    """
    import torch

    fabric = make_fabric(settings)
    with cpu_threads(settings.threads), torch.random.fork_rng(devices=[]):
        run = _Run.begin(network, work, settings, fabric)
        run.restore(checkpoint)
        for batches in run.epochs():
            run.train_epoch(batches, checkpoint, listener)
            run.end_epoch(checkpoint, listener)
        run.best_weights(network)
    network.to("cpu").eval()
    return run.history


def make_fabric(settings: LoopSettings) -> Fabric:
    """Lightning Fabric for the settings' devices and precision."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it tells everybody of its precision
    if settings.devices > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise InputError(
            "training on several devices runs in processes of its own: use careloop.models.sequence.training.spread"
        )
    fabric = Fabric(
        accelerator=settings.device,
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=settings.precision,  # type: ignore[arg-type]
    )
    if settings.devices > 1:
        fabric.launch()  # joins the processes that `spread` started
    return fabric


class _Run:
    """The state of one training: model, optimizer, what was reached, and what is best so far."""

    def __init__(self, model: Any, optimizer: Any, work: Work, settings: LoopSettings, fabric: Fabric) -> None:
        self.model, self.optimizer, self.work, self.settings, self.fabric = model, optimizer, work, settings, fabric
        self.epoch, self.done, self.step = 0, 0, 0  # epochs finished, batches of the present one, steps in all
        first = work.epoch_batches(0)
        if len(first) < fabric.world_size:
            raise InputError(
                f"{fabric.world_size} devices need as many batches an epoch, got {len(first)}: lower tokens"
            )
        self.steps_an_epoch = len(first) // fabric.world_size
        self.rows = hashlib.sha256(b"".join(np.asarray(rows, dtype=np.int64).tobytes() for rows in first)).hexdigest()
        self.history: list[float] = []
        self.best: State | None = None
        self.total = [0.0, 0.0]  # loss and divisor of the present epoch

    @classmethod
    def begin(cls, network: nn.Module, work: Work, settings: LoopSettings, fabric: Fabric) -> _Run:
        """Put the network and a new AdamW on the device."""
        import torch

        decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        network.to(fabric.device)
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)
        model, optimizer = fabric.setup(network, optimizer)
        return cls(model, optimizer, work, settings, fabric)

    @property
    def steps(self) -> int:
        """Steps if training is not ended early."""
        return self.steps_an_epoch * self.settings.max_epochs

    @property
    def is_stale(self) -> bool:
        if self.work.validation is None or not self.history:
            return False
        return len(self.history) - 1 - int(np.argmin(self.history)) >= self.settings.patience

    def epochs(self) -> Iterator[list[np.ndarray]]:
        """The batches of each epoch that is still to be trained, of this process."""
        while self.epoch < self.settings.max_epochs and not self.is_stale:
            batches = self.work.epoch_batches(self.epoch)
            world, rank = self.fabric.world_size, self.fabric.global_rank
            whole = len(batches) // world * world  # all processes take the same number of steps
            yield batches[rank:whole:world]

    def train_epoch(self, batches: list[np.ndarray], checkpoint: Checkpoint | None, listener: Listener | None) -> None:
        """The steps of one epoch that are not done yet."""
        import torch

        self.model.train()
        heard, saved, events, steps, total = time.monotonic(), time.monotonic(), 0, 0, [0.0, 0.0]
        for rows in batches[self.done :]:
            torch.manual_seed(self._seed())
            value, divisor, seen = self.work.loss(self.model, rows, self._seed())
            self._update(value / divisor)
            for sums in (total, self.total):
                sums[0] += float(value.detach())
                sums[1] += float(divisor)
            self.done, self.step, events, steps = self.done + 1, self.step + 1, events + seen, steps + 1
            if not math.isfinite(total[0]):
                raise InputError(
                    f"training diverged in epoch {self.epoch + 1}: the loss is not a number; lower learning_rate"
                )
            now = time.monotonic()
            if listener is not None and now - heard > 0.5:
                seconds, world = now - heard, self.fabric.world_size
                mean = total[0] / max(total[1], 1e-12)
                held = self.history[-1] if self.history else None
                listener(Step(self.step, self.steps, self.epoch, mean, events * world / seconds, steps / seconds, held))
                heard, events, steps, total = now, 0, 0, [0.0, 0.0]
            if checkpoint is not None and now - saved > checkpoint.every_seconds:
                self._save(checkpoint)
                saved = now

    def _seed(self) -> int:
        return (self.settings.seed * 1_000_003 + self.step) * self.fabric.world_size + self.fabric.global_rank

    def _update(self, loss: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_at(self.step, self.steps)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=LONGEST_GRADIENT, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def end_epoch(self, checkpoint: Checkpoint | None, listener: Listener | None) -> None:
        """Validate, remember the best weights, and write the checkpoint."""
        import torch

        self.model.eval()
        with torch.no_grad():
            found = self.work.validation_loss(self.model)
        loss = self.total[0] / max(self.total[1], 1e-12) if found is None else found
        if not self.history or loss < min(self.history) or found is None:
            self.best = {name: value.detach().clone() for name, value in self._weights().items()}
        self.history.append(loss)
        self.epoch, self.done, self.total = self.epoch + 1, 0, [0.0, 0.0]
        if listener is not None:
            listener(Step(self.step, self.steps, self.epoch - 1, loss, 0.0, 0.0, found))
        if checkpoint is not None:
            self._save(checkpoint)

    def _weights(self) -> State:
        return dict(self.model.state_dict())

    def best_weights(self, network: nn.Module) -> None:
        """Put the best epoch's weights into the network."""
        if self.best is not None:
            self.model.load_state_dict(self.best)

    def _state(self) -> State:
        return {
            "settings": asdict(self.settings),
            "rows": self.rows,
            "weights": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "epoch": self.epoch,
            "done": self.done,
            "step": self.step,
            "history": self.history,
            "total": self.total,
        }

    def _save(self, checkpoint: Checkpoint) -> None:
        """Write the state beside its place, whole and on the disk, before it takes the place of the one before."""
        import torch

        state = self._state()
        if self.fabric.global_rank:
            return
        part = checkpoint.path.with_name(f"{checkpoint.path.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(checkpoint.path)

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Take up what the checkpoint holds, if there is one."""
        import torch

        if checkpoint is None or not checkpoint.path.exists():
            return
        where = checkpoint.path
        try:
            state = torch.load(where, map_location=self.fabric.device, weights_only=True)
        except Exception as error:
            raise InputError(f"{where} is damaged ({type(error).__name__}); remove it to train anew") from error
        if state["settings"] != asdict(self.settings):
            raise InputError(f"{where} is of training with other settings; remove it to train anew")
        if state["rows"] != self.rows:
            raise InputError(f"{where} is of training on other rows; remove it to train anew")
        try:
            self.model.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{where} is of another network; remove it to train anew") from error
        for name in ("best", "epoch", "done", "step", "history", "total"):
            setattr(self, name, state[name])


def rate_at(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of the highest: a linear rise, then half a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    passed = min(1.0, (step - warm) / max(1, steps - warm))
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * passed))
