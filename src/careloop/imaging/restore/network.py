"""A small residual U-Net that takes noise of a known level out of one plane, and says how far off it may be.

No layer has a bias, so that the network is homogeneous of degree one: noise and image scaled together give the result
scaled (Mohan et al. 2020, Robust and interpretable blind image denoising via bias-free networks, ICLR). Residual blocks
and the map of the noise level as second input are those of DRUNet (Zhang et al. 2021, Plug-and-play image restoration
with deep denoiser prior, section 3), a thirtieth of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional

LEAST_SPREAD = 1e-3  # of the noise level: the expected error is never given as nothing


@dataclass(frozen=True)
class DenoiserSizes:
    """Features by resolution, the finest first, and residual blocks at the coarsest; the others have one each way.

    `level_maps` are the maps of the noise level that it is given beside a plane.
    """

    features: tuple[int, ...] = (24, 48, 96, 128)
    deepest_blocks: int = 2
    level_maps: int = 1

    @property
    def multiple(self) -> int:
        """What rows and columns are filled up to a multiple of."""
        return int(2 ** (len(self.features) - 1))


class Residual(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.second = nn.Conv2d(features, features, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, features, rows, columns) to the same shape."""
        return cast("torch.Tensor", x + self.second(functional.relu(self.first(x))))


class Denoiser(nn.Module):
    """Noisy planes and their noise level to restored planes and the absolute error that is to be expected there."""

    def __init__(self, sizes: DenoiserSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or DenoiserSizes()
        features = self.sizes.features
        steps = list(pairwise(features))
        self.enter = nn.Conv2d(1 + self.sizes.level_maps, features[0], 3, padding=1, bias=False)
        self.down_blocks = nn.ModuleList(Residual(fine) for fine, _ in steps)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in steps)
        self.deepest = nn.Sequential(*[Residual(features[-1]) for _ in range(self.sizes.deepest_blocks)])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in steps)
        self.up_blocks = nn.ModuleList(Residual(fine) for fine, _ in steps)
        self.leave = nn.Conv2d(features[0], 1, 3, padding=1, bias=False)
        self.spread = nn.Conv2d(features[0], 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restored plane and expected error (n, 2, rows, columns) of plane and levels (n, 1 + maps, rows, columns).

        Rows and columns are multiples of `sizes.multiple`. The expected error learns from features that it does not
        change.
        """
        features = self.features(x)
        spread = self.spread(features.detach()).abs() + LEAST_SPREAD * x[:, 1:2]
        return torch.cat([x[:, :1] + self.leave(features), spread], 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The last features (n, features[0], rows, columns)."""
        x = self.enter(x)
        kept = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            x = block(x)
            kept.append(x)
            x = down(x)
        x = self.deepest(x)
        for block, up, beside in zip(reversed(self.up_blocks), reversed(self.ups), reversed(kept), strict=True):
            x = block(up(x) + beside)
        return x


def initialize(network: Denoiser, seed: int) -> None:
    """He's initial weights for ReLU; the second convolution of a residual block and the last one begin small."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if name.endswith(("second", "leave", "spread")):
                module.weight.data.mul_(0.1)
