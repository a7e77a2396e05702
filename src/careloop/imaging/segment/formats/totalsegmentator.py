"""TotalSegmentator's folders of weights: nnU-Net models behind a fixed turn and resampling, one task in several parts.

TotalSegmentator 2 (Apache-2.0; Wasserthal et al. 2023, Radiology: AI 5:e230024) turns an image to RAS, resamples it to
the resolution of its models by cubic splines between the corner voxels, and the labels back by the nearest voxel. The
weights are the user's: some tasks need a licence of their own.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from careloop import InputError
from careloop.imaging.segment.formats.nnunet import read_nnunet
from careloop.imaging.segment.model import SegmentationModel
from careloop.imaging.volume import Segment

PART = re.compile(r"Dataset(\d{3})_.*")
PARTS_OF_TOTAL = {291, 292, 293, 294, 295}  # organs, vertebrae, cardiac, muscles, ribs at 1.5 mm
STEP_OF_TOTAL = 0.8  # these five alone take fewer tiles
RESAMPLED_FROM_MM = 1.5  # models of this isotropic spacing and above are those that TotalSegmentator resamples for
TOWARDS = "SAR"  # of (slice, row, column), as SimpleITK reads an image turned to RAS


def is_totalsegmentator(folder: Path) -> bool:
    """True where the folder is one of TotalSegmentator's datasets, or holds some."""
    return bool(_parts(folder))


def read_totalsegmentator(folder: Path) -> tuple[SegmentationModel, ...]:
    """The models of a task, in the order in which their labels are laid over each other.

    `folder` is one `DatasetNNN_TotalSegmentator_*` folder, or one that holds all parts of one task.

    Raises:
        InputError: parts of several resolutions lie together, or a part is no nnU-Net model.
    """
    models = tuple(_placed(read_nnunet(part), number) for number, part in _parts(folder))
    resolutions = {model.preparation.spacing_mm for model in models}
    if len(resolutions) > 1:
        raise InputError(
            f"{folder} must hold the parts of one task, got models of {len(resolutions)} resolutions; "
            "give the folder of one model, or put the parts of one task into a folder of their own"
        )
    return models


@cache
def total_numbers() -> dict[str, int]:
    """The number of each of the 117 structures of the task `total`."""
    table = files("careloop.imaging.segment.formats") / "totalsegmentator.csv"
    return {row["name"]: int(row["number"]) for row in csv.DictReader(table.read_text("utf-8").splitlines())}


def _parts(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = [folder.resolve()] if "TotalSegmentator" in folder.resolve().name else sorted(folder.iterdir())
    matches = [(PART.fullmatch(path.name), path) for path in found if "TotalSegmentator" in path.name]
    return [(int(match[1]), path) for match, path in matches if match and path.is_dir()]


def _placed(model: SegmentationModel, number: int) -> SegmentationModel:
    preparation = replace(model.preparation, orientation=TOWARDS)
    spacing = preparation.spacing_mm
    if spacing and min(spacing) >= RESAMPLED_FROM_MM and len(set(spacing)) == 1:
        preparation = replace(
            preparation, normalize_first=False, score_order=0, separate_axis_order=None, grid="corners"
        )
    tiling = replace(model.tiling, step=STEP_OF_TOTAL) if number in PARTS_OF_TOTAL else model.tiling
    segments = tuple(replace(s, name=_plain(s)) for s in model.segments)
    return replace(model, kind="totalsegmentator", preparation=preparation, tiling=tiling, segments=segments)


def _plain(segment: Segment) -> str:
    return segment.name.strip()
