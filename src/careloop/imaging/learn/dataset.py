"""A folder of images and labels in nnU-Net's or the Medical Segmentation Decathlon's layout, listed and split."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError

SUBJECTS = "subjects.csv"  # columns case and subject; without it every case is a subject of its own
VALIDATION_SHARE = 0.2
# What is being done, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]
BACKGROUND, IGNORE = "background", "ignore"


@dataclass(frozen=True)
class Case:
    """One labelled image: a file for each channel, the file of its labels, and whom it is of."""

    name: str
    images: tuple[Path, ...]
    labels: Path
    subject: str


@dataclass(frozen=True)
class Rejected:
    """A case that cannot be used, and why."""

    case: str
    reason: str


@dataclass(frozen=True)
class Labels:
    """What the numbers of label files mean.

    `names` are the structures in the order of the network's scores. Plain labels: structure i has the number
    `numbers[i]` (one number each, 1, 2, ... without gaps). With `is_regions` they may overlap: structure i is the union
    of `numbers[i]`, and `written[i]` is the number that it has in a result (nnU-Net's regions_class_order). `ignore`
    marks voxels that nobody labelled.
    """

    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]
    ignore: int | None = None
    is_regions: bool = False
    written: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """Score channels of a network: background has one unless structures are regions."""
        return len(self.names) + (0 if self.is_regions else 1)

    @property
    def declared(self) -> frozenset[int]:
        """Every number that a label file may hold."""
        numbers = {number for group in self.numbers for number in group}
        return frozenset(numbers | {0} | ({self.ignore} if self.ignore is not None else set()))


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: names of channels (`CT`, `T1`), labels, and its cases; `rejected` lack a file."""

    folder: Path
    name: str
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[Case, ...]
    rejected: tuple[Rejected, ...]
    description: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over what is declared and over the name, size and time of every file: another data set, another."""
        known = hashlib.sha256(repr((self.channels, self.labels)).encode())
        for case in self.cases:
            for path in (*case.images, case.labels):
                facts = path.stat()
                known.update(f"{case.name} {case.subject} {path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return known.hexdigest()


def open_dataset(folder: Path) -> Dataset:
    """The cases that `folder` holds, from its dataset.json; nothing but that file is read yet.

    Understood are nnU-Net v2's raw layout (imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz; channel_names, labels,
    file_ending, or a `dataset` of its own paths; regions and an ignore label) and the Decathlon's (modality, labels
    by number, `training`), whose images must have one channel each.

    Raises:
        InputError: dataset.json is missing, damaged or contradicts itself, or there are no cases.
    """
    path = folder / "dataset.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} has no dataset.json; see nnU-Net's dataset format for what it must say") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    decathlon = "training" in document and "file_ending" not in document
    try:
        channels = document["modality" if decathlon else "channel_names"]
        declared = dict(document["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} must have channel_names and labels; {error} is missing or wrong") from error
    if decathlon:
        declared = {name: int(number) for number, name in declared.items()}
    names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    labels = _labels(declared, document.get("regions_class_order"), path)
    files = _decathlon_files(document, folder, names) if decathlon else _nnunet_files(document, folder, len(names))
    cases, rejected = _with_subjects(files, folder)
    if not cases:
        raise InputError(f"{folder} has no case with all its images and labels ({len(rejected)} are incomplete)")
    about = " ".join(str(document[key]) for key in ("description", "licence", "reference") if document.get(key))
    return Dataset(folder, str(document.get("name") or folder.name), names, labels, cases, rejected, about)


def split_cases(cases: tuple[Case, ...], *, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Cases to train on, and those of `VALIDATION_SHARE` of the subjects to validate on; nobody is in both.

    Raises:
        InputError: there are fewer than two subjects.
    """
    subjects = sorted({case.subject for case in cases})
    if len(subjects) < 2:
        raise InputError(f"training needs labelled images of at least 2 subjects, got {len(subjects)} that can be used")
    held = max(1, round(VALIDATION_SHARE * len(subjects)))
    chosen = {subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))[:held]}
    return (
        tuple(case for case in cases if case.subject not in chosen),
        tuple(case for case in cases if case.subject in chosen),
    )


