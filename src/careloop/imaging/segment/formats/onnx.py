"""Networks as ONNX files: `model.onnx` beside a `model.yaml`, in which the user says what stands around the network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from careloop import InputError
from careloop.imaging.segment.formats.digest import file_digest, short_version
from careloop.imaging.segment.model import NetworkSource, Normalization, Preparation, Scheme, SegmentationModel, Tiling
from careloop.imaging.volume import Segment

NETWORK, DESCRIPTION = "model.onnx", "model.yaml"
AXES = {letter: axis for axis in ("AP", "LR", "SI") for letter in axis}
EXAMPLE = """\
name: my organs
channels: [CT]                     # one name an input channel
modalities: [CT]                   # DICOM's; leave out where any will do
body_parts: [CHEST, THORAX]        # leave out where any will do
labels: {1: heart, 2: lung_left}   # what the output channels 1, 2, ... are; 0 is the background
orientation: SPL                   # towards where the axes (slice, row, column) run; leave out for as stored
spacing_mm: [1.5, 1.5, 1.5]        # in that order; leave out for as stored
scaling: {scheme: range, low: -1000, high: 1000, scaled_low: 0, scaled_high: 1}
patch: [96, 96, 96]                # what the network takes at once
"""


class Scaling(BaseModel):
    """Intensities before the network; the schemes are those of `Normalization`."""

    model_config = ConfigDict(extra="forbid")
    scheme: Scheme
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    sd: float = Field(default=1.0, gt=0)
    scaled_low: float = 0.0
    scaled_high: float = 1.0


class OnnxFile(BaseModel):
    """What `model.yaml` says; see `EXAMPLE`."""

    model_config = ConfigDict(extra="forbid")
    name: str
    channels: list[str] = Field(min_length=1)
    labels: dict[int, str] = Field(min_length=1)
    patch: list[int] = Field(min_length=2, max_length=3)
    scaling: Scaling | list[Scaling]
    modalities: list[str] = []
    body_parts: list[str] = []
    orientation: str | None = Field(default=None, pattern="^[LRAPSI]{3}$")
    spacing_mm: list[float] | None = Field(default=None, min_length=3, max_length=3)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    weighting: Literal["gaussian", "constant"] = "gaussian"
    mirror_axes: list[int] = []
    image_order: Literal[0, 1, 3] = 1
    output: Literal["argmax", "sigmoid"] = "argmax"

    @model_validator(mode="after")
    def _fits_together(self) -> OnnxFile:
        if sorted(self.labels) != list(range(1, len(self.labels) + 1)):
            raise ValueError(f"labels must be numbered 1, 2, ... without a gap, got {sorted(self.labels)}")
        if isinstance(self.scaling, list) and len(self.scaling) != len(self.channels):
            raise ValueError(f"scaling must be one, or one a channel ({len(self.channels)}), got {len(self.scaling)}")
        if self.modalities and len(self.modalities) != len(self.channels):
            raise ValueError(f"modalities must be one a channel ({len(self.channels)}), got {len(self.modalities)}")
        if self.orientation and sorted(AXES[letter] for letter in self.orientation) != ["AP", "LR", "SI"]:
            raise ValueError(f"orientation must name three different axes, such as SPL, got {self.orientation}")
        if any(axis not in range(len(self.patch)) for axis in self.mirror_axes):
            raise ValueError(f"mirror_axes must be axes of the patch (0 to {len(self.patch) - 1})")
        return self


def is_onnx(folder: Path) -> bool:
    """True where the folder has a network as ONNX."""
    return (folder / NETWORK).is_file()


def read_onnx(folder: Path) -> SegmentationModel:
    """The model in a folder with `model.onnx` (one input (n, channels, *patch), one output of scores) and `model.yaml`.

    Raises:
        InputError: `model.yaml` is missing or breaks a rule; the message names the entry.
    """
    said = _described(folder / DESCRIPTION)
    scaling = said.scaling if isinstance(said.scaling, list) else [said.scaling] * len(said.channels)
    digest = file_digest(folder / NETWORK)
    described = short_version(digest, file_digest(folder / DESCRIPTION))
    return SegmentationModel(
        name=said.name,
        version=described,
        kind="onnx",
        channels=tuple(said.channels),
        segments=tuple(Segment(number, name) for number, name in sorted(said.labels.items())),
        outputs=len(said.labels) + (said.output == "argmax"),
        preparation=Preparation(
            normalizations=tuple(Normalization(**part.model_dump()) for part in scaling),
            spacing_mm=None if said.spacing_mm is None else tuple(said.spacing_mm),
            orientation=said.orientation,
            normalize_first=False,
            image_order=said.image_order,
            separate_axis_order=None,
        ),
        tiling=Tiling(tuple(said.patch), 1.0 - said.overlap, said.weighting, tuple(said.mirror_axes)),
        networks=(NetworkSource(digest, onnx=folder / NETWORK),),
        modalities=tuple(said.modalities),
        body_parts=tuple(said.body_parts),
        decision="argmax" if said.output == "argmax" else "regions",
        region_labels=() if said.output == "argmax" else tuple(sorted(said.labels)),
    )


def _described(path: Path) -> OnnxFile:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return OnnxFile.model_validate(content)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing: beside {NETWORK} it must say what stands around the network, such as: "
            f"{'; '.join(line.split('#')[0].strip() for line in EXAMPLE.splitlines())}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
