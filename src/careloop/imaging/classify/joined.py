"""A classification network whose one output holds logits and embedding, for runtimes that give one output."""

from __future__ import annotations

import torch
from torch import nn

from careloop.imaging.classify.image_classifier import ImageClassifier


class Joined(nn.Module):
    """Images (n, channels, *size) to (n, outputs + embedding_size)."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, and after them the embedding."""
        embedding = self.network.embed(x)
        return torch.cat([self.network.head(embedding), embedding], 1)
