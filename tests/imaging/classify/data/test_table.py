"""Tables of images: blanks are unknown, whose an image is must be said, and one bad row stops no other."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from labelled_images import write_picture, write_table

from careloop import InputError
from careloop.imaging.classify.data import open_images
from careloop.imaging.classify.data.table import Columns
from careloop.imaging.volume import Volume


@pytest.fixture
def pictures(tmp_path):
    """Four pictures, a DICOM file, a damaged picture, and none at `missing.png`."""
    from pydicom.data import get_testdata_file

    random = np.random.default_rng(0)
    for name in "abcd":
        write_picture(tmp_path / f"{name}.png", random.integers(0, 256, (8, 9)).astype(np.uint8))
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), tmp_path / "ct.dcm")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    return tmp_path


def rows(**columns: list) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_one_label_a_row(pictures) -> None:
    table = rows(
        image=["a.png", "b.png", "ct.dcm", "missing.png", "c.png", "d.png"],
        label=["nodule", "normal", "nodule", "normal", "", "normal"],
        subject_id=["1", "2", "3", "4", "5", ""],
        view=["PA", "AP", "", "PA", "PA", "PA"],
    )
    dataset = open_images(write_table(pictures / "t.csv", table))
    assert dataset.labels.names == ("nodule", "normal")
    assert dataset.rows.tolist() == [1, 2, 3]
    assert dataset.target.argmax(axis=1).tolist() == [0, 1, 0]
    assert dataset.groups["view"].tolist() == ["PA", "AP", "missing"]
    reasons = {row.row: row.reason for row in dataset.rejected}
    assert reasons == {4: "there is no file at its path", 5: "it has no label", 6: "it has no subject_id"}
    found = dict(dataset.images.volumes([0, 2]))
    assert found[0].voxels.shape == (1, 8, 9)
    assert (found[2].modality, found[2].unit) == ("CT", "[hnsf'U]")


def test_blanks_of_several_labels_are_unknown(pictures) -> None:
    table = rows(
        image=["a.png", "b.png", "c.png", "d.png"],
        patient=["1", "1", "2", "3"],
        effusion=["1", "", "-1", ""],
        nodule=["0", "1", "1.0", ""],
        age=["70", "60", "50", "40"],
    )
    dataset = open_images(
        write_table(pictures / "t.csv", table), Columns(labels=("effusion", "nodule"), groups=("age",))
    )
    assert dataset.labels.kind == "multi"
    np.testing.assert_array_equal(dataset.target, [[1, 0], [np.nan, 1], [np.nan, 1]])
    assert [(row.row, row.reason) for row in dataset.rejected] == [(4, "none of its labels is known")]
    assert dataset.subject_id.tolist() == ["1", "1", "2"]
    with pytest.raises(InputError, match="column 'age' must hold 0, 1 or a blank"):
        open_images(pictures / "t.csv")


def test_a_cell_that_is_neither_0_nor_1_rejects_its_row_only(pictures) -> None:
    table = rows(image=["a.png"] * 12, subject_id=list("abcdefghijkl"), nodule=["1"] * 6 + ["0"] * 5 + ["yes?"])
    dataset = open_images(write_table(pictures / "t.csv", table))
    assert len(dataset) == 11
    assert dataset.rejected[0].row == 12


def test_whose_the_images_are_must_be_said(pictures) -> None:
    table = rows(image=["a.png", "b.png"], label=["x", "y"])
    path = write_table(pictures / "t.csv", table)
    with pytest.raises(InputError, match="no column subject_id or patient"):
        open_images(path)
    dataset = open_images(path, Columns(split_by="file"))
    assert dataset.one_image_each
    assert "figures may be too good" in dataset.notes[0]


def test_parquet_and_the_words_for_splits(pictures) -> None:
    frame = pl.DataFrame({
        "image": ["a.png", "b.png", "c.png", "d.png"],
        "subject_id": [1, 2, 3, 4],
        "label": [10, 2, 2, 10],
        "split": ["Training", "val", "test", "other"],
    })  # fmt: skip
    frame.write_parquet(pictures / "t.parquet")
    dataset = open_images(pictures / "t.parquet")
    assert dataset.labels.names == ("2", "10")
    assert dataset.split.tolist() == ["train", "tuning", "held_out"]
    assert "its split is none of" in dataset.rejected[0].reason


def test_an_image_that_cannot_be_read_says_so_without_its_path(pictures) -> None:
    table = rows(image=["a.png", "damaged.png"], subject_id=["1", "2"], label=["x", "y"])
    found = dict(open_images(write_table(pictures / "t.csv", table)).images.volumes([0, 1]))
    assert isinstance(found[0], Volume)
    assert "cannot be read as a picture" in found[1]
    assert str(pictures) not in found[1]


def test_another_file_under_the_same_name_is_another_data_set(pictures) -> None:
    path = write_table(pictures / "t.csv", rows(image=["a.png", "b.png"], subject_id=["1", "2"], label=["x", "y"]))
    before = open_images(path).digest
    assert open_images(path).digest == before
    write_picture(pictures / "a.png", np.zeros((3, 3), np.uint8))
    assert open_images(path).digest != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"image,label,subject_id\n", "has no rows"),
        (b"picture,label,subject_id\na,b,c\n", "must have a column 'image'"),
        (b"image,subject_id\na.png,1\n", "must have a column 'label'"),
        (b"image,subject_id,label\n\xff\xfe,1,2\n", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, message) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_images(tmp_path / "t.csv")
    with pytest.raises(InputError, match="must be a table"):
        open_images(tmp_path)
