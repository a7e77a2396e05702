"""Model folders of careloop's own trainer: model.json, and weights.safetensors beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from careloop import InputError
from careloop.imaging.model_folder import DESCRIPTION, WARNING, WEIGHTS, check_file, read_said, versioned_json
from careloop.imaging.segment.model import NetworkSource, Preparation, SegmentationModel, Tiling
from careloop.imaging.volume import Segment

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainedFile:
    """What model.json says.

    `architecture` is in the words of nnU-Net's plans; `weights` is the SHA-256 of weights.safetensors and `version` the
    first 12 hex digits of one over all the rest. `training` says on what and how it was trained, `validation` how well
    each structure was found in cases that no weight was fitted to.
    """

    name: str
    channels: tuple[str, ...]
    segments: tuple[Segment, ...]
    outputs: int
    architecture: dict[str, Any]
    preparation: Preparation
    tiling: Tiling
    weights: str
    intended_use: str
    modalities: tuple[str, ...] = ()
    decision: Literal["argmax", "regions"] = "argmax"
    region_labels: tuple[int, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    warning: str = WARNING
    format: Literal["careloop segmentation model"] = "careloop segmentation model"
    format_version: Literal[1] = 1
    version: str = ""

    def to_json(self) -> str:
        """The text of model.json, with the version that follows from it."""
        return versioned_json(self)


def is_trained(folder: Path) -> bool:
    """Whether a folder holds a model of careloop's trainer."""
    return (folder / DESCRIPTION).is_file() and (folder / WEIGHTS).is_file()


def read_description(folder: Path) -> TrainedFile:
    """What model.json of a folder says. InputError where it is missing, damaged or of a later format."""
    return read_said(TrainedFile, folder, what="model of careloop's trainer")


def read_trained(folder: Path) -> SegmentationModel:
    """The model that `train_segmentation` wrote to a folder; its weights are read when a network is built.

    Raises:
        InputError: a file is missing or damaged, or the weights are not those that model.json speaks of.
    """
    said, weights = read_description(folder), folder / WEIGHTS
    check_file(weights, said.weights)
    return model_of(said, weights)


def model_of(said: TrainedFile, weights: Path) -> SegmentationModel:
    """The model that a description and a file of weights make."""
    return SegmentationModel(
        name=said.name,
        version=said.version,
        kind="careloop",
        channels=said.channels,
        segments=said.segments,
        outputs=said.outputs,
        preparation=said.preparation,
        tiling=said.tiling,
        networks=(NetworkSource(said.weights, build=partial(build_trained, said, weights)),),
        modalities=said.modalities,
        decision=said.decision,
        region_labels=said.region_labels,
        notes=_notes(said),
    )


def build_trained(said: TrainedFile, weights: Path) -> nn.Module:
    """The network with its weights, in evaluation mode."""
    from safetensors.torch import load_model

    from careloop.imaging.unet import build_unet

    network = build_unet(said.architecture, channels=len(said.channels), outputs=said.outputs)
    try:
        load_model(network, str(weights))
    except Exception as error:
        raise InputError(f"{weights} does not fit the network of {DESCRIPTION} ({type(error).__name__})") from error
    return network.eval()


def _notes(said: TrainedFile) -> dict[str, str]:
    """What `image info` shows of the model."""
    notes = {"warning": said.warning, "intended use": said.intended_use}
    for part in ("data", "cases", "epochs", "size"):
        if part in said.training:
            notes[f"trained: {part}"] = str(said.training[part])
    for name, figure in said.validation.get("dice", {}).items():
        notes[f"validation Dice of {name}"] = _words(figure)
    return notes


def _words(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return f"none ({figure['reason']})"
    interval = "" if figure["low"] is None else f" (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{interval}"
