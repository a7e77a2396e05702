"""The one description of a segmentation model that every format of model folder is read into, and the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from careloop.imaging.volume import Segment

if TYPE_CHECKING:
    import torch

Scheme = Literal["ct", "zscore", "zscore_foreground", "range", "own_range", "fixed", "none"]
Grid = Literal["cells", "points", "corners"]


@dataclass(frozen=True)
class Normalization:
    """How one input channel's intensities are scaled.

    `ct`: clip to [low, high], subtract mean, divide by sd (nnU-Net's CTNormalization). `zscore`: mean and sd of the
    image itself; `zscore_foreground`: of its voxels inside the crop's non-zero mask, which alone are scaled. `range`:
    [low, high] to [scaled_low, scaled_high], clipped; `own_range`: the image's own smallest and largest value to 0 and
    1. `fixed`: subtract mean, divide by sd. `none`: as it is.
    """

    scheme: Scheme
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    sd: float = 1.0
    scaled_low: float = 0.0
    scaled_high: float = 1.0


@dataclass(frozen=True)
class Preparation:
    """What is done to a volume before the network sees it, in this order.

    `orientation`: turned so that the array's axes (slice, row, column) run towards these three letters (`SPL`), None
    for as stored. `crop`: to the box of non-zero voxels. Normalisation, a channel each. `axes`: the order in which
    the network takes (slice, row, column). `spacing_mm`: resampled to it, in the network's axes; None keeps it.
    `image_order` is the spline order of images, `score_order` that of class scores on the way back;
    `separate_axis_order` is the order across slices where one axis is much coarser (nnU-Net's anisotropy rule with
    threshold `anisotropy`), None where axes are never treated apart. `grid`: which places of both grids coincide: the
    outer faces of the image (`cells`: nnU-Net, and the spacing is met up to whole voxels), the centres of the first
    voxels (`points`: MONAI's Spacing, the spacing is met exactly), or those of the first and of the last voxels
    (`corners`: scipy's zoom, TotalSegmentator).
    """

    normalizations: tuple[Normalization, ...]
    spacing_mm: tuple[float, ...] | None
    axes: tuple[int, int, int] = (0, 1, 2)
    orientation: str | None = None
    crop: Literal["none", "nonzero"] = "none"
    normalize_first: bool = True  # before resampling, as nnU-Net does; False: after it
    image_order: int = 3
    score_order: int = 1
    separate_axis_order: int | None = 0
    anisotropy: float = 3.0
    grid: Grid = "cells"


@dataclass(frozen=True)
class Tiling:
    """How the network is slid over the prepared image: `patch` (2 or 3 axes, in the network's order), overlap, flips.

    `step` is the stride as a part of the patch. Scores of overlapping tiles are averaged by `weighting` (`gaussian`:
    nnU-Net's, sigma an eighth of the patch). `mirror_axes` are axes of the patch, all of whose flips are averaged.
    """

    patch: tuple[int, ...]
    step: float = 0.5
    weighting: Literal["gaussian", "constant"] = "gaussian"
    mirror_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class NetworkSource:
    """The weights of one network (one fold): where they are, and how they become something that can run.

    `digest` is the SHA-256 of the file with the weights: converted networks are cached under it. Exactly one of
    `build` (returns a torch module in evaluation mode whose call takes (n, channels, *patch) float32 and returns
    (n, outputs, *patch) scores) and `onnx` (a file with that one input and output) is given.
    """

    digest: str
    build: Callable[[], torch.nn.Module] | None = None
    onnx: Path | None = None


@dataclass(frozen=True)
class SegmentationModel:
    """A trained model, ready to be run: `networks` (an ensemble: scores are averaged), and everything around them.

    `channels` name the inputs (`CT`, `T1`); `modalities` are DICOM's for each channel, empty where any will do, and
    `body_parts` what BodyPartExamined may say, empty for anything. `outputs` is the number of score channels.
    `decision`: `argmax` over channels that are labels 0, 1, ...; `regions`: channels are overlapping regions passed
    through a sigmoid, and those above 0.5 write `region_labels` in their order (nnU-Net's regions_class_order).
    """

    name: str
    version: str
    kind: str
    channels: tuple[str, ...]
    segments: tuple[Segment, ...]
    outputs: int
    preparation: Preparation
    tiling: Tiling
    networks: tuple[NetworkSource, ...]
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    decision: Literal["argmax", "regions"] = "argmax"
    region_labels: tuple[int, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)  # shown by `image info`: training data, licence, size
