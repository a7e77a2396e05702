"""All images prepared once, one in memory at a time, and mapped from disk from then on; bad ones are set aside."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.classify.data.dataset import ImageDataset, Progress, RejectedRow
from careloop.imaging.classify.prepare import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.model import InputFormat
    from careloop.imaging.volume import Volume

IMAGES, FACTS = "images.npy", "facts.npz"
EVERY = 50  # images between two reports of progress


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Of each row that was prepared (n): `images` (n, channels, *size) float32, mapped from disk, and its facts.

    `rows` (rising) are the rows' numbers, `pixels` digests of the images as they were read, `modality` and `body_part`
    what they say of themselves, and `reason` why an image cannot be used, empty where it can.
    """

    images: NDArray[np.float32]
    rows: NDArray[np.int64]
    pixels: NDArray[np.str_]
    modality: NDArray[np.str_]
    body_part: NDArray[np.str_]
    reason: NDArray[np.str_]

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these rows are in the arrays."""
        return np.searchsorted(self.rows, rows)

    @property
    def rejected(self) -> tuple[RejectedRow, ...]:
        """Rows whose image cannot be used."""
        bad = np.flatnonzero(self.reason != "")
        return tuple(RejectedRow(int(self.rows[at]), str(self.reason[at])) for at in bad)


def prepare_images(dataset: ImageDataset, taken: InputFormat, folder: Path, *, progress: Progress) -> PreparedImages:
    """Prepare every row's image into a folder of its own under `folder`, or open what is there of the same data."""
    known = hashlib.sha256(f"{dataset.digest} {dataset.rows.tolist()} {taken}".encode()).hexdigest()[:16]
    place = folder / known
    if not place.exists():
        part = folder / f".unfinished.{known}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(dataset, taken, part, progress)
        part.replace(place)
    with np.load(place / FACTS, allow_pickle=False) as facts:
        return PreparedImages(images=np.load(place / IMAGES, mmap_mode="r"), rows=dataset.rows, **facts)


def _write(dataset: ImageDataset, taken: InputFormat, folder: Path, progress: Progress) -> None:
    """The images that can be used, and what was found of all."""
    n = len(dataset)
    shape = (n, taken.channels, *taken.size)
    images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.float32, shape=shape)
    facts: dict[str, list[str]] = {name: [""] * n for name in ("pixels", "modality", "body_part", "reason")}
    for number, (_, found) in enumerate(dataset.images.volumes(dataset.places.tolist())):
        if isinstance(found, str):
            facts["reason"][number] = found
        else:
            facts["pixels"][number] = pixel_digest(found)
            facts["modality"][number], facts["body_part"][number] = found.modality, found.body_part
            facts["reason"][number] = _prepared_into(images[number], found, taken)
        if (number + 1) % EVERY == 0 or number + 1 == n:
            progress("preparing images", number + 1, n)
    images.flush()
    with (folder / FACTS).open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: np.array(values, dtype=str) for name, values in facts.items()})


def _prepared_into(place: NDArray[np.float32], volume: Volume, taken: InputFormat) -> str:
    """Fill `place` with the prepared image; why not, where it cannot be."""
    if np.ptp(volume.voxels) == 0:
        return "all its pixels have one value"
    try:
        image = prepare(volume, taken)
    except InputError as error:
        return str(error)
    except Exception as error:  # one image that nobody foresaw is no reason to lose the others
        return f"it cannot be prepared ({type(error).__name__})"
    if not np.isfinite(image).all():
        return "its values are not finite"
    place[...] = image
    return ""


def pixel_digest(volume: Volume) -> str:
    """The same for the same values in the same places, whatever type and file they are stored in."""
    values = np.ascontiguousarray(volume.voxels, dtype=np.float32)
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:32]
