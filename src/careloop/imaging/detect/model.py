"""A detector as a folder: what its model.json says, how it is written, and how it is opened again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.model_folder import (
    DESCRIPTION,
    WARNING,
    WEIGHTS,
    check_file,
    file_digest,
    read_said,
    versioned_json,
)
from careloop.imaging.segment.model import Preparation
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from careloop.imaging.unet import UNet

MOST_STAGES = 5
SMALLEST_MAP = 4  # voxels an axis at the coarsest resolution
MOST_FEATURES = 128


@dataclass(frozen=True)
class DetectorFile:
    """What model.json says.

    `labels` are the kinds of findings; `patch` has two axes for pictures, three for volumes; `architecture` is in the
    words of nnU-Net's plans. A finding's probability is the logistic function of `slope` x its logit + `intercept`
    (Platt 1999), and findings below `threshold` are not shown. `weights` is the SHA-256 of weights.safetensors and
    `version` the first 12 hex digits of one over all the rest.
    """

    name: str
    labels: tuple[str, ...]
    channels: int
    architecture: dict[str, Any]
    preparation: Preparation
    patch: tuple[int, ...]
    weights: str
    intended_use: str
    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5
    modality: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    warning: str = WARNING
    format: Literal["careloop detection model"] = "careloop detection model"
    format_version: Literal[1] = 1
    version: str = ""

    def to_json(self) -> str:
        """The text of model.json, with the version that follows from it."""
        return versioned_json(self)

    def probability(self, logit: NDArray[np.float64]) -> NDArray[np.float64]:
        """The calibrated probability that a finding is one."""
        return np.asarray(0.5 * (1 + np.tanh((self.slope * logit + self.intercept) / 2)))


@dataclass(frozen=True)
class Detector:
    """A detector that was read from `folder`; its network is built when it is first used."""

    said: DetectorFile
    folder: Path

    @property
    def made_by(self) -> str:
        """Name and version, as findings carry them."""
        return f"{self.said.name} {self.said.version}"

    @cached_property
    def network(self) -> UNet:
        """The network with its weights, in evaluation mode. InputError where the weights do not fit it."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        network, path = build_network(self.said), self.folder / WEIGHTS
        try:
            weights = load_file(path)
            if weights.keys() != _weights(network).keys():
                raise InputError(f"{path} does not fit the network of {DESCRIPTION}; copy the whole folder again")
            network.load_state_dict(weights, strict=False)  # the decoder's second names of the encoder are not stored
        except (SafetensorError, RuntimeError) as error:
            name = type(error).__name__
            raise InputError(f"{path} does not fit the network of {DESCRIPTION} ({name})") from error
        network.eval()
        return network


def read_detector(folder: Path) -> Detector:
    """The detector that `train_detector` wrote to a folder.

    Raises:
        InputError: a file is missing or damaged, or the weights are not those that model.json speaks of.
    """
    said = read_said(DetectorFile, folder, what="detector")
    check_file(folder / WEIGHTS, said.weights)
    return Detector(said, folder)


def write_weights(network: UNet, folder: Path) -> str:
    """Write weights.safetensors, whole or not at all; returns its SHA-256."""
    from safetensors.torch import save_file

    with whole_file(folder / WEIGHTS) as draft:
        save_file({name: value.contiguous() for name, value in _weights(network).items()}, draft)
    return file_digest(folder / WEIGHTS)


def write_description(said: DetectorFile, folder: Path) -> Detector:
    """Write model.json, which makes the folder a detector; returns it as read again."""
    write_whole(folder / DESCRIPTION, said.to_json())
    return read_detector(folder)


def build_network(said: DetectorFile) -> UNet:
    """The network that model.json describes, with torch's initial weights."""
    from careloop.imaging.unet import build_unet

    outputs = len(said.labels) + 2 * len(said.patch)
    return build_unet(said.architecture, channels=said.channels, outputs=outputs)


def _weights(network: UNet) -> dict[str, torch.Tensor]:
    """Each parameter and buffer once, under the first of its names."""
    return {name: p.detach() for name, p in network.named_parameters()} | dict(network.named_buffers())


def architecture_for(patch: tuple[int, ...], *, features: int) -> dict[str, Any]:
    """A plain U-Net for the patch: axes are halved until they are about `SMALLEST_MAP` long, at most four times."""
    dims, sizes = len(patch), list(patch)
    strides = [[1] * dims]
    while len(strides) < MOST_STAGES:
        step = [2 if n % 2 == 0 and n >= 2 * SMALLEST_MAP else 1 for n in sizes]
        if max(step) == 1:
            break
        strides.append(step)
        sizes = [n // s for n, s in zip(sizes, step, strict=True)]
    stages = len(strides)
    return {
        "network_class_name": "PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(features * 2**i, MOST_FEATURES) for i in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * stages,
            "strides": strides,
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.batchnorm.BatchNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }
