"""Labelled images, whatever file they come from: whose they are, what is known of them, and how they are split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from careloop import InputError
from careloop.imaging.classify.model import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.volume import Volume

TRAIN, TUNING, HELD_OUT = "train", "tuning", "held_out"
SPLITS = (TRAIN, TUNING, HELD_OUT)  # in the order in which a row may be moved to an earlier one, never to a later
VIEW = "view"
MISSING = "missing"  # group of a row that has none
# What is being done, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be used, by its number (from 1; in a MedMNIST file over all of its images), and why."""

    row: int
    reason: str


class Images(Protocol):
    """Where the pixels come from."""

    def volumes(self, places: Sequence[int]) -> Iterator[tuple[int, Volume | str]]:
        """The image at each of these places (rising), one in memory at a time, or why it cannot be used."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Rows (n) of labelled images.

    `rows` are their numbers in the file, from 1, and `places` (n,) where `images` has them. `target` (n, labels)
    float32: of a single label 1 for the label that the row has and 0 for all others, of several labels 0, 1, or NaN
    where nobody knows. `split` is of `SPLITS`, or empty where the file states none. `groups` are variables that divide
    the rows for evaluation, such as the view. With `one_image_each` nothing says whose the images are, and each counts
    as a subject.
    """

    path: Path
    name: str
    labels: Labels
    images: Images
    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    subject_id: NDArray[np.str_]
    target: NDArray[np.float32]
    split: NDArray[np.str_]
    digest: str
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    rejected: tuple[RejectedRow, ...] = ()
    one_image_each: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> ImageDataset:
        """The same data set with these rows only."""
        return replace(
            self,
            rows=self.rows[chosen],
            places=self.places[chosen],
            subject_id=self.subject_id[chosen],
            target=self.target[chosen],
            split=self.split[chosen],
            groups={name: values[chosen] for name, values in self.groups.items()},
        )

    def without(self, rejected: Sequence[RejectedRow]) -> ImageDataset:
        """The same data set without these rows, which join those that were rejected before."""
        gone = {row.row for row in rejected}
        left = self.take(np.array([row not in gone for row in self.rows.tolist()], dtype=bool))
        return replace(left, rejected=(*self.rejected, *rejected))


def check_labels(dataset: ImageDataset) -> None:
    """Raise InputError unless there are rows, at least two labels to tell apart, and training rows of each."""
    if not len(dataset):
        reasons = "; ".join(f"row {row.row}: {row.reason}" for row in dataset.rejected[:3])
        raise InputError(f"{dataset.path} has no row that can be used ({len(dataset.rejected)} rejected: {reasons})")
    names, train = np.array(dataset.labels.names), dataset.split == TRAIN
    positive = np.nansum(dataset.target[train], axis=0)
    missing = names[positive == 0].tolist()
    if missing:
        raise InputError(
            f"{dataset.path}: no training row has the label {', '.join(missing[:5])}; leave the label out or add rows"
        )
    negative = np.nansum(1 - dataset.target[train], axis=0)
    always = names[negative == 0].tolist()
    if always:
        raise InputError(
            f"{dataset.path}: every training row has the label {', '.join(always[:5])}, so there is nothing to learn; "
            "a blank is unknown: write 0 where a label does not apply"
        )
