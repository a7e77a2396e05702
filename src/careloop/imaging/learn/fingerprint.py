"""Reading cases with their checks, and what a data set looks like: spacings, shapes, intensities of its structures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.learn.dataset import Case, Dataset, Labels, Progress, Rejected
from careloop.imaging.segment.model import Preparation
from careloop.imaging.segment.prepare import turn_of
from careloop.imaging.volume import LabelMap, Volume, check_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIENTATION = "SPL"  # slices towards the head, rows towards the back, columns towards the left
OPPOSITE = {"S": "I", "P": "A", "L": "R"}
SAMPLED_VOXELS = 10_000  # intensities kept of each case and channel, as nnU-Net samples
PERCENTILES = (0.5, 99.5)
GREATEST_LABEL = 65_535


@dataclass(frozen=True)
class LabelledImage:
    """A case that was read and checked: a volume for each channel and its labels, all on one grid."""

    channels: tuple[Volume, ...]
    labels: LabelMap


@dataclass(frozen=True)
class CaseFacts:
    """What one image is like, in the axes that it is turned to (`orientation_for`).

    `shape` is that of the box of voxels that are not 0 in every channel, `kept` its part of the whole image; `samples`
    (channels, n) are intensities of labelled structures; `label_voxels` counts voxels by label; `axes` says towards
    which directions the stored slices, rows and columns run, empty where the file does not say.
    """

    case: str
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    kept: float
    samples: NDArray[np.float32]
    label_voxels: dict[int, int]
    axes: str


@dataclass(frozen=True)
class Intensities:
    """Of a channel inside all labelled structures of all cases."""

    mean: float
    sd: float
    low: float  # percentile 0.5
    high: float  # percentile 99.5


@dataclass(frozen=True)
class Fingerprint:
    """What a data set is like; `spacings_mm` and `shapes` have a row for each case (slice, row, column)."""

    spacings_mm: tuple[tuple[float, float, float], ...]
    shapes: tuple[tuple[int, int, int], ...]
    kept: float
    intensities: tuple[Intensities, ...]
    axes: dict[str, int]
    label_voxels: dict[int, int]

    @property
    def is_flat(self) -> bool:
        """Every image is one slice, so that the network has two axes."""
        return all(shape[0] == 1 for shape in self.shapes)

    @property
    def is_placed(self) -> bool:
        """Every image says how it lies in the patient."""
        return "" not in self.axes


def read_case(case: Case, dataset: Dataset) -> LabelledImage:
    """The images and labels of a case.

    Raises:
        InputError: a file cannot be read, the grids differ, or a voxel has a label that dataset.json does not declare.
    """
    from careloop.imaging.read.volumes import Choice, read_volume

    channels = tuple(
        _one_value_a_voxel(read_volume(path, choice=Choice(modality="CT" if name.lower() == "ct" else "")), path)
        for path, name in zip(case.images, dataset.channels, strict=True)
    )
    labels = _read_labels(case.labels, dataset.labels)
    for path, volume in zip(case.images, channels, strict=True):
        check_same_grid(volume, labels, what=f"{path.name} and its labels")
    return LabelledImage(channels, labels)


def case_facts(case: Case, image: LabelledImage, labels: Labels, *, seed: int) -> CaseFacts:
    """Measure one case. InputError where no structure is labelled at all."""
    numbers = image.labels.labels
    counts = np.bincount(numbers.ravel())
    inside = np.flatnonzero((numbers > 0) & (numbers != (0 if labels.ignore is None else labels.ignore)))
    if not len(inside):
        raise InputError(f"{case.labels.name} labels no voxel")
    box = nonzero_box(image.channels)
    random = np.random.default_rng([seed, len(inside)])
    chosen = random.choice(inside, min(SAMPLED_VOXELS, len(inside)), replace=False)
    first = image.channels[0]
    shape = [part.stop - part.start for part in box]
    z, y, x = turn_of(first, turned_to(orientation_for(first))).order
    return CaseFacts(
        case=case.name,
        spacing_mm=(first.spacing_mm[z], first.spacing_mm[y], first.spacing_mm[x]),
        shape=(shape[z], shape[y], shape[x]),
        kept=float(np.prod(shape) / numbers.size),
        samples=np.stack([volume.voxels.ravel()[chosen].astype(np.float32) for volume in image.channels]),
        label_voxels={int(n): int(counts[n]) for n in np.flatnonzero(counts)},
        axes=_axes(first) if first.placed else "",
    )


def orientation_for(volume: Volume) -> str | None:
    """How an image is turned before training: pictures and images of unknown place stay as they are stored."""
    return ORIENTATION if volume.placed and volume.voxels.shape[0] > 1 else None


def turned_to(orientation: str | None) -> Preparation:
    """A preparation that does nothing but turn."""
    return Preparation(normalizations=(), spacing_mm=None, orientation=orientation)


def nonzero_box(channels: tuple[Volume, ...]) -> tuple[slice, slice, slice]:
    """The smallest box around voxels that are not 0 in some channel; the whole image where all are."""
    filled = np.zeros(channels[0].voxels.shape, dtype=bool)
    for volume in channels:
        filled |= volume.voxels != 0
    box = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        used = np.flatnonzero(filled.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, filled.shape[axis]))
    return box[0], box[1], box[2]


def check_cases(dataset: Dataset, *, seed: int, progress: Progress) -> tuple[Dataset, tuple[CaseFacts, ...]]:
    """Read every case once; those that cannot be used move to the data set's `rejected` with their reason."""
    facts, rejected = [], list(dataset.rejected)
    for number, case in enumerate(dataset.cases, start=1):
        try:
            facts.append(case_facts(case, read_case(case, dataset), dataset.labels, seed=seed))
        except InputError as error:
            rejected.append(Rejected(case.name, str(error)))
        progress("checking cases", number, len(dataset.cases))
    good = {fact.case for fact in facts}
    kept = replace(dataset, cases=tuple(c for c in dataset.cases if c.name in good), rejected=tuple(rejected))
    if not kept.cases:
        raise InputError(
            f"no case of {dataset.folder} can be used; the first: {rejected[0].case}: {rejected[0].reason}"
        )
    return kept, tuple(facts)


