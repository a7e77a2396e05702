"""How good a new model is in the cases that no weight was fitted to, found by the engine that users run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from careloop.evaluate.estimate import to_json
from careloop.evaluate.segmentation import Agreement, agreement, mean_by_case
from careloop.imaging.learn.dataset import Case, Dataset, Progress
from careloop.imaging.learn.fingerprint import LabelledImage, read_case
from careloop.imaging.segment.model import SegmentationModel
from careloop.imaging.segment.run import RunSettings, segment

TOLERANCE_MM = 2.0  # of the surface Dice: about a voxel of an ordinary CT
FIGURES = ("dice", "surface_dice", "hausdorff95_mm")
HOW = (
    "On the images' own grids, by the engine that runs the model. No weight was fitted to these cases, but the epoch "
    "was chosen by Dice on some of them: expect a little less in new ones."
)


def validate_model(
    model: SegmentationModel, dataset: Dataset, cases: Sequence[Case], *, settings: RunSettings, progress: Progress
) -> dict[str, Any]:
    """Each structure's figures over the cases with their 95 % intervals by case, as plain JSON values."""
    found: dict[str, list[Agreement]] = {name: [] for name in dataset.labels.names}
    for number, case in enumerate(cases, start=1):
        for name, figures in compare_case(model, dataset, read_case(case, dataset), settings=settings).items():
            found[name].append(figures)
        progress("validating", number, len(cases))
    return {
        "cases": len(cases),
        "how": HOW,
        "surface tolerance in mm": TOLERANCE_MM,
        **{
            figure: {name: to_json(mean_by_case([getattr(a, figure) for a in each])) for name, each in found.items()}
            for figure in FIGURES
        },
    }


def compare_case(
    model: SegmentationModel, dataset: Dataset, image: LabelledImage, *, settings: RunSettings
) -> dict[str, Agreement]:
    """Each structure of the labels against what the model finds in one case; ignored voxels count as in neither.

    Of overlapping regions a result holds the last one alone: a region is compared as the union that it is in the
    labels, with what the result gives to the regions inside it.
    """
    result = segment(image.channels, model, settings=settings).label_map.labels
    labels = dataset.labels
    truth = image.labels.labels
    known = np.ones(truth.shape, bool) if labels.ignore is None else truth != labels.ignore
    spacing_mm = image.labels.spacing_mm
    figures = {}
    for i, name in enumerate(labels.names):
        reference = np.isin(truth, labels.numbers[i]) & known
        answer = np.isin(result, _written_inside(i, dataset)) & known
        if truth.shape[0] == 1:  # a picture: the faces of its only slice are no surface
            reference, answer = reference[0], answer[0]
        figures[name] = agreement(
            reference, answer, spacing_mm=spacing_mm[-reference.ndim :], tolerance_mm=TOLERANCE_MM
        )
    return figures


def _written_inside(i: int, dataset: Dataset) -> list[int]:
    """The numbers of a result that lie inside structure `i`: its own, and those of regions that are part of it."""
    labels = dataset.labels
    if not labels.is_regions:
        return [labels.numbers[i][0]]
    whole = set(labels.numbers[i])
    return [written for written, group in zip(labels.written, labels.numbers, strict=True) if set(group) <= whole]
