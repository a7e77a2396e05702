"""Made-up images with bright balls in noise, as files with a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from careloop.imaging.detect.dataset import FLAT, SOLID
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti

SPLITS = ("train", "tuning", "held_out")


def affine(spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> np.ndarray:
    """Slices towards the head, rows towards the back, columns towards the left; not at the origin."""
    made = np.zeros((4, 4))
    made[[2, 1, 0, 3], [0, 1, 2, 3]] = (*spacing_mm, 1.0)
    made[:3, 3] = (-20.0, 30.0, 100.0)
    return made


def blob_image(seed: int, shape: tuple[int, ...], *, most: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Noise of standard deviation 1 with 0 to `most` balls of height 6, and their boxes (k, 2 d)."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal(shape)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    boxes = []
    for number in range(seed % (most + 1)):
        radius = rng.uniform(3.0, 4.5)
        centre = [rng.uniform(radius + 1, size - radius - 1) for size in shape]
        centre[-1] = centre[-1] / most + number * shape[-1] / most
        centre[-1] = float(np.clip(centre[-1], radius, shape[-1] - radius))
        far = sum((axis + 0.5 - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        image += 6.0 * (far < radius**2)
        boxes.append([*np.subtract(centre, radius), *np.add(centre, radius)])
    return image, np.array(boxes).reshape(-1, 2 * len(shape))


def write_blobs(folder: Path, counts: tuple[int, int, int], shape: tuple[int, ...]) -> Path:
    """Images of three splits and table.csv; pictures are PNG, volumes NIfTI."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, number = [], 0
    for split, count in zip(SPLITS, counts, strict=True):
        for _ in range(count):
            image, boxes = blob_image(number, shape)
            grey = np.clip(image * 16 + 80, 0, 255)
            name = f"{number:03d}.png" if len(shape) == 2 else f"{number:03d}.nii.gz"
            if len(shape) == 2:
                Image.fromarray(grey.astype(np.uint8)).save(folder / name)
            else:
                write_nifti(Volume(grey.astype(np.float32), affine(), "CT"), folder / name)
            about = [name, f"s{number}", split, "ball"]
            rows += [[*about, *box] for box in boxes.tolist()] or [[*about, *[""] * 2 * len(shape)]]
            number += 1
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject_id", "split", "label", *(FLAT if len(shape) == 2 else SOLID)])
        writer.writerows(rows)
    return folder / "table.csv"
