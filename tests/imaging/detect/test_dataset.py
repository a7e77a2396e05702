"""Tables of images and boxes: columns, splits, refusals, and tables of segmentation data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from detection_blobs import affine, blob_image, write_blobs

from careloop import InputError
from careloop.imaging.detect.dataset import boxes_table, open_table
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.nifti import write_nifti


def write_rows(folder: Path, rows: dict[str, list]) -> Path:
    pl.DataFrame(rows).write_csv(folder / "table.csv")
    return folder / "table.csv"


def test_boxes_of_pictures_and_of_volumes(tmp_path: Path) -> None:
    flat = open_table(write_blobs(tmp_path / "flat", (3, 1, 1), (20, 24)))
    assert [len(flat.of(split)) for split in ("train", "tuning", "held_out")] == [3, 1, 1]
    assert flat.labels == ("ball",)
    volume, boxes = flat.read(flat.cases[2])
    assert volume.voxels.shape == (1, 20, 24)
    assert boxes[:, [1, 2, 4, 5]] == pytest.approx(blob_image(2, (20, 24))[1])
    assert boxes[:, [0, 3]].tolist() == [[0, 1]] * 2
    assert len(flat.read(flat.cases[0])[1]) == 0
    solid = open_table(write_blobs(tmp_path / "solid", (2, 1, 1), (12, 20, 24)))
    assert solid.read(solid.cases[1])[1] == pytest.approx(blob_image(1, (12, 20, 24))[1])


def test_spheres_in_the_patient_as_luna16_has_them(tmp_path: Path) -> None:
    write_nifti(Volume(np.zeros((8, 10, 10), np.float32), affine(), "CT"), tmp_path / "a.nii.gz")
    rows = {"image": ["a.nii.gz"], "subject_id": ["p"], "x_mm": [-15.0], "y_mm": [34.0], "z_mm": [106.0]}
    dataset = open_table(write_rows(tmp_path, rows | {"diameter_mm": [4.0], "split": ["train"]}))
    assert dataset.read(dataset.cases[0])[1] == pytest.approx(np.array([[2.5, 2.5, 3.5, 4.5, 6.5, 7.5]]))
    assert dataset.labels == ("finding",)


def test_without_a_split_subjects_are_split_and_nobody_is_in_two(tmp_path: Path) -> None:
    path = write_blobs(tmp_path, (20, 0, 0), (20, 24))
    rows = pl.read_csv(path).drop("split").with_columns(subject_id=pl.col("image").str.slice(0, 2))
    rows.write_csv(path)
    dataset = open_table(path, seed=3)
    owners = [{case.subject for case in dataset.of(split)} for split in ("train", "tuning", "held_out")]
    assert len(owners[0] | owners[1] | owners[2]) == sum(map(len, owners)) == 2
    assert dataset.digest == open_table(path, seed=3).digest


def test_what_a_table_must_not_say(tmp_path: Path) -> None:
    path = write_blobs(tmp_path, (3, 1, 1), (20, 24))
    good = pl.read_csv(path)
    for change, message in (
        (good.drop("row_low"), "must have image"),
        (good.with_columns(row_low=None), "whole or empty"),
        (good.with_columns(split=pl.lit("test")), "split must be"),
        (good.with_columns(subject_id=pl.lit("one")), "more than one split"),
        (good.with_columns(image=pl.lit("gone.png")), "does not exist"),
        (good.head(1), "no box at all"),
    ):
        change.write_csv(path)
        with pytest.raises(InputError, match=message):
            open_table(path)


def test_table_of_a_segmentation_data_set(tmp_path: Path) -> None:
    labels = np.zeros((6, 12, 12), np.uint8)
    labels[1:3, 2:5, 2:6], labels[4, 8:10, 8:10], labels[0, 0, 0] = 2, 2, 1
    for number, values in enumerate((labels, np.where(labels == 2, 0, labels))):
        segments = (Segment(1, "lung"), Segment(2, "nodule"))
        image = Volume(values.astype(np.float32), affine(), "CT")
        write_nifti(image, tmp_path / "imagesTr" / f"c{number}_0000.nii.gz")
        write_nifti(LabelMap(values, affine(), segments), tmp_path / "labelsTr" / f"c{number}.nii.gz")
    document = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lung": 1, "nodule": 2}, "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(document | {"file_ending": ".nii.gz"}))
    dataset = open_table(boxes_table(tmp_path, tmp_path / "boxes.csv", structure="nodule"))
    boxes = [dataset.read(case)[1].tolist() for case in dataset.cases]
    assert boxes == [[[1, 2, 2, 3, 5, 6], [4, 8, 8, 5, 10, 10]], []]
    with pytest.raises(InputError, match="no structure 'liver'"):
        boxes_table(tmp_path, tmp_path / "boxes.csv", structure="liver")
