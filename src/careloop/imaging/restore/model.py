"""Restoration models as folders: model.json says what they take out and were made for, beside weights.safetensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from careloop.imaging.restore.network import Denoiser

# What is taken out: white Gaussian noise (others by variance stabilisation), or the noise of CT at a low dose.
Degradation = Literal["gaussian noise", "low-dose CT"]


@dataclass(frozen=True)
class RestorationFile:
    """What model.json says.

    `levels` are the least and the highest noise level trained on, as a part of the intensity range. `targets` says
    whether clean planes were learnt from, `level_maps` how many maps of the level the network is given: one, or for CT
    those of `local_levels`, the finest first. `weights` is the SHA-256 of weights.safetensors, `version` follows from
    the whole.
    """

    name: str
    degradation: Degradation
    features: tuple[int, ...]
    deepest_blocks: int
    levels: tuple[float, float]
    weights: str
    intended_use: str
    targets: Literal["clean", "none"] = "clean"
    level_maps: int = 1
    modalities: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    warning: str = WARNING
    format: Literal["careloop restoration model"] = "careloop restoration model"
    format_version: Literal[1] = 1
    version: str = ""

    def to_json(self) -> str:
        """The text of model.json, with the version that follows from it."""
        return versioned_json(self)


@dataclass(frozen=True)
class RestorationModel:
    """A model that can be run; `build` gives its network with weights, in evaluation mode."""

    said: RestorationFile
    folder: Path
    build: Callable[[], Denoiser]

    @property
    def made_by(self) -> str:
        """Name and version, as results carry them."""
        return f"{self.said.name} {self.said.version}"


def read_restoration(folder: Path) -> RestorationModel:
    """The model in a folder; its weights are read when the network is built.

    Raises:
        InputError: a file is missing or damaged, or the weights are not those that model.json speaks of.
    """
    said, weights = read_said(RestorationFile, folder, what="restoration model"), folder / WEIGHTS
    check_file(weights, said.weights)
    return RestorationModel(said, folder, partial(build_restoration, said, weights))


def shipped(degradation: Degradation) -> RestorationModel:
    """The model for a degradation that comes with careloop."""
    name = degradation.replace(" ", "_").replace("-", "_").lower()
    return read_restoration(Path(str(files("careloop.imaging.restore") / "weights" / name)))


def build_restoration(said: RestorationFile, weights: Path) -> Denoiser:
    """The network with its weights in single precision, in evaluation mode."""
    from safetensors.torch import load_file

    from careloop.imaging.restore.network import Denoiser, DenoiserSizes

    network = Denoiser(DenoiserSizes(said.features, said.deepest_blocks, said.level_maps))
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    except RuntimeError as error:
        raise InputError(f"{weights} does not fit the network of {DESCRIPTION}; copy the whole folder again") from error
    return network.eval()


def write_restoration(network: Denoiser, said: RestorationFile, folder: Path) -> RestorationModel:
    """Write weights in half precision and model.json, which comes last, so that its being there says done."""
    from safetensors.torch import save_file

    with whole_file(folder / WEIGHTS) as draft:
        save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, str(draft))
    write_whole(folder / DESCRIPTION, replace(said, weights=file_digest(folder / WEIGHTS)).to_json())
    return read_restoration(folder)
