"""What every classification network is: images to maps, maps to one embedding an image, an embedding to logits."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


class ImageClassifier(nn.Module):
    """`forward(x)` is `head(pool(maps(x)))`, so that each step can be looked at and differentiated on its own.

    x is float32, (n, channels, rows, columns) or (n, channels, slices, rows, columns). A network sets
    `embedding_size` and defines `maps`, and names its first and its last layer. `mean_image` (channels, *size), where
    it is there, is kept with the weights and taken off x by `maps`.
    """

    embedding_size: int
    mean_image: torch.Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_image", None)

    def less_mean(self, x: torch.Tensor) -> torch.Tensor:
        """Images without what they have in common."""
        return x if self.mean_image is None else x - self.mean_image

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """The last features that still have a place in the image (n, embedding_size, *small)."""
        raise NotImplementedError

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (n, embedding_size, *small) to embeddings (n, embedding_size): the average over all places."""
        return maps.flatten(2).mean(2)

    def head(self, embedding: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, embedding_size) to logits (n, outputs)."""
        return cast("torch.Tensor", self.get_submodule(self.head_name)(embedding))

    @property
    def head_name(self) -> str:
        """The name under which weights know the last, linear layer (`fc`, `classifier`)."""
        raise NotImplementedError

    @property
    def first_name(self) -> str:
        """The name of the convolution that sees the image."""
        raise NotImplementedError

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Images to embeddings (n, embedding_size)."""
        return self.pool(self.maps(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to logits (n, outputs)."""
        return self.head(self.embed(x))


CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