def _labels(declared: Mapping[str, Any], order: list[int] | None, path: Path) -> Labels:
    try:
        groups = {n: tuple(map(int, v if isinstance(v, list | tuple) else [v])) for n, v in declared.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: labels must be whole numbers or lists of them ({error})") from error
    ignore = groups.pop(IGNORE, None)
    background = groups.pop(BACKGROUND, None)
    if background != (0,):
        raise InputError(f"{path}: labels must have {BACKGROUND!r} with number 0, got {background}")
    numbers = sorted({number for group in groups.values() for number in group})
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise InputError(f"{path}: labels must be numbered 1, 2, 3, ... without gaps, got {numbers}")
    if ignore is not None and ignore != (len(numbers) + 1,):
        raise InputError(f"{path}: {IGNORE!r} must be the highest label, {len(numbers) + 1}, got {ignore}")
    ignored = None if ignore is None else ignore[0]
    if order is None:
        if any(len(group) > 1 for group in groups.values()) or len(groups) != len(numbers):
            raise InputError(f"{path}: labels that are lists (regions) need regions_class_order")
        names = tuple(sorted(groups, key=lambda name: groups[name]))
        return Labels(names, tuple(groups[name] for name in names), ignored)
    if len(order) != len(groups):
        raise InputError(f"{path}: regions_class_order must have a number for each of {len(groups)} regions")
    return Labels(tuple(groups), tuple(groups.values()), ignored, is_regions=True, written=tuple(map(int, order)))


Files = dict[str, tuple[list[Path], Path]]


def _nnunet_files(document: Mapping[str, Any], folder: Path, channels: int) -> Files:
    ending = str(document.get("file_ending", ".nii.gz"))
    if "dataset" in document:
        listed = document["dataset"].items()
        return {
            name: ([(folder / image).resolve() for image in entry["images"]], (folder / entry["label"]).resolve())
            for name, entry in listed
        }
    labelled = {path.name.removesuffix(ending) for path in (folder / "labelsTr").glob(f"*{ending}")}
    pictured = {
        path.name.removesuffix(ending)[:-5] for path in (folder / "imagesTr").glob(f"*_[0-9][0-9][0-9][0-9]{ending}")
    }
    return {
        name: (
            [folder / "imagesTr" / f"{name}_{channel:04d}{ending}" for channel in range(channels)],
            folder / "labelsTr" / f"{name}{ending}",
        )
        for name in labelled | pictured
    }


def _decathlon_files(document: Mapping[str, Any], folder: Path, channels: tuple[str, ...]) -> Files:
    if len(channels) > 1:
        raise InputError(
            f"{folder}: images of the Decathlon with {len(channels)} channels in one file are not read; write each "
            "channel to a file of its own (nnU-Net's layout)"
        )
    return {
        Path(entry["label"]).name.removesuffix(".gz").removesuffix(".nii"): (
            [folder / entry["image"]],
            folder / entry["label"],
        )
        for entry in document["training"]
    }


def _with_subjects(files: Files, folder: Path) -> tuple[tuple[Case, ...], tuple[Rejected, ...]]:
    subjects = _subjects(folder / SUBJECTS)
    cases, rejected = [], []
    for name, (images, labels) in sorted(files.items()):
        missing = [path for path in (*images, labels) if not path.is_file()]
        if missing:
            rejected.append(Rejected(name, f"{missing[0].name} is missing"))
        elif subjects is not None and name not in subjects:
            rejected.append(Rejected(name, f"{SUBJECTS} does not say whom it is of"))
        else:
            cases.append(Case(name, tuple(images), labels, name if subjects is None else subjects[name]))
    return tuple(cases), tuple(rejected)


def _subjects(path: Path) -> dict[str, str] | None:
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"case", "subject"} <= set(rows.fieldnames or ()):
            raise InputError(f"{path} must have the columns case and subject, got {rows.fieldnames}")
        return {row["case"]: row["subject"] for row in rows}
