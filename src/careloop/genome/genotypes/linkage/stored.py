"""Linkage on disk: one compressed NumPy archive, correlations in 16 bits."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.linkage.linkage import Linkage
from careloop.genome.genotypes.source import VARIANTS
from careloop.record.whole_file import whole_file

FORMAT = "careloop linkage 1"
_STEPS = 32_767  # r is kept as a whole number of these parts of 1


def write_linkage(linkage: Linkage, path: Path) -> Path:
    """Write linkage as one compressed NumPy archive (.npz), r in 16 bits (within 2e-5); whole or not at all.

    Raises:
        InputError: the name does not end in .npz.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: linkage is written to a file that ends in .npz")
    upper = [np.rint(block[np.triu_indices(len(block), 1)] * _STEPS).astype(np.int16) for block in linkage.blocks]
    columns: dict[str, Any] = {f"variants_{name}": _plain(linkage.variants[name]) for name in VARIANTS}
    with whole_file(path) as draft:
        np.savez_compressed(
            draft,
            format=np.array(FORMAT),
            sizes=np.array([len(block) for block in linkage.blocks]),
            r=np.concatenate(upper),
            frequency=linkage.frequency,
            spread=linkage.spread,
            people=np.array(linkage.people),
            parted=np.array(linkage.parted),
            build=np.array(linkage.build or ""),
            **columns,
        )
    return path


def read_linkage(path: Path) -> Linkage:
    """Read what `write_linkage` wrote.

    Raises:
        InputError: no such file, or it is none of these or not whole.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["format"]) != FORMAT:
                raise InputError(f"{path}: linkage in a format of another version; make it again")
            variants = pl.DataFrame({name: stored[f"variants_{name}"] for name in VARIANTS}, schema=VARIANTS)
            matrices = _whole(stored["r"], stored["sizes"])
            figures = (stored["frequency"], stored["spread"])
            people, parted, build = int(stored["people"]), float(stored["parted"]), str(stored["build"]) or None
            return Linkage(variants, *figures, matrices, people, parted, build)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: this is no file of linkage, or not whole: {error}; make it again") from error


def _plain(column: pl.Series) -> NDArray[Any]:
    """Text as an array of fixed width, which is read without unpickling."""
    return column.to_numpy().astype(str) if column.dtype == pl.String else column.to_numpy()


def _whole(upper: NDArray[np.int16], sizes: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
    matrices, at = [], 0
    for size in sizes.tolist():
        count = size * (size - 1) // 2
        block = np.eye(size, dtype=np.float32)
        places_above = np.triu_indices(size, 1)
        block[places_above] = upper[at : at + count] / np.float32(_STEPS)
        block.T[places_above] = block[places_above]
        matrices.append(block)
        at += count
    return tuple(matrices)
