"""Cases that are read and checked: one bad case is named and left out; intensities and axes of the others."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.learn.dataset import open_dataset
from careloop.imaging.learn.fingerprint import check_cases, fingerprint


def silent(what: str, done: int, total: int) -> None:
    """Nobody listens."""


def test_bad_cases_are_named_and_the_others_stay(tmp_path, shapes) -> None:
    image, labels = shapes.ball_and_box(0)
    shapes.write_case(tmp_path, "a_good", image, labels)
    shapes.write_case(tmp_path, "b_undeclared", image, np.where(labels == 1, 7, labels).astype(np.uint8))
    shapes.write_case(tmp_path, "c_empty", image, np.zeros_like(labels))
    shapes.write_case(tmp_path, "d_damaged", image, labels)
    (tmp_path / "imagesTr" / "d_damaged_0000.nii.gz").write_bytes(b"no image")
    shapes.write_case(tmp_path, "e_elsewhere", image, labels)
    moved = shapes.affine()
    moved[0, 3] = 3.0
    shapes.write_case(tmp_path, "moved", image, labels, place=moved)
    (tmp_path / "imagesTr" / "moved_0000.nii.gz").rename(tmp_path / "imagesTr" / "e_elsewhere_0000.nii.gz")
    (tmp_path / "labelsTr" / "moved.nii.gz").unlink()
    shapes.write_dataset_json(tmp_path)
    heard = []
    kept, facts = check_cases(open_dataset(tmp_path), seed=0, progress=lambda *said: heard.append(said))
    assert [case.name for case in kept.cases] == [fact.case for fact in facts] == ["a_good"]
    reasons = {rejected.case: rejected.reason for rejected in kept.rejected}
    assert "has the label 7, which dataset.json does not declare" in reasons["b_undeclared"]
    assert "labels no voxel" in reasons["c_empty"]
    assert "d_damaged" in reasons["d_damaged"]
    assert "up to 3 mm apart" in reasons["e_elsewhere"]
    assert heard[-1] == ("checking cases", 5, 5)


def test_nothing_is_left_to_train_on(tmp_path, shapes) -> None:
    image, labels = shapes.ball_and_box(0)
    shapes.write_case(tmp_path, "a", image, np.zeros_like(labels))
    shapes.write_dataset_json(tmp_path)
    with pytest.raises(InputError, match=r"no case of .* can be used; the first: a: "):
        check_cases(open_dataset(tmp_path), seed=0, progress=silent)


def test_intensities_are_those_of_the_structures_and_axes_are_told(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=2)
    image, labels = shapes.ball_and_box(0)
    place = shapes.affine() @ np.diag([-1.0, 1.0, 1.0, 1.0])
    shapes.write_case(tmp_path, "down", image, labels, place=place)
    shapes.write_case(
        tmp_path,
        "sagittal",
        image.transpose(2, 0, 1),
        labels.transpose(2, 0, 1),
        place=shapes.affine()[:, [2, 0, 1, 3]],
    )
    dataset, facts = check_cases(open_dataset(tmp_path), seed=0, progress=silent)
    seen = fingerprint(facts)
    assert seen.axes == {"SPL": 2, "IPL": 1, "LSP": 1}
    assert set(seen.spacings_mm) == {(2.0, 1.0, 1.0)}
    assert set(seen.shapes) == {(16, 32, 32)}
    assert not dataset.rejected
    cases = [shapes.ball_and_box(seed) for seed in (0, 1, 0, 0)]
    values = np.concatenate([image[labels > 0] for image, labels in cases])
    assert seen.intensities[0].mean == pytest.approx(values.mean(), rel=1e-3)
    assert seen.intensities[0].sd == pytest.approx(values.std(), rel=1e-3)
    assert seen.intensities[0].low == pytest.approx(np.percentile(values, 0.5), abs=2)
    assert seen.label_voxels[2] == sum(int((labels == 2).sum()) for _, labels in cases)


def test_zeros_around_the_image_do_not_count_as_image(tmp_path, shapes) -> None:
    image, labels = shapes.ball_and_box(0)
    image[:, :3], image[:, 30:] = 0, 0
    shapes.write_case(tmp_path, "a", image, labels)
    shapes.write_dataset_json(tmp_path)
    _, facts = check_cases(open_dataset(tmp_path), seed=0, progress=silent)
    assert facts[0].shape == (16, 27, 32)
    assert facts[0].kept == pytest.approx(27 / 32)
