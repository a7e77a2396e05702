"""What a denoiser is trained on: patches of planes, noise of every level in a range, with or without clean targets.

With clean targets the network learns to give them back. Without, it learns from noisy planes whose noise level is
known: each time noise is drawn anew, what is fed gets alpha times of it and the target loses 1 / alpha times of it. The
two noises are then independent, so that the best guess of the target is the best guess of the clean plane (Pang et al.
2021, Recorrupted-to-Recorrupted, CVPR, section 3). Alpha is drawn from `ALPHAS`: a small one, such as the authors' 0.5,
feeds nearly the noise that is to be taken out, a large one leaves less noise in the target to average away.

The least squared error alone pays with faint lesions: what may be noise is best taken out. So some clean patches are
learnt from twice, with the same noise, without and with simulated lesions, and the contrast that these have in the
difference of the two results is to be their own. How much that counts is a choice: more of it keeps fainter lesions,
and with them noise of their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from careloop.evaluate.lesion_fidelity import contrast_templates
from careloop.imaging.restore.lesions import LesionRule, WithLesions, insert_lesions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Plane = NDArray[np.float32]

ALPHAS = (0.5, 1.0)
# Squared errors grow about so with the level of white noise, and with the strength of low-dose CT's, which is of more
# sizes; dividing by it lets all of them count. Below the floors they do not grow with it.
LEVEL_POWER, LEVEL_FLOOR = 1.2, 0.02
STRENGTH_POWER, STRENGTH_FLOOR = 1.6, 0.001
SPREAD_SHARE = 0.1  # of the loss of the expected error beside that of the plane
CONTRAST_SHARE = 0.15  # of the squared error of lesions' contrasts beside it; where the shipped weights stand
WITH_LESIONS, MOST_LESIONS = 0.4, 5  # the share of planes or patches that get lesions, and how many at most


@dataclass(frozen=True)
class Lesions:
    """Simulated lesions of a patch: what they add to it, and the templates (lesions, rows, columns) of contrasts."""

    added: Plane
    templates: Plane

    @property
    def contrasts(self) -> NDArray[np.float32]:
        """Of each lesion, signed."""
        return np.asarray(np.tensordot(self.templates, self.added), np.float32)


@dataclass(frozen=True)
class Example:
    """A patch for training, all (rows, columns) float32: what the network is fed, its noise level, and the target.

    The level may be several maps (maps, rows, columns). `lesions` are in none of them; where they are given, the patch
    is learnt from once more with them. `weight` is that of its squared errors, from the level where it is None.
    """

    noisy: Plane
    level: Plane
    target: Plane
    lesions: Lesions | None = field(default=None, kw_only=True)
    weight: float | None = field(default=None, kw_only=True)

    @property
    def fed(self) -> NDArray[np.float32]:
        """What the network is given, (1 + maps, rows, columns)."""
        return np.concatenate([self.noisy[None], self.level.reshape(-1, *self.noisy.shape)])

    @property
    def loss_weight(self) -> float:
        """Of its squared errors."""
        if self.weight is not None:
            return self.weight
        return (float(self.level.mean()) + LEVEL_FLOOR) ** -LEVEL_POWER

    def holding(self, lesions: Lesions) -> Example:
        """The same patch and noise with the lesions in it."""
        noisy, target = self.noisy + lesions.added, self.target + lesions.added
        return Example(noisy, self.level, target, weight=self.weight)


class Task(Protocol):
    """One kind of degradation: an example of `size` pixels' edge from the planes, drawn by a generator."""

    @property
    def size(self) -> int: ...  # noqa: D102

    def example(self, plane: int, random: np.random.Generator) -> Example: ...  # noqa: D102


def random_patch(plane: Plane, size: int, random: np.random.Generator) -> Plane:
    """A square piece of a plane, turned and mirrored at random; planes smaller than it are mirrored at their edges."""
    rows, columns = (max(0, size - n) for n in plane.shape)
    if rows or columns:
        plane = np.pad(plane, ((0, rows), (0, columns)), mode="symmetric")
    top, left = (int(random.integers(0, n - size + 1)) for n in plane.shape)
    return oriented(plane[top : top + size, left : left + size], int(random.integers(8)))


def oriented(patch: Plane, way: int) -> Plane:
    """One of the eight ways to turn and mirror a patch."""
    turned = np.rot90(patch, way % 4)
    return np.ascontiguousarray(turned[:, ::-1] if way >= 4 else turned)


def with_some_lesions(plane: Plane, rule: LesionRule, random: np.random.Generator) -> WithLesions | None:
    """A few simulated lesions in some of the planes, None in the others."""
    if random.uniform() > WITH_LESIONS:
        return None
    return insert_lesions(plane, int(random.integers(1, MOST_LESIONS + 1)), random, rule=rule)


@dataclass(frozen=True)
class CleanTask:
    """White Gaussian noise of a level between `levels` added to clean planes; some patches come with `lesions`."""

    planes: Sequence[Plane]
    levels: tuple[float, float]
    size: int
    lesions: LesionRule | None = None

    def example(self, plane: int, random: np.random.Generator) -> Example:
        """See Task."""
        clean = random_patch(self.planes[plane], self.size, random)
        level = random.uniform(*self.levels)
        noise = random.standard_normal(clean.shape, dtype=np.float32) * np.float32(level)
        return Example(clean + noise, np.full_like(clean, level), clean, lesions=self._drawn(clean, random))

    def _drawn(self, clean: Plane, random: np.random.Generator) -> Lesions | None:
        made = with_some_lesions(clean, self.lesions, random) if self.lesions is not None else None
        if made is None or not made.lesions:
            return None
        return Lesions((made.image - clean).astype(np.float32), contrast_templates(made.masks).astype(np.float32))


