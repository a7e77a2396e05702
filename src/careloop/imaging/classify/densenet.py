"""Densely connected networks in two and three dimensions, parameter for parameter those of torchvision in two.

The names and the arithmetic are those of torchvision's densenet.py (BSD-3), which timm and torchxrayvision share, so
that their weights load here. Source: Huang et al. 2017, Densely connected convolutional networks (CVPR).
"""

from __future__ import annotations

import torch
from torch import nn

from careloop.imaging.classify.architecture import DenseNetShape
from careloop.imaging.classify.image_classifier import AVERAGE_POOL, CONVOLUTION, MAX_POOL, NORM, ImageClassifier

BOTTLENECK = 4  # times the growth: features between a layer's two convolutions


class DenseLayer(nn.Module):
    """Normalisation, 1x1 convolution, normalisation, 3x3 convolution; its features are joined to its input."""

    def __init__(self, dimensions: int, inputs: int, growth: int) -> None:
        super().__init__()
        conv, norm = CONVOLUTION[dimensions], NORM[dimensions]
        self.norm1 = norm(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv(inputs, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = norm(BOTTLENECK * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, inputs + growth, *size)."""
        new = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(new)))], 1)


class DenseBlock(nn.Sequential):
    """`depth` layers, each of which sees what all before it made."""

    def __init__(self, dimensions: int, inputs: int, growth: int, *, depth: int) -> None:
        super().__init__()
        for at in range(depth):
            self.add_module(f"denselayer{at + 1}", DenseLayer(dimensions, inputs + at * growth, growth))


class Transition(nn.Sequential):
    """Half the features at half the resolution."""

    def __init__(self, dimensions: int, inputs: int) -> None:
        super().__init__()
        self.norm = NORM[dimensions](inputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv = CONVOLUTION[dimensions](inputs, inputs // 2, 1, bias=False)
        self.pool = AVERAGE_POOL[dimensions](2, stride=2)


class DenseNet(ImageClassifier):
    """See `DenseNetShape`; all but the head (`classifier`) lies in the module `features`, as in torchvision."""

    head_name, first_name = "classifier", "features.conv0"

    def __init__(self, shape: DenseNetShape, *, channels: int, outputs: int) -> None:
        super().__init__()
        dimensions, width = shape.dimensions, shape.stem_width
        layers = nn.Sequential()
        layers.add_module("conv0", CONVOLUTION[dimensions](
            channels, width, shape.stem_kernel, stride=shape.stem_stride, padding=shape.stem_kernel // 2, bias=False
        ))  # fmt: skip
        layers.add_module("norm0", NORM[dimensions](width))
        layers.add_module("relu0", nn.ReLU(inplace=True))
        if shape.pool:
            layers.add_module("pool0", MAX_POOL[dimensions](3, stride=2, padding=1))
        for number, depth in enumerate(shape.depths, start=1):
            layers.add_module(f"denseblock{number}", DenseBlock(dimensions, width, shape.growth, depth=depth))
            width += depth * shape.growth
            if number < len(shape.depths):
                layers.add_module(f"transition{number}", Transition(dimensions, width))
                width //= 2
        layers.add_module(f"norm{len(shape.depths) + 1}", NORM[dimensions](width))
        self.features = layers
        self.embedding_size = width
        self.classifier = nn.Linear(width, outputs)
        initialize(self)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """See ImageClassifier."""
        return torch.relu(self.features(self.less_mean(x)))


def initialize(network: nn.Module) -> None:
    """As torchvision: convolutions by He et al. 2015 (ICCV), no bias in the head."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
