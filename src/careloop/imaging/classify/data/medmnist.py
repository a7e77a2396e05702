"""MedMNIST files (.npz) as they are: images and labels by their official splits, read a slice of the file at a time.

A file holds {train,val,test}_images, uint8 (n, 28, 28[, 3]) or (n, 28, 28, 28[, 3]) (64, 128 and 224 pixels too), and
{train,val,test}_labels (n, 1) for one label an image, of which ordinal grades are the numbers from 0, or (n, k) of 0
and 1 for k labels. Source: Yang et al. 2023, MedMNIST v2 (Scientific Data 10:41), and its package medmnist.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.classify.data.dataset import HELD_OUT, TRAIN, TUNING, ImageDataset, RejectedRow
from careloop.imaging.classify.model import Labels
from careloop.imaging.read.limits import check_size
from careloop.imaging.volume import Source, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

OFFICIAL = {"train": TRAIN, "val": TUNING, "test": HELD_OUT}
COLOURS = 3
MOST_LABELS = 1000  # more than any published file; a wrong array would name every image
NO_SUBJECTS = (
    "The file does not say whose the images are; each counts as a subject, and its splits are kept as published."
)
DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


@dataclass(frozen=True)
class Part:
    """The images of one official split: its name in the file, their number, shape of one and type."""

    name: str
    images: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True)
class MedmnistImages:
    """The images of all parts, one after the other, decompressed as they are asked for."""

    path: Path
    parts: tuple[Part, ...]
    modality: str = ""

    def volumes(self, places: Sequence[int]) -> Iterator[tuple[int, Volume | str]]:
        """See `Images`; what lies between two places is skipped over without being kept."""
        first, wanted = 0, list(places)
        for part in self.parts:
            inside = [place for place in wanted if first <= place < first + part.images]
            if inside:
                for place, pixels in self._pixels(part, first, inside):
                    yield place, self._volume(pixels, part, place - first)
            first += part.images

    def _pixels(self, part: Part, first: int, places: list[int]) -> Iterator[tuple[int, NDArray[np.generic]]]:
        size, at = prod(part.shape) * part.dtype.itemsize, 0
        with _member(self.path, f"{part.name}_images") as (file, _, _):
            for place in places:
                for _ in range(place - first - at):
                    _exactly(file, size, self.path)
                yield place, np.frombuffer(_exactly(file, size, self.path), part.dtype).reshape(part.shape)
                at = place - first + 1

    def _volume(self, pixels: NDArray[np.generic], part: Part, number: int) -> Volume:
        colour = (COLOURS,) if part.shape[-1] == COLOURS else ()
        plain = part.shape[:-1] if part.shape[-1] in (1, COLOURS) else part.shape
        voxels = pixels.reshape(*(1,) * (3 - len(plain)), *plain, *colour)
        where = Source(files=(f"{self.path}!{part.name}_images[{number}]",))
        return Volume(voxels, np.eye(4), modality=self.modality, placed=False, source=where)


def open_medmnist(path: Path, *, names: Sequence[str] | None = None, modality: str = "") -> ImageDataset:
    """The data set of a MedMNIST file; `names` of the labels replace their numbers, `modality` is DICOM's.

    Nothing in the file is ever unpickled.

    Raises:
        InputError: the file is damaged, or its arrays are not as this module's docstring says.
    """
    parts: list[Part] = []
    targets: list[NDArray[np.int64]] = []
    for name in OFFICIAL:
        if not _has(path, f"{name}_images"):
            continue
        parts.append(_part(path, name))
        targets.append(_labels(path, name))
        if len(targets[-1]) != parts[-1].images:
            raise InputError(f"{path}: {name}_labels has {len(targets[-1])} rows for {parts[-1].images} images")
    if not {"train", "test"} <= {part.name for part in parts}:
        raise InputError(f"{path} must have train_images and test_images as MedMNIST's files have")
    if len({(part.shape, part.dtype) for part in parts}) > 1 or len({values.shape[1] for values in targets}) > 1:
        raise InputError(f"{path}: images and labels must have one shape and type in all splits")
    values = np.concatenate(targets)
    labels, target, bad = _targets(path, values, names)
    split = np.concatenate([np.full(part.images, OFFICIAL[part.name]) for part in parts])
    rows = np.arange(1, len(values) + 1)
    rejected = [RejectedRow(int(row), "its label is not 0 or 1") for row in rows[bad]]
    stat = path.stat()
    whole = ImageDataset(
        path=path,
        name=path.stem,
        labels=labels,
        images=MedmnistImages(path, tuple(parts), modality),
        rows=rows,
        places=rows - 1,
        subject_id=rows.astype(str),
        target=target,
        split=split,
        digest=hashlib.sha256(f"{path.name} {stat.st_size} {stat.st_mtime_ns} {labels}".encode()).hexdigest(),
        one_image_each=True,
        notes=(NO_SUBJECTS,),
    )
    return whole.without(rejected)


def _targets(
    path: Path, values: NDArray[np.int64], names: Sequence[str] | None
) -> tuple[Labels, NDArray[np.float32], NDArray[np.bool_]]:
    """The labels, the target of each row, and which rows have none that is right."""
    several = values.shape[1] > 1
    if not several and (values.min() < 0 or values.max() >= MOST_LABELS):
        raise InputError(
            f"{path}: a label must be a number from 0 to {MOST_LABELS - 1}, got {values.min()} to {values.max()}"
        )
    count = values.shape[1] if several else int(values.max()) + 1
    if names is not None and len(names) != count:
        raise InputError(f"{path} has {count} labels, got {len(names)} names for them")
    labels = Labels(tuple(names or map(str, range(count))), "multi" if several else "single")
    if several:
        return labels, values.astype(np.float32), np.asarray(~np.isin(values, (0, 1)).all(axis=1))
    target = np.eye(count, dtype=np.float32)[values[:, 0].astype(np.int64)]
    return labels, target, np.zeros(len(values), bool)


def _part(path: Path, name: str) -> Part:
    with _member(path, f"{name}_images") as (_, shape, dtype):
        axes = len(shape) - (shape[-1] in (1, COLOURS) if shape else 0)
        if axes not in (3, 4) or dtype.kind not in "uif" or 0 in shape:
            wanted = "numbers (n, rows, columns[, 3]) or (n, slices, rows, columns[, 3])"
            raise InputError(f"{path}: {name}_images must be {wanted}, got {dtype} {shape}")
        check_size(str(path), prod(shape[1:]) * dtype.itemsize)
        return Part(name, shape[0], shape[1:], dtype)


def _labels(path: Path, name: str) -> NDArray[np.int64]:
    """(n, k) whole numbers."""
    with _member(path, f"{name}_labels") as (file, shape, dtype):
        if len(shape) not in (1, 2) or dtype.kind not in "uifb" or 0 in shape:
            raise InputError(f"{path}: {name}_labels must be numbers (n, labels), got {dtype} {shape}")
        size = prod(shape) * dtype.itemsize
        check_size(str(path), size)
        values = np.frombuffer(_exactly(file, size, path), dtype).reshape(shape[0], -1)
    if dtype.kind == "f" and np.any(values % 1 != 0):
        raise InputError(f"{path}: {name}_labels must be whole numbers")
    return values.astype(np.int64)


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[np.generic]]]:
    """An array in the file: its bytes from the first value on, shape and type; arrays of objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, in_columns, dtype = read(file)
            if dtype.hasobject:
                raise InputError(f"{path}: {name} holds pickled objects, which are never opened; save plain numbers")
            if in_columns and len(shape) > 1:
                raise InputError(f"{path}: {name} is stored by columns; save it with numpy.ascontiguousarray")
            yield file, shape, dtype
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a file of MedMNIST: {name}: {error}") from error


def _has(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a file of MedMNIST: {error}") from error


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    """`size` bytes, however often the file has to be asked."""
    found = file.read(size)
    if len(found) != size:
        raise InputError(f"{path} is cut short: an array has fewer bytes than its header says")
    return found
