"""Small made-up data sets: bright balls and boxes in noise, in nnU-Net's raw layout."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.nifti import write_nifti

LABELS = {"background": 0, "ball": 1, "box": 2}


def affine(spacing_mm=(2.0, 1.0, 1.0)) -> np.ndarray:
    """Slices towards the head, rows towards the back, columns towards the left."""
    made = np.zeros((4, 4))
    made[[2, 1, 0, 3], [0, 1, 2, 3]] = (*spacing_mm, 1.0)
    return made


def ball_and_box(seed: int, shape=(16, 32, 32)) -> tuple[np.ndarray, np.ndarray]:
    """An image (float32) with a ball at 150 and a box at 300 in noise around 50, and its labels."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    half = shape[2] // 2
    centre = (shape[0] / 2 + random.uniform(-1, 1), shape[1] / 2 + random.uniform(-3, 3), half / 2)
    radius = random.uniform(4.5, 6.5)
    labels = np.zeros(shape, np.uint8)
    depth = 0 if shape[0] == 1 else ((z - centre[0]) * 2) ** 2
    labels[depth + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2] = 1
    low = int(random.integers(4, shape[1] // 2))
    labels[slice(None) if shape[0] == 1 else slice(3, -3), low : low + 9, half + 4 : half + 12] = 2
    image = np.choose(labels, (50.0, 150.0, 300.0)) + random.normal(0, 20, shape)
    return image.astype(np.float32), labels


def write_case(
    folder: Path, name: str, image: np.ndarray, labels: np.ndarray, *, place: np.ndarray | None = None
) -> None:
    """One case's two files."""
    place = affine() if place is None else place
    segments = (Segment(1, "ball"), Segment(2, "box"))
    write_nifti(Volume(image, place), folder / "imagesTr" / f"{name}_0000.nii.gz")
    write_nifti(LabelMap(labels, place, segments), folder / "labelsTr" / f"{name}.nii.gz")


def write_dataset_json(folder: Path, **changes: object) -> None:
    """dataset.json of nnU-Net v2, with changes; a change to None leaves the key out."""
    document = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 0, "file_ending": ".nii.gz"}
    document |= {"name": "shapes", "description": "Simulated balls and boxes."} | changes
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


def write_shapes(folder: Path, cases: int = 6, shape=(16, 32, 32)) -> Path:
    """A whole data set."""
    for number in range(cases):
        write_case(folder, f"case{number}", *ball_and_box(number, shape))
    write_dataset_json(folder)
    return folder


@pytest.fixture(scope="session")
def shapes() -> SimpleNamespace:
    """The functions of this file, for tests."""
    return SimpleNamespace(
        labels=LABELS,
        affine=affine,
        ball_and_box=ball_and_box,
        write_case=write_case,
        write_dataset_json=write_dataset_json,
        write=write_shapes,
    )
