"""Simulated images in which a bright square decides the label, and networks that know it: one by construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from careloop.imaging.classify.image_classifier import ImageClassifier
from careloop.imaging.classify.networks import build_classifier

SIZE, SIDE = 28, 5
CONTRAST = 1.5
SMALL: dict[str, Any] = {
    "family": "resnet", "dimensions": 2, "block": "basic", "depths": (1, 1), "widths": (8, 16),
    "stem_kernel": 3, "stem_stride": 1, "pool": True,
}  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """`images` (n, 1, *size), `label` (n,) of 0 and 1, and `square` (n, *size): where the bright square is, if any."""

    images: NDArray[np.float32]
    label: NDArray[np.int64]
    square: NDArray[np.bool_]


def planted(n: int, seed: int, size: tuple[int, ...] = (SIZE, SIZE)) -> Planted:
    """Smooth clutter with a little noise and two dark squares, whose edges are as steep as those of the bright one.

    Every other image has the bright square; it overlaps no dark one.
    """
    random = np.random.default_rng(seed)
    clutter = np.stack([gaussian_filter(random.normal(size=size), 3) for _ in range(n)])
    images = clutter / clutter.std() * 0.3 + random.normal(0, 0.1, (n, *size))
    label, square = np.arange(n) % 2, np.zeros((n, *size), dtype=bool)
    for row in range(n):
        places: list[NDArray[np.int64]] = []
        while len(places) < 3:
            corner = random.integers(1, np.array(size) - SIDE)
            if all(np.abs(corner - other).max() > SIDE for other in places):
                places.append(corner)
        for number, corner in enumerate(places):
            box = (row, *(slice(c, c + SIDE) for c in corner))
            if number < 2:
                images[box] -= CONTRAST
            elif label[row]:
                images[box] += CONTRAST
                square[box] = True
    return Planted(images[:, None].astype(np.float32), label, square)


class Detector(ImageClassifier):
    """A network that is right by construction: a filter for bright squares, a threshold, a sum and a linear layer.

    Its one map is how much brighter than its surroundings a square is, above half of the contrast.
    """

    head_name, first_name, embedding_size = "last", "filter", 1

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        made = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.filter = made(1, 1, SIDE + 2, padding=SIDE // 2 + 1, padding_mode="replicate")
        self.last = nn.Linear(1, 2)
        inside = np.zeros((SIDE + 2,) * dimensions)
        inside[(slice(1, -1),) * dimensions] = 1
        weights = inside / inside.sum() - (1 - inside) / (1 - inside).sum()
        with torch.no_grad():
            self.filter.weight.copy_(torch.from_numpy(weights)[None, None])
            self.filter.bias.fill_(-0.7 * CONTRAST)
            self.last.weight.copy_(torch.tensor([[0.0], [20.0]]))
            self.last.bias.copy_(torch.tensor([0.0, -3.0]))
        self.eval()

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.filter(x))

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(2).sum(2)


def learn(data: Planted, *, epochs: int) -> ImageClassifier:
    """A network fitted to the images by plain Adam."""
    torch.manual_seed(0)
    network = build_classifier(SMALL, channels=1, outputs=2)
    images, label = torch.from_numpy(data.images), torch.from_numpy(data.label)
    optimiser = torch.optim.Adam(network.parameters())
    steps = len(label) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=epochs * steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(label))[: steps * 32].reshape(-1, 32):
            loss = nn.functional.cross_entropy(network(images[rows]), label[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def probability(network: ImageClassifier, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the square, (n,)."""
    with torch.no_grad():
        return network(torch.from_numpy(images)).softmax(1)[:, 1].numpy().astype(np.float64)
