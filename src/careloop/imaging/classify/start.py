"""Where a training starts: architecture and input as asked for, else as the pretrained weights' folder states them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from careloop import InputError
from careloop.imaging.classify.architecture import DEFAULT
from careloop.imaging.classify.data.dataset import ImageDataset
from careloop.imaging.classify.data.input_format import choose_format
from careloop.imaging.classify.foreign_settings import architecture_of, input_format_of
from careloop.imaging.classify.model import InputFormat
from careloop.imaging.classify.settings import ClassifierSettings


@dataclass(frozen=True)
class Start:
    """An architecture, as `shape_of` takes it, and the format of its input."""

    architecture: dict[str, Any]
    input: InputFormat


def start_of(settings: ClassifierSettings, dataset: ImageDataset) -> Start:
    """What suits the settings, the pretrained weights where there are some, and the training rows.

    Raises:
        InputError: the weights are of a network for images with another number of axes; as `choose_format`.
    """
    weights = settings.pretrained if settings.pretrained is not None and settings.pretrained.is_dir() else None
    stated = None if weights is None else input_format_of(weights)
    chosen = choose_format(dataset, size=settings.size or (None if stated is None else stated.size))
    architecture = settings.architecture or (weights and architecture_of(weights)) or DEFAULT
    shape = {"name": architecture} if isinstance(architecture, str) else architecture
    shape = {"dimensions": chosen.dimensions} | shape
    if shape["dimensions"] != chosen.dimensions:
        raise InputError(
            f"{dataset.path} has images of {chosen.dimensions} axes, but the network is for {shape['dimensions']}; "
            "give another architecture or other pretrained weights"
        )
    if settings.mean_image or shape.get("mean_image"):
        shape = shape | {"mean_image": chosen.size}
    return Start(shape, chosen if stated is None else as_pretrained(chosen, stated))


def as_pretrained(chosen: InputFormat, stated: InputFormat) -> InputFormat:
    """The data's format with the channels, mean and spread that the weights know.

    Intensities stay the data's, as both bring them to 0 to 1, but a window in Hounsfield units is the weights'.
    """
    window = stated.intensities.rule == chosen.intensities.rule == "window"
    return replace(
        chosen,
        channels=stated.channels,
        mean=stated.mean,
        std=stated.std,
        intensities=stated.intensities if window else chosen.intensities,
    )
