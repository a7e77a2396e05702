"""How long a step of training takes on this machine, and with how many CPU threads it is quickest."""

from __future__ import annotations

import copy
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from careloop.models.network_loop import cpu_threads
from careloop.models.sequence.training.loop import LoopSettings, Work, make_fabric

if TYPE_CHECKING:
    from torch import nn

TIMED_STEPS = 3


def quickest(
    network: nn.Module, work: Work, settings: LoopSettings, *, threads: int | None = None
) -> tuple[float, int]:
    """Seconds of a step, and the number of CPU threads they are for: `threads`, or one or all, whichever is quicker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tried = sorted({1, cores}) if threads is None else [threads]
    return min((step_seconds(network, work, replace(settings, threads=number)), number) for number in tried)


def step_seconds(network: nn.Module, work: Work, settings: LoopSettings) -> float:
    """Seconds of a step of training, timed on a copy of the network; the first, which finds out how, is not counted.

    The work is at the beginning of its first epoch afterwards.
    """
    import torch

    fabric = make_fabric(settings)
    with cpu_threads(settings.threads), torch.random.fork_rng(devices=[]):
        copied = copy.deepcopy(network).to(fabric.device).train()
        model: Any = fabric.setup(copied, torch.optim.AdamW(copied.parameters(), lr=0.0))[0]
        batches, start = work.epoch_batches(0), 0.0
        for number in range(TIMED_STEPS + 1):
            loss, divisor, _ = work.loss(model, batches[number % len(batches)], number)
            fabric.backward(loss / divisor)
            start = start or time.monotonic()
        seconds = (time.monotonic() - start) / TIMED_STEPS
    work.epoch_batches(0)
    return seconds
