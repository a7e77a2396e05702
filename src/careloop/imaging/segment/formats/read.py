"""A model folder of any format that careloop knows, told by what lies in it, as the models to run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from careloop import InputError
from careloop.imaging.segment.formats.monai import is_monai_bundle, read_monai
from careloop.imaging.segment.formats.nnunet import is_nnunet, read_nnunet
from careloop.imaging.segment.formats.onnx import is_onnx, read_onnx
from careloop.imaging.segment.formats.totalsegmentator import is_totalsegmentator, read_totalsegmentator
from careloop.imaging.segment.formats.trained import is_trained, read_trained
from careloop.imaging.segment.model import SegmentationModel


def read_models(folder: Path) -> tuple[SegmentationModel, ...]:
    """The models of a folder, mostly one; several are parts of one task, whose labels are laid over each other.

    Formats: careloop's own (`model.json`), TotalSegmentator's (`Dataset..._TotalSegmentator_*`), nnU-Net v2
    (`plans.json` and `fold_*`), MONAI bundles (`configs/metadata.json`), and ONNX (`model.onnx` and `model.yaml`).

    Raises:
        InputError: the folder does not exist, is of no known format, or is not complete.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} must be the folder of a model; there is no such folder")
    for is_one, read in FORMATS:
        if is_one(folder):
            return read(folder)
    raise InputError(
        f"{folder} holds no model that careloop knows; expected model.json (careloop), model.onnx, "
        "plans.json (nnU-Net v2), Dataset*_TotalSegmentator_* folders, or configs/metadata.json (MONAI bundle)"
    )


def is_model(folder: Path) -> bool:
    """True where the folder holds a model of a known format."""
    return folder.is_dir() and any(is_one(folder) for is_one, _ in FORMATS)


# TotalSegmentator's folders are nnU-Net's too, so they are asked for first.
FORMATS: tuple[tuple[Callable[[Path], bool], Callable[[Path], tuple[SegmentationModel, ...]]], ...] = (
    (is_trained, lambda folder: (read_trained(folder),)),
    (is_onnx, lambda folder: (read_onnx(folder),)),
    (is_monai_bundle, lambda folder: (read_monai(folder),)),
    (is_totalsegmentator, read_totalsegmentator),
    (is_nnunet, lambda folder: (read_nnunet(folder),)),
)
