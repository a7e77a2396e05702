"""The log-odds of one label as modules: of the whole network, and cut at its last maps, where Grad-CAM looks."""

from __future__ import annotations

import torch
from torch import nn

from careloop.imaging.classify.image_classifier import ImageClassifier


class LogOdds(nn.Module):
    """Images (n, channels, *size) to log-odds (n,) of a label, before calibration.

    Of independent labels (`multi`) that is the logit; of labels of which one is true, the logit less the log sum exp of
    all others, so that what speaks for every label speaks for none.
    """

    def __init__(self, network: ImageClassifier, label: int, *, kind: str) -> None:
        super().__init__()
        self.network, self.label, self.kind = network, label, kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.of(self.network(x))

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-odds (n,) from logits (n, k)."""
        mine = logits[:, self.label]
        if self.kind == "multi" or logits.shape[1] == 1:
            return mine
        others = [other for other in range(logits.shape[1]) if other != self.label]
        return mine - torch.logsumexp(logits[:, others], dim=1)


class Maps(nn.Module):
    """Images to the network's last maps."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.network.maps(x)


class LogOddsByMaps(LogOdds):
    """The same by way of the module `maps`, for networks that decide by them."""

    def __init__(self, network: ImageClassifier, label: int, *, kind: str) -> None:
        super().__init__(network, label, kind=kind)
        self.maps = Maps(network)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.of(self.network.head(self.network.pool(self.maps(x))))
