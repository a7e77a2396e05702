"""Files of MedMNIST: every published shape is read as it is, a place at a time, and nothing in them is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_images import write_medmnist

from careloop import InputError
from careloop.imaging.classify.data import open_images
from careloop.imaging.volume import Volume


def file_with(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """The same images and labels, turned round, in each of the three splits."""
    arrays = {}
    for at, name in enumerate(("train", "val", "test")):
        arrays |= {f"{name}_images": np.roll(images, at, axis=0), f"{name}_labels": np.roll(labels, at, axis=0)}
    return write_medmnist(path, arrays)


@pytest.mark.parametrize(
    ("shape", "voxels"),
    [
        ((5, 9, 7), (1, 9, 7)),
        ((5, 9, 7, 1), (1, 9, 7)),
        ((5, 9, 7, 3), (1, 9, 7, 3)),
        ((5, 8, 9, 7), (8, 9, 7)),
        ((5, 8, 9, 7, 3), (8, 9, 7, 3)),
    ],
)
def test_images_of_every_shape_are_what_the_file_holds(tmp_path, shape, voxels) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    dataset = open_images(file_with(tmp_path / "a.npz", images, np.array([[0], [1], [2], [1], [0]], np.uint8)))
    found = dict(dataset.images.volumes([1, 3, 4, 7, 14]))
    whole = np.concatenate([np.roll(images, at, axis=0) for at in range(3)])
    assert list(found) == [1, 3, 4, 7, 14]
    for place, volume in found.items():
        assert isinstance(volume, Volume)
        assert volume.voxels.shape == voxels
        np.testing.assert_array_equal(volume.voxels.ravel(), whole[place].ravel())


def test_labels_and_official_splits(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6)).astype(np.uint8)
    dataset = open_images(file_with(tmp_path / "a.npz", images, np.array([[2], [0], [1]])), names=("a", "b", "c"))
    assert dataset.labels.names == ("a", "b", "c")
    assert dataset.labels.kind == "single"
    assert dataset.target[:3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert dataset.split.tolist() == ["train"] * 3 + ["tuning"] * 3 + ["held_out"] * 3
    assert dataset.one_image_each
    assert "does not say whose" in dataset.notes[0]


def test_several_labels_and_a_row_that_holds_neither_0_nor_1(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6)).astype(np.uint8)
    labels = np.array([[1, 0], [1, 1], [0, 1]])
    path = file_with(tmp_path / "a.npz", images, labels)
    assert open_images(path).labels.kind == "multi"
    labels[1, 0] = 7
    dataset = open_images(file_with(tmp_path / "b.npz", images, labels))
    assert len(dataset) == 6
    assert [row.row for row in dataset.rejected] == [2, 6, 7]


class Trap:
    """Tells when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_pickled_arrays_are_refused_and_never_opened(tmp_path) -> None:
    write_medmnist(tmp_path / "a.npz", test_labels=np.array([[Trap()]], dtype=object))
    with pytest.raises(InputError, match="pickled objects, which are never opened"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": np.zeros((3, 1))}, "val_labels has 3 rows for 80 images"),
        ({"train_labels": np.full((120, 1), 0.5)}, "must be whole numbers"),
        ({"train_labels": np.full((120, 1), -1)}, "a number from 0"),
        ({"test_images": np.zeros((60, 12, 13), np.uint8)}, "one shape and type in all splits"),
        ({"test_images": np.asfortranarray(np.zeros((60, 12, 12), np.uint8))}, "stored by columns"),
        ({"train_images": np.zeros((120, 12), np.uint8)}, "must be numbers"),
        ({"train_images": np.full((120, 12, 12), "a")}, "must be numbers"),
    ],
)
def test_files_that_are_not_as_published_are_refused(tmp_path, change, message) -> None:
    with pytest.raises(InputError, match=message):
        open_images(write_medmnist(tmp_path / "a.npz", **change))


def test_damaged_files_are_refused_in_one_line(tmp_path) -> None:
    path = write_medmnist(tmp_path / "a.npz")
    content = path.read_bytes()
    for cut in (10, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match="cannot be read as a file of MedMNIST"):
            open_images(path)
    with pytest.raises(InputError, match="must have train_images and test_images"):
        open_images(write_medmnist(path, {"something": np.zeros(3)}))
    labels = np.array([[0], [1], [2]])
    with pytest.raises(InputError, match="got 2 names"):
        open_images(file_with(path, np.zeros((3, 6, 6), np.uint8), labels), names=("a", "b"))
