"""A model folder of any format that careloop knows, told by what lies in it, as the models to run."""

from __future__ import annotations

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
    if is_trained(folder):
        return (read_trained(folder),)
    if is_totalsegmentator(folder):
        return read_totalsegmentator(folder)
    if is_monai_bundle(folder):
        return (read_monai(folder),)
    if is_onnx(folder):
        return (read_onnx(folder),)
    if is_nnunet(folder):
        return (read_nnunet(folder),)
    raise InputError(
        f"{folder} holds no model that careloop knows; expected model.json (careloop), model.onnx, "
        "plans.json (nnU-Net v2), Dataset*_TotalSegmentator_* folders, or configs/metadata.json (MONAI bundle)"
    )