@dataclass(frozen=True)
class NoisyTask:
    """Noisy planes alone, with white Gaussian noise of the level known for each (Recorrupted-to-Recorrupted)."""

    planes: Sequence[Plane]
    plane_levels: Sequence[float]
    size: int

    def example(self, plane: int, random: np.random.Generator) -> Example:
        """See Task."""
        noisy, level = random_patch(self.planes[plane], self.size, random), self.plane_levels[plane]
        drawn = random.standard_normal(noisy.shape, dtype=np.float32) * np.float32(level)
        alpha = np.float32(random.uniform(*ALPHAS))
        fed = np.full_like(noisy, level * np.sqrt(1 + alpha**2))
        return Example(noisy + alpha * drawn, fed, noisy - drawn / alpha)


@dataclass(frozen=True)
class PairTask:
    """Degraded planes beside the clean ones, with maps of the noise level for each."""

    pairs: Sequence[Example]
    size: int

    def example(self, plane: int, random: np.random.Generator) -> Example:
        """See Task."""
        pair = self.pairs[plane]
        seed = int(random.integers(2**32))
        noisy, *levels, target = (
            random_patch(part, self.size, np.random.default_rng(seed)) for part in (*pair.fed, pair.target)
        )
        strength = float(np.sqrt(np.mean((noisy - target) ** 2)))
        weight = (strength + STRENGTH_FLOOR) ** -STRENGTH_POWER
        return Example(noisy, np.stack(levels), target, weight=weight)


class RestorationWork:
    """Training of a denoiser for the resumable loop; `validation` are whole examples that are not trained on."""

    def __init__(
        self,
        task: Task,
        planes: int,
        validation: Sequence[Example],
        *,
        steps: int,
        batch_size: int,
        seed: int,
        weight: NDArray[np.float64] | None = None,
    ) -> None:
        self.task, self.planes, self.steps, self.batch_size, self.seed = task, planes, steps, batch_size, seed
        self.validation: Any = list(validation) or None
        self.weight = None if weight is None else weight / weight.sum()

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """The planes of each batch, drawn by their weight."""
        random = np.random.default_rng([self.seed, epoch])
        return list(random.choice(self.planes, (self.steps, self.batch_size), p=self.weight))

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch; the third number counts pixels."""
        random = np.random.default_rng([self.seed, seed])
        examples = [self.task.example(int(row), random) for row in rows]
        paired = {k: example.lesions for k, example in enumerate(examples) if example.lesions is not None}
        both = examples + [examples[k].holding(lesions) for k, lesions in paired.items()]
        device = next(model.parameters()).device
        fed, target = (part.to(device) for part in stacked(both))
        out = model(fed).float()
        value = denoising_loss(out, target, fed.new_tensor([example.loss_weight for example in both]))
        if paired:
            passed = out[len(examples) :, 0] - out[list(paired), 0]
            value = value + CONTRAST_SHARE * contrast_error(passed, list(paired.values()))
        return value * len(rows), value.new_tensor(float(len(rows))), len(both) * examples[0].noisy.size

    def validation_loss(self, model: nn.Module) -> float | None:
        """Mean squared error of the planes in decibels, averaged over them."""
        import torch

        if self.validation is None:
            return None
        device, errors = next(model.parameters()).device, []
        for example in self.validation:
            fed, target = (part.to(device) for part in stacked([example]))
            restored = model(fed)[:, :1].float()
            errors.append(10 * float(torch.log10(((restored - target) ** 2).mean())))
        return float(np.mean(errors))


def stacked(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """What is fed (n, 1 + maps, rows, columns) and targets (n, 1, rows, columns)."""
    import torch

    fed = np.stack([example.fed for example in examples])
    targets = np.stack([example.target[None] for example in examples])
    return torch.from_numpy(fed).to(memory_format=torch.channels_last), torch.from_numpy(targets)


def denoising_loss(out: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Squared error of the plane, and of the error that it expects, with a weight for each example.

    `out` is (n, 2, rows, columns), as the network gives it; `target` is (n, 1, rows, columns), `weight` (n).
    """
    error = out[:, :1] - target
    expected = (out[:, 1:] - error.detach().abs()) ** 2
    return ((error**2 + SPREAD_SHARE * expected).mean((1, 2, 3)) * weight).mean()


def contrast_error(passed: torch.Tensor, lesions: Sequence[Lesions]) -> torch.Tensor:
    """Mean squared error of the contrasts of all lesions in what came through of each patch's, (n, rows, columns)."""
    import torch

    errors = [
        torch.tensordot(torch.from_numpy(one.templates).to(patch), patch, 2) - torch.from_numpy(one.contrasts).to(patch)
        for patch, one in zip(passed, lesions, strict=True)
    ]
    return (torch.cat(errors) ** 2).mean()
