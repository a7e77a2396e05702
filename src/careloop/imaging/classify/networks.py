"""A classification network from its architecture, with weights that no training has touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from careloop import InputError
from careloop.imaging.classify.architecture import DenseNetShape, ResNetShape, Shape, shape_of
from careloop.imaging.classify.image_classifier import ImageClassifier

__all__ = ["ImageClassifier", "build_classifier"]


def build_classifier(architecture: Mapping[str, Any], *, channels: int, outputs: int) -> ImageClassifier:
    """The network that `shape_of(architecture)` describes, initialised by torch's random numbers, in training mode.

    Raises:
        InputError: the architecture is none, or channels or outputs are less than 1.
    """
    if channels < 1 or outputs < 1:
        raise InputError(f"A network needs at least one channel and one output, got {channels} and {outputs}")
    shape = shape_of(architecture)
    network = _network(shape, channels=channels, outputs=outputs)
    if shape.mean_image:
        network.mean_image = torch.zeros(channels, *shape.mean_image)
    return network


def _network(shape: Shape, *, channels: int, outputs: int) -> ImageClassifier:
    if isinstance(shape, ResNetShape):
        from careloop.imaging.classify.resnet import ResNet

        return ResNet(shape, channels=channels, outputs=outputs)
    if isinstance(shape, DenseNetShape):
        from careloop.imaging.classify.densenet import DenseNet

        return DenseNet(shape, channels=channels, outputs=outputs)
    from careloop.imaging.classify.transformers_network import TransformersNetwork

    return TransformersNetwork(shape, channels=channels, outputs=outputs)
