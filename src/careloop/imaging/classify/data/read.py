"""Whichever lies at a path, a table or a MedMNIST file, as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from careloop import InputError
from careloop.imaging.classify.data.dataset import ImageDataset
from careloop.imaging.classify.data.medmnist import open_medmnist
from careloop.imaging.classify.data.table import SUFFIXES, Columns, open_table

NPZ = ".npz"


def open_images(
    path: Path, columns: Columns | None = None, *, names: Sequence[str] | None = None, modality: str = ""
) -> ImageDataset:
    """The data set at `path`; `columns` are for a table, `names` of labels and `modality` for a MedMNIST file.

    Raises:
        InputError: there is neither, or what is there cannot be used.
    """
    if path.suffix.lower() == NPZ:
        return open_medmnist(path, names=names, modality=modality)
    if path.suffix.lower() in SUFFIXES:
        return open_table(path, columns)
    raise InputError(
        f"{path} must be a table ({', '.join(SUFFIXES)}) of images and labels, or a file of MedMNIST ({NPZ})"
    )