def fingerprint(facts: tuple[CaseFacts, ...]) -> Fingerprint:
    """What the cases are like together; give it cases of training only."""
    samples = np.concatenate([fact.samples for fact in facts], axis=1)
    counts: Counter[int] = Counter()
    for fact in facts:
        counts.update(fact.label_voxels)
    return Fingerprint(
        spacings_mm=tuple(fact.spacing_mm for fact in facts),
        shapes=tuple(fact.shape for fact in facts),
        kept=float(np.median([fact.kept for fact in facts])),
        intensities=tuple(_intensities(channel) for channel in samples),
        axes=dict(Counter(fact.axes for fact in facts)),
        label_voxels=dict(counts),
    )


def _intensities(values: NDArray[np.float32]) -> Intensities:
    low, high = np.percentile(values, PERCENTILES)
    return Intensities(float(values.mean()), float(max(values.std(), 1e-8)), float(low), float(high))


def _axes(volume: Volume) -> str:
    """Towards which directions slices, rows and columns run, such as `SPL`."""
    turn = turn_of(volume, turned_to(ORIENTATION))
    letters = [""] * 3
    for letter, axis, flipped in zip(ORIENTATION, turn.order, turn.flipped, strict=True):
        letters[axis] = OPPOSITE[letter] if flipped else letter
    return "".join(letters)


def _one_value_a_voxel(volume: Volume, path: Path) -> Volume:
    if volume.voxels.ndim != 3:
        raise InputError(f"{path.name} is a colour picture; write each colour to a file of its own")
    return volume


def _read_labels(path: Path, declared: Labels) -> LabelMap:
    from careloop.imaging.read.nifti import SUFFIXES, read_nifti_labels
    from careloop.imaging.read.volumes import read_volume

    if path.name.endswith(SUFFIXES):
        labels = read_nifti_labels(path)
    else:
        volume = _one_value_a_voxel(read_volume(path), path)
        values = volume.voxels
        if (values.dtype.kind == "f" and np.any(values % 1 != 0)) or values.min() < 0 or values.max() > GREATEST_LABEL:
            raise InputError(f"{path.name}: labels must be whole numbers from 0 to {GREATEST_LABEL}")
        labels = LabelMap(values.astype(np.uint16), volume.affine, ())
    unknown = sorted(set(np.flatnonzero(np.bincount(labels.labels.ravel())).tolist()) - declared.declared)
    if unknown:
        raise InputError(f"{path.name} has the label {unknown[0]}, which dataset.json does not declare")
    return labels
