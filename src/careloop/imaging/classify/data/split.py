"""Which rows are trained on, tuned on and held out: by subject, evenly over labels, never the same pixels in two."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.classify.data.dataset import HELD_OUT, SPLITS, TRAIN, TUNING, ImageDataset, RejectedRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT_SHARE, TUNING_SHARE = 0.2, 0.2  # of all subjects; of those that are not held out
LISTED = 3  # rows named in a message
SAME_PIXELS = "the same pixels are in another split"


@dataclass(frozen=True)
class Split:
    """A data set with a split in every row; `movable` are the splits that were drawn here, not stated by the file."""

    dataset: ImageDataset
    movable: frozenset[str]


@dataclass(frozen=True)
class Settled:
    """The data set with splits that share no pixels, and how many rows had to move to an earlier split for that."""

    dataset: ImageDataset
    moved: int


def with_splits(dataset: ImageDataset, *, seed: int) -> Split:
    """Draw the splits that the file does not state.

    Stated splits are kept; where no row is for tuning, a part of the training subjects is.

    Raises:
        InputError: a subject is in two stated splits, a split is missing or would be empty.
    """
    stated = set(dataset.split.tolist()) - {""}
    if not stated:
        held = drawn(dataset.subject_id, dataset.target, share=HELD_OUT_SHARE, seed=seed)
        tuned = _drawn_from(dataset, ~held, seed=seed)
        split = np.where(held, HELD_OUT, np.where(tuned, TUNING, TRAIN))
        return Split(_checked(replace(dataset, split=split)), frozenset(SPLITS))
    if not {TRAIN, HELD_OUT} <= stated:
        found = ", ".join(sorted(stated))
        raise InputError(f"{dataset.path}: stated splits must have {TRAIN} and {HELD_OUT}, got {found}")
    _check_subjects(dataset)
    if TUNING in stated:
        return Split(_checked(dataset), frozenset())
    tuned = _drawn_from(dataset, dataset.split == TRAIN, seed=seed)
    split = np.where(tuned, TUNING, dataset.split)
    return Split(_checked(replace(dataset, split=split)), frozenset({TRAIN, TUNING}))


def drawn(subject_id: NDArray[np.str_], target: NDArray[np.float32], *, share: float, seed: int) -> NDArray[np.bool_]:
    """The rows (n,) of `share` of the subjects, drawn so that rare labels are as common in them as in the others.

    Subjects are ordered by the rarest label that they have, at random within it, and every 1 / share-th is taken.
    """
    subjects, subject = np.unique(subject_id, return_inverse=True)
    positive = np.nan_to_num(target) == 1
    by_rarity = np.argsort(positive.sum(axis=0), kind="stable")
    rarest = np.full(len(subjects), target.shape[1])
    for rank, label in enumerate(by_rarity):
        has = np.unique(subject[positive[:, label]])
        rarest[has] = np.minimum(rarest[has], rank)
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(subjects)), rarest))
    steps = np.floor(np.arange(len(subjects) + 1) * share + random.random())
    chosen = np.zeros(len(subjects), bool)
    chosen[order] = np.diff(steps) > 0
    return chosen[subject]


def settle_duplicates(given: Split, pixels: Sequence[str], *, rule: Literal["refuse", "leave out"]) -> Settled:
    """No pixels in two splits; `pixels` (n) are digests of each row's image.

    Between movable splits all rows of the subjects that share an image go to the earliest of their splits, so that
    nothing that training has seen is held out. Between stated splits `rule` refuses the data set, or leaves the row of
    the later split out.

    Raises:
        InputError: stated splits share images and the rule is to refuse; a split is left without rows.
    """
    split = _moved(given.dataset, pixels, given.movable)
    moved = int((split != given.dataset.split).sum())
    dataset = replace(given.dataset, split=split)
    first: dict[str, int] = {}
    rank = np.array([SPLITS.index(name) for name in split], dtype=int)
    for place in np.argsort(rank, kind="stable").tolist():
        first.setdefault(pixels[place], place)
    later = [place for place in range(len(dataset)) if rank[place] != rank[first[pixels[place]]]]
    if later and rule == "refuse":
        pairs = "; ".join(f"{dataset.rows[at]} and {dataset.rows[first[pixels[at]]]}" for at in later[:LISTED])
        more = "; ..." if len(later) > LISTED else ""
        raise InputError(
            f"{dataset.path}: {len(later)} images have the pixels of one in an earlier split (rows {pairs}{more}), so "
            "evaluation would be on images that were trained on; correct the splits, or set duplicates to 'leave out'"
        )
    left_out = [RejectedRow(int(dataset.rows[place]), SAME_PIXELS) for place in later]
    return Settled(_checked(dataset.without(left_out)), moved)


def _moved(dataset: ImageDataset, pixels: Sequence[str], movable: Collection[str]) -> NDArray[np.str_]:
    """Splits in which rows of movable splits that are joined by a subject or by pixels are together in the earliest."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(np.isin(dataset.split, sorted(movable)))
    if not len(rows):
        return dataset.split
    subjects = np.unique(dataset.subject_id[rows], return_inverse=True)[1]
    images = np.unique(np.array(pixels)[rows], return_inverse=True)[1] + subjects.max() + 1
    size = int(images.max()) + 1
    joined = connected_components(
        coo_array((np.ones(len(rows)), (subjects, images)), shape=(size, size)), directed=False
    )[1]
    part = joined[subjects]
    rank = np.array([SPLITS.index(name) for name in dataset.split[rows]])
    earliest = np.full(joined.max() + 1, len(SPLITS))
    np.minimum.at(earliest, part, rank)
    split = dataset.split.copy()
    split[rows] = np.array(SPLITS)[earliest[part]]
    return split


def _drawn_from(dataset: ImageDataset, rows: NDArray[np.bool_], *, seed: int) -> NDArray[np.bool_]:
    """The rows for tuning among those that may be trained on."""
    tuned = np.zeros(len(dataset), bool)
    tuned[rows] = drawn(dataset.subject_id[rows], dataset.target[rows], share=TUNING_SHARE, seed=seed + 1)
    return tuned


def _check_subjects(dataset: ImageDataset) -> None:
    splits: dict[str, set[str]] = {}
    for subject, split in zip(dataset.subject_id.tolist(), dataset.split.tolist(), strict=True):
        splits.setdefault(subject, set()).add(split)
    torn = {subject for subject, found in splits.items() if len(found) > 1}
    if torn:
        rows = dataset.rows[np.isin(dataset.subject_id, sorted(torn))]
        raise InputError(
            f"{dataset.path}: {len(torn)} subjects are in more than one split (rows "
            f"{', '.join(map(str, rows[:LISTED]))}, ...); put all images of a subject into one"
        )


def _checked(dataset: ImageDataset) -> ImageDataset:
    """The data set unless a split has no rows."""
    empty = [name for name in SPLITS if not (dataset.split == name).any()]
    if empty:
        raise InputError(
            f"{dataset.path}: no row is left for {' and '.join(empty)} of {len(dataset)} rows of "
            f"{len(np.unique(dataset.subject_id))} subjects that can be used; add images of other subjects"
        )
    return dataset
