"""A network adapted to one image before it restores it: its weights go on learning from the noisy planes alone.

Of white Gaussian noise whose level is known, the mean squared error of what a network makes of a plane can be estimated
without the clean one, from what it changed and from how much its output follows its input (Stein 1981, Ann Stat 9:1135;
by a random probe: Ramani et al. 2008, IEEE Trans Image Process 17:1540). A few steps down that estimate bring a trained
network nearer to an image that is unlike what it was trained on (Mohan et al. 2021, Adaptive denoising via GainTuning,
NeurIPS, who move only gains; here all weights move, in small steps).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.learn.course import device_of
from careloop.imaging.restore.run import PlaneRestorer
from careloop.imaging.restore.white_noise import NoisyPlane
from careloop.imaging.restore.work import random_patch
from careloop.imaging.segment.runtime import TorchNetwork, usable_cores

if TYPE_CHECKING:
    import torch
    from torch import nn

    Progress = Callable[[str, int, int], None]

STEPS, BATCH, PATCH = 120, 6, 96  # steps of so many patches of this edge
LEARNING_RATE = 2e-5
# The more there is to learn from, the less is learnt by heart: steps and rate grow with the square root of the pixels.
PIXELS, MOST = 60_000, 2.5  # up to which they are as above, and how much more they become at most
PROBE = 0.05  # of the noise level: the step along which the change of the output is measured


def adapted(
    restorer: PlaneRestorer, planes: Sequence[NoisyPlane], *, progress: Progress | None = None
) -> PlaneRestorer:
    """A restorer for these planes, whose network has learnt from them; the given one stays as it is.

    The result is the same for the same planes and number of threads (on the CPU). The expected error is still that of
    training.
    """
    import torch

    from careloop.models.sequence.training.loop import LoopSettings, Step, train

    device, threads = device_of(restorer.device), restorer.threads or usable_cores()
    network = restorer.model.build()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = AdaptationWork(planes, multiple=network.sizes.multiple)
    rate = LEARNING_RATE * work.growth
    settings = LoopSettings(learning_rate=rate, weight_decay=0.0, max_epochs=1, device=device, threads=threads)

    def hear(step: Step) -> None:
        if progress is not None:
            progress("adapting the network to the image", step.step, step.steps)

    train(network, work, settings, listener=hear)
    return replace(restorer, network=TorchNetwork(network.to(device), 1, "adapted to the image", threads))


class AdaptationWork:
    """The adaptation as one epoch of the training loop; planes are drawn by their size.

    `growth` is how many times the least steps and learning rate are taken.
    """

    validation: Any = None

    def __init__(self, planes: Sequence[NoisyPlane], *, multiple: int, seed: int = 0) -> None:
        self.planes, self.seed = planes, seed
        shortest = min(min(noisy.plane.shape) for noisy in planes)
        self.edge = max(multiple, min(PATCH, shortest // multiple * multiple))
        self.size = np.array([noisy.plane.size for noisy in planes], dtype=float)
        self.growth = float(np.clip(np.sqrt(self.size.sum() / PIXELS), 1.0, MOST))

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """The planes of each batch."""
        random, share = np.random.default_rng([self.seed, epoch]), self.size / self.size.sum()
        return list(random.choice(len(share), (round(STEPS * self.growth), BATCH), p=share))

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The estimated squared error of a batch; the third number counts pixels."""
        import torch

        random = np.random.default_rng([self.seed, seed])
        drawn = [self.planes[int(row)] for row in rows]
        patches = np.stack([random_patch(noisy.plane, self.edge, random)[None] for noisy in drawn])
        levels = np.array([noisy.level for noisy in drawn], np.float32)[:, None, None, None]
        probe = random.standard_normal(patches.shape, dtype=np.float32)
        device = next(model.parameters()).device
        noisy, level, along = (torch.from_numpy(part).to(device) for part in (patches, levels, probe))
        value = estimated_error(model, noisy, level, along)
        return value * len(rows), value.new_tensor(float(len(rows))), patches.size

    def validation_loss(self, model: nn.Module) -> float | None:
        """Nothing is held back: a plane is adapted to as a whole."""
        return None


def estimated_error(model: nn.Module, noisy: torch.Tensor, level: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
    """Stein's unbiased estimate of the mean squared error, in units of the noise's variance.

    `noisy` and `probe` (white, of variance 1) are (n, 1, rows, columns), `level` (n, 1, 1, 1). The model takes planes
    and their level (n, 2, rows, columns), and gives the restored planes in its first channel.
    """
    import torch

    step = PROBE * level
    both, levels = torch.cat([noisy, noisy + step * probe]), level.expand_as(noisy).repeat(2, 1, 1, 1)
    fed = torch.cat([both, levels], 1).contiguous(memory_format=torch.channels_last)
    restored, moved = model(fed)[:, :1].float().chunk(2)
    follows = probe * (moved - restored) / step
    return ((restored - noisy) ** 2 / level**2 + 2 * follows - 1).mean()
