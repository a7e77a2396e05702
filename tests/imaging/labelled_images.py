"""Made-up images with something bright at the left or the right, as a MedMNIST file or as a table of files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SPLITS = {"train": 120, "val": 80, "test": 60}


def left_or_right(n: int, seed: int, size: tuple[int, ...] = (12, 12)) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, *size), uint8, with a bright block in noise, and whether it is at the right (n,)."""
    random = np.random.default_rng(seed)
    images, right = random.normal(90, 25, (n, *size)), random.integers(0, 2, n)
    half, low = size[-1] // 2, [int(s) // 3 for s in size[:-1]]
    for image, side in zip(images, right, strict=True):
        start = [int(random.integers(0, s - 3)) for s in size[:-1]] if low else []
        column = int(random.integers(0, half - 3)) + half * side
        image[(*(slice(s, s + 4) for s in start), slice(column, column + 3))] += 70
    return np.clip(images, 0, 255).astype(np.uint8), right


def write_medmnist(path: Path, arrays: Mapping[str, np.ndarray] | None = None, **changes: np.ndarray) -> Path:
    """A file of MedMNIST; changes replace arrays of it."""
    made: dict[str, np.ndarray] = {}
    for seed, (name, n) in enumerate(SPLITS.items()):
        images, right = left_or_right(n, seed)
        made |= {f"{name}_images": images, f"{name}_labels": right[:, None].astype(np.uint8)}
    np.savez_compressed(path, **(dict(arrays) if arrays is not None else made | changes))
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV file with the keys of the first row as columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """A PNG file."""
    from PIL import Image

    Image.fromarray(pixels).save(path)
    return path
