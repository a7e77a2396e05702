"""Training a network on patches: the work that the resumable loop does, validation on whole images, and its pace."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.learn.augment import Geometry
from careloop.imaging.learn.configure import Plan
from careloop.imaging.learn.dataset import Labels
from careloop.imaging.learn.losses import memberships, supervised_loss
from careloop.imaging.learn.patches import Batch, PreparedCase, draw_batch
from careloop.models.network_loop import cpu_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from careloop.models.sequence.training.loop import LoopSettings

VALIDATED_SHARE = 0.3  # tiles of validation after an epoch, as a part of the patches trained on: a tenth of its time


@dataclass(frozen=True)
class EpochScore:
    """After an epoch: Dice of each structure, voxels of a case together and averaged over cases; None where absent."""

    epoch: int
    training_loss: float | None
    dice: tuple[float | None, ...]

    @property
    def mean_dice(self) -> float:
        """Over the structures that the validation cases have."""
        known = [value for value in self.dice if value is not None]
        return float(np.mean(known)) if known else 0.0


class PatchWork:
    """Training on patches of `training`, validation on whole images of `validation` without overlap of tiles.

    `scores` grows by one at the end of each epoch. The training loss is that of the whole epoch, None where training
    was taken up in the middle of it.
    """

    def __init__(
        self,
        plan: Plan,
        labels: Labels,
        cases: tuple[Sequence[PreparedCase], Sequence[PreparedCase]],
        *,
        steps: int,
        seed: int,
    ) -> None:
        self.plan, self.labels, self.steps, self.seed = plan, labels, steps, seed
        self.training, self.validation = cases
        self.geometry = Geometry(plan.tiling.patch, plan.mirror_axes)
        self.scores: list[EpochScore] = []
        self._epoch, self._losses = 0, [0.0, 0.0]

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """Cases of each batch: all of them in a new order, again and again until the epoch has its steps."""
        self._epoch, self._losses = epoch, [0.0, 0.0]
        random = np.random.default_rng([self.seed, epoch])
        wanted = self.steps * self.plan.batch_size
        rounds = -(-wanted // len(self.training))
        order = np.concatenate([random.permutation(len(self.training)) for _ in range(rounds)])[:wanted]
        return list(order.reshape(self.steps, self.plan.batch_size))

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch; the third number counts voxels."""
        device = next(model.parameters()).device
        batch = draw_batch([self.training[row] for row in rows], self.geometry, seed=seed, device=device)
        loss = batch_loss(model, batch, self.labels)
        self._losses[0] += float(loss.detach())
        self._losses[1] += 1
        return loss * len(rows), loss.new_tensor(float(len(rows))), batch.numbers.numel()

    def validation_loss(self, model: nn.Module) -> float:
        """1 - the mean Dice over the structures."""
        counts = np.stack([case_counts(model, case, self.plan.tiling.patch, self.labels) for case in self.validation])
        whole = self._losses[1] == self.steps
        loss = self._losses[0] / self.steps if whole else None
        score = EpochScore(self._epoch, loss, structure_dice(counts))
        self.scores.append(score)
        return 1.0 - score.mean_dice


def batch_loss(model: nn.Module, batch: Batch, labels: Labels) -> torch.Tensor:
    """The loss of one batch of patches."""
    scores = model(batch.images)
    return supervised_loss(scores if isinstance(scores, list | tuple) else [scores], batch.numbers, labels)


def structure_dice(counts: np.ndarray) -> tuple[float | None, ...]:
    """Mean over cases of each structure's Dice from counts (cases, structures, 3); None where no case has it."""
    both, total = counts[..., 0], counts[..., 1] + counts[..., 2]
    with np.errstate(invalid="ignore"):
        dice = np.where(total > 0, 2 * both / total, np.nan)
    has = counts[..., 2].sum(axis=0) > 0
    return tuple(float(np.nanmean(dice[:, i])) if has[i] else None for i in range(counts.shape[1]))


