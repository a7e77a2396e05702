"""Residual networks in two and three dimensions, parameter for parameter those of torchvision in two.

The names and the arithmetic are those of torchvision's resnet.py (BSD-3), which timm, torchxrayvision and, in three
dimensions, MONAI share, so that their weights load here. Source: He et al. 2016, Deep residual learning (CVPR), with
the stride of a bottleneck in its 3x3 convolution as torchvision has it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from careloop.imaging.classify.architecture import ResNetShape
from careloop.imaging.classify.image_classifier import CONVOLUTION, MAX_POOL, NORM, ImageClassifier


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    expansion = 1

    def __init__(self, dimensions: int, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        conv, norm = CONVOLUTION[dimensions], NORM[dimensions]
        self.conv1 = conv(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(dimensions, inputs, width, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, width, *size / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return cast("torch.Tensor", self.relu(out + (x if self.downsample is None else self.downsample(x))))


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 beside the identity."""

    expansion = 4

    def __init__(self, dimensions: int, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        conv, norm, outputs = CONVOLUTION[dimensions], NORM[dimensions], width * self.expansion
        self.conv1 = conv(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = conv(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(dimensions, inputs, outputs, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, 4 width, *size / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return cast("torch.Tensor", self.relu(out + (x if self.downsample is None else self.downsample(x))))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def shortcut(dimensions: int, inputs: int, outputs: int, *, stride: int) -> nn.Sequential | None:
    """The identity as None, or a 1x1 convolution where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    conv = CONVOLUTION[dimensions](inputs, outputs, 1, stride=stride, bias=False)
    return nn.Sequential(conv, NORM[dimensions](outputs))


class ResNet(ImageClassifier):
    """See `ResNetShape`; stages are `layer1`, `layer2`, ..., and the head is `fc`."""

    head_name, first_name = "fc", "conv1"

    def __init__(self, shape: ResNetShape, *, channels: int, outputs: int) -> None:
        super().__init__()
        dimensions, inputs, block = shape.dimensions, shape.widths[0], BLOCKS[shape.block]
        self.conv1 = CONVOLUTION[dimensions](
            channels, inputs, shape.stem_kernel, stride=shape.stem_stride, padding=shape.stem_kernel // 2, bias=False
        )
        self.bn1 = NORM[dimensions](inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = MAX_POOL[dimensions](3, stride=2, padding=1) if shape.pool else nn.Identity()
        self.stages = [f"layer{number}" for number in range(1, len(shape.depths) + 1)]
        for name, depth, width in zip(self.stages, shape.depths, shape.widths, strict=True):
            blocks = []
            for at in range(depth):
                stride = 2 if at == 0 and name != "layer1" else 1
                blocks.append(block(dimensions, inputs, width, stride=stride))
                inputs = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.embedding_size = inputs
        self.fc = nn.Linear(inputs, outputs)
        initialize(self)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """See ImageClassifier."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.less_mean(x)))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x


def initialize(network: nn.Module) -> None:
    """Convolutions as He et al. 2015 (ICCV) for ReLU, by outputs; normalisation is the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
