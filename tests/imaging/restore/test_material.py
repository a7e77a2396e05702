"""Planes to learn restoration from: read, scaled, and apart by patient."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from careloop import InputError
from careloop.imaging.restore.material import Material, read_material

SILENT = lambda what, done, total: None  # noqa: E731


def save(folder: Path, name: str, seed: int, slices: int = 3) -> None:
    values = np.random.default_rng(seed).random((40, 48, slices), dtype=np.float32) * 100
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / name)


def test_images_of_a_folder_are_read_and_bad_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    save(tmp_path, "a.nii.gz", 0)
    save(tmp_path / "sub", "b.nii", 1)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60)).astype(np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
    material = read_material(tmp_path, modality="MR", progress=SILENT)
    assert len(material.planes) == 3 + 3 + 1
    assert len(set(material.subjects)) == 3
    assert {left.image for left in material.left} == {"broken.nii.gz", "small.png"}
    assert material.modalities == ("MR",)
    assert all(plane.min() >= 0 and np.percentile(plane, 90) <= 1 for plane in material.planes)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("nothing here")
    with pytest.raises(InputError, match="must hold images to learn from"):
        read_material(tmp_path, progress=SILENT)


def test_no_subject_is_in_both_parts() -> None:
    planes = tuple(np.zeros((32, 32), np.float32) for _ in range(40))
    material = Material(planes, tuple(k // 4 for k in range(40)), (1.0,) * 40)
    training, held = material.split(seed=3)
    assert sorted(training + held) == list(range(40))
    assert {k // 4 for k in training} & {k // 4 for k in held} == set()
    assert held


def test_one_subject_alone_is_trained_on() -> None:
    material = Material((np.zeros((32, 32), np.float32),) * 3, (0, 0, 0), (1.0,) * 3)
    assert material.split(seed=0) == ([0, 1, 2], [])