def case_counts(model: nn.Module, case: PreparedCase, patch: tuple[int, ...], labels: Labels) -> np.ndarray:
    """Voxels of each structure that are right, found, and labelled: (structures, 3), over tiles side by side."""
    import torch

    device = next(model.parameters()).device
    counts = np.zeros((len(labels.names), 3), dtype=np.int64)
    with torch.no_grad():
        for image, numbers, where in tiles(case, patch):
            scores = model(torch.from_numpy(image[None]).to(device)).float()
            found = decided(scores[(slice(None), slice(None), *where)], labels)
            truth = torch.from_numpy(numbers.astype(np.int64)[None]).to(device)
            inside = memberships(truth, labels)
            if labels.ignore is not None:
                found = found & (truth != labels.ignore)[:, None]
            parts = (found & inside, found, inside)
            counts += np.stack([part.flatten(2).sum((0, 2)).cpu().numpy() for part in parts], axis=1)
    return counts


def decided(scores: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Which structures each voxel is given: (n, structures, *patch) bool."""
    import torch

    if labels.is_regions:
        return scores > 0
    best = scores.argmax(1, keepdim=True)
    numbers = torch.arange(1, labels.outputs, device=scores.device)
    return best == numbers.reshape(1, -1, *[1] * (scores.ndim - 2))


def tiles(case: PreparedCase, patch: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[slice, ...]]]:
    """Patches that cover the image, labels of what each covers first, and where in the patch that is.

    The last patch of an axis reaches back over the one before it, as when the model is run: a patch filled up with 0
    would have another mean and spread, by which the network normalises. Only images smaller than a patch are filled up.
    """
    whole = (1,) * (3 - len(patch)) + patch
    shape = case.numbers.shape
    for start in itertools.product(*(range(0, n, p) for n, p in zip(shape, whole, strict=True))):
        begin = [max(0, min(s, n - p)) for s, n, p in zip(start, shape, whole, strict=True)]
        image = np.zeros((len(case.image), *whole), np.float32)
        inside = tuple(slice(b, b + p) for b, p in zip(begin, whole, strict=True))
        values = case.image[(slice(None), *inside)]
        image[(slice(None), *(slice(0, n) for n in values.shape[1:]))] = values
        numbers = case.numbers[tuple(slice(s, s + p) for s, p in zip(start, whole, strict=True))]
        where = tuple(slice(s - b, s - b + n) for s, b, n in zip(start, begin, numbers.shape, strict=True))
        flat = 3 - len(patch)
        yield image.reshape(-1, *patch), numbers.reshape(numbers.shape[flat:]), where[flat:]


def tile_count(case: PreparedCase, patch: tuple[int, ...]) -> int:
    """How many tiles `tiles` gives."""
    whole = (1,) * (3 - len(patch)) + patch
    return prod(-(-n // p) for n, p in zip(case.numbers.shape, whole, strict=True))


def validated_cases(cases: Sequence[PreparedCase], plan: Plan, *, steps: int) -> tuple[PreparedCase, ...]:
    """The first cases whose validation takes about a tenth of an epoch's time; at least one."""
    limit, used = VALIDATED_SHARE * steps * plan.batch_size, 0
    chosen: list[PreparedCase] = []
    for case in cases:
        used += tile_count(case, plan.tiling.patch)
        if chosen and used > limit:
            break
        chosen.append(case)
    return tuple(chosen)


@dataclass(frozen=True)
class Pace:
    """Seconds of a step of training and of one validation, with the number of CPU threads that they were timed at."""

    step_seconds: float
    validation_seconds: float
    threads: int

    def epochs_in(self, seconds: float, *, steps: int) -> int:
        """How many epochs fit; at least one."""
        return max(1, int(seconds / (self.step_seconds * steps + self.validation_seconds)))


def measure_pace(network: nn.Module, work: PatchWork, settings: LoopSettings, *, threads: int | None) -> Pace:
    """Time a few steps on a copy of the network, with one and with all CPU threads unless `threads` says how many."""
    from careloop.models.sequence.training.pace import quickest

    seconds, best = quickest(network, work, settings, threads=threads)
    return Pace(seconds, _validation_seconds(network, work, replace(settings, threads=best)), best)


def _validation_seconds(network: nn.Module, work: PatchWork, settings: LoopSettings) -> float:
    """Seconds of a validation, judged by its first case, on a copy of the network."""
    from careloop.models.sequence.training.loop import make_fabric

    model: Any = make_fabric(settings).setup_module(copy.deepcopy(network).eval())
    patch = work.plan.tiling.patch
    with cpu_threads(settings.threads):
        start = time.monotonic()
        case_counts(model, work.validation[0], patch, work.labels)
        taken = time.monotonic() - start
    tiled = [tile_count(case, patch) for case in work.validation]
    return taken * sum(tiled) / tiled[0]
