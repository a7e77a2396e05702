"""Training a classifier on prepared images: the work that the resumable loop does, its pace, and a frozen body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from careloop.imaging.classify.augment import Changes, changed
from careloop.imaging.classify.data.ready import ReadyImages

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from careloop.imaging.classify.image_classifier import ImageClassifier
    from careloop.models.sequence.training.loop import LoopSettings

LOOKED_AT = 256  # images of a forward pass without gradients


@dataclass(frozen=True)
class EpochLoss:
    """Mean cross-entropy of an epoch; `training` is None where training was taken up in the middle of it."""

    epoch: int
    training: float | None
    tuning: float


class ImageWork:
    """Training on the rows `ready.train`, early stopping by the mean loss over `ready.tuning`.

    `losses` grows by one at the end of each epoch. With `head_only` the body computes as when it is used, so that its
    running means stay those of the pretrained weights.
    """

    def __init__(self, ready: ReadyImages, *, batch_size: int, seed: int, changes: Changes, head_only: bool) -> None:
        self.ready, self.seed, self.changes, self.head_only = ready, seed, changes, head_only
        self.batches = max(1, round(len(ready.train) / batch_size))
        self.batch_size = batch_size
        self.validation = ready.tuning
        self.losses: list[EpochLoss] = []
        self._epoch, self._sums = 0, [0, 0.0, 0.0]  # batches, loss and divisor of the present epoch

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """All training rows in a new order, in batches of nearly one size."""
        self._epoch, self._sums = epoch, [0, 0.0, 0.0]
        order = np.random.default_rng([self.seed, epoch]).permutation(self.ready.train)
        return np.array_split(order, self.batches)

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch; the third number counts images."""
        if self.head_only:
            model.eval()
        device = next(model.parameters()).device
        images = self._changed(self._images(rows, device), cast("torch.Tensor | None", model.mean_image), seed=seed)
        loss, divisor = self._loss(model, images, rows)
        self._sums = [self._sums[0] + 1, self._sums[1] + float(loss.detach()), self._sums[2] + float(divisor)]
        return loss, divisor, len(rows)

    def _changed(self, images: torch.Tensor, common: torch.Tensor | None, *, seed: int) -> torch.Tensor:
        """Images changed at random; what is common to all stays where it is."""
        if common is None:
            return changed(images, self.changes, seed=seed)
        return changed(images - common, self.changes, seed=seed) + common

    def validation_loss(self, model: nn.Module) -> float:
        """The mean over all tuning rows."""
        device, sums = next(model.parameters()).device, np.zeros(2)
        for rows in np.array_split(self.validation, -(-len(self.validation) // LOOKED_AT)):
            loss, divisor = self._loss(model, self._images(rows, device), rows)
            sums += float(loss), float(divisor)
        whole = self._sums[0] == self.batches
        training = self._sums[1] / max(self._sums[2], 1e-12) if whole else None
        self.losses.append(EpochLoss(self._epoch, training, float(sums[0] / max(sums[1], 1e-12))))
        return self.losses[-1].tuning

    def _loss(self, model: nn.Module, images: torch.Tensor, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of cross-entropies and the number of terms: of all rows, or of all labels that are known."""
        import torch

        from careloop.models.sequence.losses import class_loss, labels_loss

        target = torch.from_numpy(self.ready.target[rows]).to(images.device)
        logits, weights = model(images).float(), images.new_ones(len(rows))
        if self.ready.dataset.labels.kind == "multi":
            return labels_loss(logits, target, weights)
        return class_loss(logits, target.argmax(1), weights)

    def _images(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.asarray(self.ready.images[rows])).to(device)


def mean_image(images: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean (channels, *size) of the images in these rows."""
    total = np.zeros(images.shape[1:])
    for part in np.array_split(rows, -(-len(rows) // LOOKED_AT)):
        total += images[np.sort(part)].sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(np.float32)


def freeze_body(network: ImageClassifier) -> None:
    """Only the head learns from here on."""
    head = {id(parameter) for parameter in network.get_submodule(network.head_name).parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in head)


def release_body(network: ImageClassifier) -> None:
    """All of the network learns from here on."""
    network.requires_grad_(True)


def epochs_in(
    seconds: float, network: nn.Module, work: ImageWork, settings: LoopSettings, *, threads: int | None
) -> tuple[int, int]:
    """How many epochs fit into the time, at least one, and the number of CPU threads (one or all) that is fastest.

    A few steps are timed on a copy of the network.
    """
    from careloop.models.sequence.training.pace import quickest

    step, best = quickest(network, work, settings, threads=threads)
    # A tuning image costs about a third of a training image, which is computed forwards and backwards.
    steps = work.batches + len(work.validation) / work.batch_size / 3
    return max(1, int(seconds / (step * steps))), best


def outputs(
    network: ImageClassifier, images: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (m, outputs) and embeddings (m, features) of the images in these rows."""
    import torch

    found: list[tuple[np.ndarray, np.ndarray]] = []
    device = next(network.parameters()).device
    with torch.inference_mode():
        for part in np.array_split(rows, max(1, -(-len(rows) // LOOKED_AT))):
            embedding = network.embed(torch.from_numpy(np.asarray(images[part])).to(device))
            found.append((network.head(embedding).float().cpu().numpy(), embedding.float().cpu().numpy()))
    logits, embeddings = zip(*found, strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)
