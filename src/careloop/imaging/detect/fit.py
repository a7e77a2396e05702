"""Training of a detector on patches: cases prepared and kept on disk, and the work that the training loop does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.detect.boxes import to_prepared
from careloop.imaging.detect.dataset import DetectionCase, DetectionDataset
from careloop.imaging.segment.model import Preparation, Tiling
from careloop.imaging.segment.prepare import prepare
from careloop.imaging.segment.tiles import Origin, cut_tile, patch_3d, tile_rows
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from careloop.imaging.detect.heatmap import Target

AROUND = 0.5  # of the patches of an image with boxes lie around one of them
OFF_CENTRE = 0.3  # of the patch, by which such a patch may be off the box's middle
TUNING_SHARE = 0.5  # tiles of validation after an epoch, at most this part of the patches trained on
BRIGHTNESS, CONTRAST = 0.1, 0.1  # largest changes of the intensities of training patches


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """An image as the network sees it in the .npy `file`; `boxes` (k, 6), `labels` (k,)."""

    file: Path
    boxes: NDArray[np.float64]
    labels: NDArray[np.intp]

    @property
    def image(self) -> NDArray[np.float32]:
        """(channels, Z, Y, X) float32, memory-mapped anew each time: of many images few may be open at once."""
        return np.asanyarray(np.load(self.file, mmap_mode="r"))


def prepare_case(
    case: DetectionCase, dataset: DetectionDataset, preparation: Preparation, folder: Path
) -> PreparedCase:
    """Prepare a case, or open what was prepared before; the file appears in `folder` whole or not at all."""
    stem = hashlib.sha256(str(case.image).encode()).hexdigest()[:16]
    image, about = folder / f"{stem}.npy", folder / f"{stem}.npz"
    if not about.exists():
        volume, boxes = dataset.read(case)
        made = prepare([volume], preparation)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(image, made.image)
        with whole_file(about) as draft:
            np.savez(draft, allow_pickle=False, boxes=to_prepared(boxes, made.placing))
    with np.load(about) as known:
        labels = np.array([dataset.labels.index(name) for name in case.labels], dtype=np.intp)
        return PreparedCase(image, known["boxes"], labels)


class DetectionWork:
    """Training on patches of `cases[0]`, validation by the loss on tiles of `cases[1]`."""

    def __init__(
        self,
        cases: tuple[Sequence[PreparedCase], Sequence[PreparedCase]],
        patch: tuple[int, ...],
        *,
        names: int,
        batches: tuple[int, int],
        mirror_axes: tuple[int, ...],
        seed: int,
    ) -> None:
        self.training, self.validation = cases
        self.patch, self.names, self.mirror_axes, self.seed = patch, names, mirror_axes, seed
        self.steps, self.batch_size = batches

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """Cases of each batch: all of them in a new order, again and again until the epoch has its steps."""
        random = np.random.default_rng([self.seed, epoch])
        wanted = self.steps * self.batch_size
        rounds = -(-wanted // len(self.training))
        order = np.concatenate([random.permutation(len(self.training)) for _ in range(rounds)])[:wanted]
        return list(order.reshape(self.steps, self.batch_size))

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The loss of a batch, and the boxes that it is divided by; the third number counts voxels."""
        drawn = [self._patch(self.training[row], np.random.default_rng([seed, i])) for i, row in enumerate(rows)]
        return self._loss(model, drawn)

    def validation_loss(self, model: nn.Module) -> float | None:
        """The mean loss a box over tiles side by side, of as many tuning cases as time allows."""
        total, divisor, tiles = 0.0, 0.0, []
        for case in self.validation:
            tiles += [self._tile(case, origin) for origin in _origins(case, self.patch)]
            if len(tiles) > TUNING_SHARE * self.steps * self.batch_size:
                break
        for start in range(0, len(tiles), self.batch_size):
            value, count, _ = self._loss(model, tiles[start : start + self.batch_size])
            total, divisor = total + float(value), divisor + float(count)
        return total / divisor if tiles else None

    def _loss(
        self, model: nn.Module, drawn: Sequence[tuple[NDArray[np.float32], Target]]
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        import torch

        from careloop.imaging.detect.heatmap import detection_loss

        device = next(model.parameters()).device
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).to(device)
        value, count = detection_loss(model(images), [target for _, target in drawn])
        return value, value.new_tensor(float(count)), images.numel()

    def _patch(self, case: PreparedCase, random: np.random.Generator) -> tuple[NDArray[np.float32], Target]:
        """A patch at a random place, mirrored and brightened at random."""
        image, boxes = self._cut(case, _random_origin(case, self.patch, random))
        dims = len(self.patch)
        for axis in self.mirror_axes:
            if random.random() < 0.5:
                image = np.flip(image, axis + 1)
                size = self.patch[axis]
                boxes[:, [axis, axis + dims]] = size - boxes[:, [axis + dims, axis]]
        factor, shift = random.uniform(1 - CONTRAST, 1 + CONTRAST), random.uniform(-BRIGHTNESS, BRIGHTNESS)
        changed = np.ascontiguousarray(image * np.float32(factor) + np.float32(shift))
        return changed, self._target(boxes, case.labels)

    def _tile(self, case: PreparedCase, origin: Origin) -> tuple[NDArray[np.float32], Target]:
        image, boxes = self._cut(case, origin)
        return image, self._target(boxes, case.labels)

    def _cut(self, case: PreparedCase, origin: Origin) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The tile (channels, *patch) that begins at `origin`, and the boxes (k, 2 d) in it."""
        image = cut_tile(case.image, origin, patch_3d(Tiling(self.patch)))
        axes = list(range(3 - len(self.patch), 3))
        boxes = (case.boxes - np.tile(origin, 2))[:, [*axes, *[axis + 3 for axis in axes]]]
        return np.array(image).reshape(len(image), *self.patch), boxes

    def _target(self, boxes: NDArray[np.float64], labels: NDArray[np.intp]) -> Target:
        from careloop.imaging.detect.heatmap import target_of

        return target_of(boxes, labels, patch=self.patch, names=self.names)


def _random_origin(case: PreparedCase, patch: tuple[int, ...], random: np.random.Generator) -> Origin:
    """Where a patch begins: half of them around a box, and within the image where it is large enough."""
    whole = patch_3d(Tiling(patch))
    around = case.boxes[random.integers(len(case.boxes))] if len(case.boxes) and random.random() < AROUND else None
    origin = []
    for axis, (size, extent) in enumerate(zip(case.image.shape[1:], whole, strict=True)):
        if size <= extent:
            origin.append(-((extent - size) // 2))
            continue
        if around is None:
            origin.append(int(random.integers(size - extent + 1)))
            continue
        middle = (around[axis] + around[axis + 3]) / 2 + random.uniform(-OFF_CENTRE, OFF_CENTRE) * extent
        origin.append(int(np.clip(round(middle - extent / 2), 0, size - extent)))
    return origin[0], origin[1], origin[2]


def _origins(case: PreparedCase, patch: tuple[int, ...]) -> list[Origin]:
    return [origin for row in tile_rows(case.image.shape[1:], Tiling(patch, step=1.0)) for origin in row]
