"""The rows a classifier is trained, tuned, calibrated and evaluated on: split, prepared, and without duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop import InputError
from careloop.evaluate.subgroups import group_names
from careloop.imaging.classify.data.dataset import HELD_OUT, TRAIN, TUNING, ImageDataset, Progress, check_labels
from careloop.imaging.classify.data.prepared import PreparedImages, prepare_images
from careloop.imaging.classify.data.split import Split, drawn, settle_duplicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.model import InputFormat

CONFORMAL_SHARE = 0.5  # of the tuning subjects, kept for the label sets' thresholds alone


@dataclass(frozen=True, eq=False)
class ReadyImages:
    """Rows (n) of `dataset` with `images` (n, channels, *size) at `place` (n,), and the places of each part.

    `target` (places, labels) is NaN where a place has no row. Tuning rows are in two parts: `tuning` ends training and
    calibrates, `conformal` is for the thresholds of label sets. `moved` rows went to an earlier split because their
    pixels, or another image of their subject, were there.
    """

    dataset: ImageDataset
    prepared: PreparedImages
    place: NDArray[np.int64]
    target: NDArray[np.float32]
    train: NDArray[np.int64]
    tuning: NDArray[np.int64]
    conformal: NDArray[np.int64]
    held_out: NDArray[np.int64]
    moved: int

    @property
    def images(self) -> NDArray[np.float32]:
        """Every prepared image, by place."""
        return self.prepared.images

    def subjects(self, places: NDArray[np.int64]) -> NDArray[np.str_]:
        """Whose the images at these places are."""
        return self.dataset.subject_id[np.searchsorted(self.place, places)]


def ready_images(
    split: Split,
    taken: InputFormat,
    folder: Path,
    *,
    duplicates: Literal["refuse", "leave out"],
    seed: int,
    progress: Progress,
) -> ReadyImages:
    """Prepare the images of a data set with splits into `folder`, and take out what cannot be used.

    Raises:
        InputError: too little is left for a split, images are in two stated splits and `duplicates` is to refuse them,
            or a group cannot be evaluated; all that would stop the evaluation stops here.
    """
    prepared = prepare_images(split.dataset, taken, folder, progress=progress)
    usable = split.dataset.without(prepared.rejected)
    pixels = prepared.pixels[prepared.at(usable.rows)].tolist()
    settled = settle_duplicates(Split(usable, split.movable), pixels, rule=duplicates)
    dataset = settled.dataset
    check_labels(dataset)
    _check_groups(dataset)
    place = prepared.at(dataset.rows)
    target = np.full((len(prepared.rows), len(dataset.labels.names)), np.nan, np.float32)
    target[place] = dataset.target
    tuned = np.flatnonzero(dataset.split == TUNING)
    apart = drawn(dataset.subject_id[tuned], dataset.target[tuned], share=CONFORMAL_SHARE, seed=seed + 2)
    if apart.all() or not apart.any():
        raise InputError(f"{dataset.path}: tuning needs images of at least 2 subjects, got {len(tuned)} of one subject")
    return ReadyImages(
        dataset=dataset,
        prepared=prepared,
        place=place,
        target=target,
        train=place[dataset.split == TRAIN],
        tuning=place[tuned[~apart]],
        conformal=place[tuned[apart]],
        held_out=place[dataset.split == HELD_OUT],
        moved=settled.moved,
    )


def _check_groups(dataset: ImageDataset) -> None:
    """Raise InputError for a variable with too many groups to evaluate."""
    held = dataset.split == HELD_OUT
    for variable, values in dataset.groups.items():
        group_names(variable, values[held], int(held.sum()))
