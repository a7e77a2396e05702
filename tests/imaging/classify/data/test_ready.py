"""Prepared images: the format follows the training images, bad images are set aside, and work is done once."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_images import left_or_right, write_medmnist, write_picture, write_table

from careloop import InputError
from careloop.imaging.classify.data import open_images
from careloop.imaging.classify.data.input_format import choose_format
from careloop.imaging.classify.data.prepared import pixel_digest
from careloop.imaging.classify.data.ready import ready_images
from careloop.imaging.classify.data.split import with_splits
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti


def silent(what: str, done: int, total: int) -> None:
    pass


def ready(path, folder, **changes):
    split = with_splits(open_images(path), seed=0)
    taken = choose_format(split.dataset, size=None)
    given = {"duplicates": "refuse", "seed": 0, "progress": silent} | changes
    return ready_images(split, taken, folder, **given), taken


def test_the_format_follows_training_images_alone(tmp_path) -> None:
    bright, _ = left_or_right(60, 2)
    path = write_medmnist(tmp_path / "a.npz", test_images=np.clip(bright.astype(int) + 100, 0, 255).astype(np.uint8))
    found, taken = ready(path, tmp_path / "work")
    assert taken.size == (12, 12)
    assert (taken.intensities.rule, taken.intensities.low, taken.intensities.high) == ("range", 0, 255)
    train = np.asarray(found.images[found.train])
    assert abs(train.mean()) < 0.01
    assert train.std() == pytest.approx(1, abs=0.01)
    assert found.images[found.held_out].mean() > 2


def test_parts_do_not_overlap_and_fit_their_rows(tmp_path) -> None:
    found, _ = ready(write_medmnist(tmp_path / "a.npz"), tmp_path / "work")
    parts = [found.train, found.tuning, found.conformal, found.held_out]
    assert [len(part) for part in parts] == [120, 40, 40, 60]
    assert len(np.unique(np.concatenate(parts))) == 260
    with np.load(tmp_path / "a.npz") as file:
        assert found.target[found.held_out].argmax(axis=1).tolist() == file["test_labels"][:, 0].tolist()
    assert found.subjects(found.held_out).tolist() == [str(row) for row in range(201, 261)]


def test_images_are_prepared_once(tmp_path) -> None:
    path, told = write_medmnist(tmp_path / "a.npz"), []
    for _ in range(2):
        ready(path, tmp_path / "work", progress=lambda *what: told.append(what))
    assert told[-1] == ("preparing images", 260, 260)
    assert told.count(told[-1]) == 1


def test_bad_images_are_set_aside_with_the_reason(tmp_path) -> None:
    rows = []
    for number, pixels in enumerate(left_or_right(40, 0)[0]):
        name = f"{number}.png"
        write_picture(tmp_path / name, np.full_like(pixels, 7) if number == 3 else pixels)
        rows.append({"image": name, "subject_id": number, "label": "ab"[number % 2]})
    (tmp_path / "5.png").write_bytes(b"no picture")
    write_nifti(
        Volume(np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32), np.eye(4)), tmp_path / "v.nii"
    )
    rows[8]["image"] = "v.nii"
    found, taken = ready(write_table(tmp_path / "t.csv", rows), tmp_path / "work")
    assert taken.dimensions == 2
    reasons = {row.row: row.reason for row in found.dataset.rejected}
    assert set(reasons) == {4, 6, 9}
    assert reasons[4] == "all its pixels have one value"
    assert "one slice, got 4" in reasons[9]
    assert 3 not in np.concatenate([found.train, found.tuning, found.conformal, found.held_out])


def test_volumes_in_hounsfield_units_get_a_window_and_are_turned_upright(tmp_path) -> None:
    random, rows = np.random.default_rng(0), []
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (4.0, 1.0, 1.0, 1.0)
    for number in range(30):
        voxels = random.normal(-200, 100, (5, 20, 16)).round().astype(np.int16)
        write_nifti(Volume(voxels, affine), tmp_path / f"{number}.nii")
        rows.append({"image": f"{number}.nii", "subject_id": number, "label": "ab"[number % 2], "modality": "CT"})
    found, taken = ready(write_table(tmp_path / "t.csv", rows), tmp_path / "work")
    assert taken.size == (20, 20, 16)  # slices are four times as far apart as rows
    assert taken.intensities.rule == "window"
    assert taken.intensities.low == pytest.approx(-200 - 2.576 * 100, abs=15)
    assert taken.orientation == "SPL"
    assert found.images.shape == (30, 1, 20, 20, 16)


def test_one_image_in_two_kinds_of_file_has_one_digest(tmp_path) -> None:
    pixels = left_or_right(1, 0)[0]
    volumes = [Volume(pixels, np.eye(4)), Volume(pixels.astype(np.int16), np.diag([2.0, 1, 1, 1]))]
    assert len({pixel_digest(volume) for volume in volumes}) == 1
    assert pixel_digest(Volume(pixels[:, ::-1], np.eye(4))) != pixel_digest(volumes[0])


def test_duplicates_are_found_by_their_pixels(tmp_path) -> None:
    images, _ = left_or_right(120, 0)
    held_out, _ = left_or_right(60, 2)
    held_out[7] = images[11]
    path = write_medmnist(tmp_path / "a.npz", test_images=held_out)
    with pytest.raises(InputError, match="rows 208 and 12"):
        ready(path, tmp_path / "work")
    found, _ = ready(path, tmp_path / "work", duplicates="leave out")
    assert len(found.held_out) == 59


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((120, 1), np.uint8), "no training row has the label 1"),
        (np.ones((120, 2), np.uint8), "every training row has the label 0, 1"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, labels, message) -> None:
    path = write_medmnist(tmp_path / "a.npz", train_labels=labels)
    if labels.shape[1] == 2:
        two = {name: np.eye(2, dtype=np.uint8)[np.arange(n) % 2] for name, n in (("val", 80), ("test", 60))}
        path = write_medmnist(path, train_labels=labels, val_labels=two["val"], test_labels=two["test"])
    with pytest.raises(InputError, match=message):
        ready(path, tmp_path / "work")
