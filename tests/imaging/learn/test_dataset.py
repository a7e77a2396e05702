"""Data sets on disk: nnU-Net's and the Decathlon's layout, splits by subject, and what dataset.json must not say."""

from __future__ import annotations

import json

import pytest

from careloop import InputError
from careloop.imaging.learn.dataset import Case, open_dataset, split_cases


def test_cases_of_nnunet_s_layout_with_what_is_missing(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=3)
    (tmp_path / "labelsTr" / "case1.nii.gz").unlink()
    found = open_dataset(tmp_path)
    assert [case.name for case in found.cases] == ["case0", "case2"]
    assert [(r.case, r.reason) for r in found.rejected] == [("case1", "case1.nii.gz is missing")]
    assert found.channels == ("CT",)
    assert (found.labels.names, found.labels.numbers, found.labels.outputs) == (("ball", "box"), ((1,), (2,)), 3)


def test_every_channel_must_be_there(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=2)
    shapes.write_dataset_json(tmp_path, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(InputError, match=r"no case with all its images and labels \(2 are incomplete\)"):
        open_dataset(tmp_path)


def test_paths_may_be_listed(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=1)
    listed = {"a": {"images": ["imagesTr/case0_0000.nii.gz"], "label": "labelsTr/case0.nii.gz"}}
    shapes.write_dataset_json(tmp_path, dataset=listed)
    (case,) = open_dataset(tmp_path).cases
    assert case == Case("a", (tmp_path / "imagesTr/case0_0000.nii.gz",), tmp_path / "labelsTr/case0.nii.gz", "a")


def test_the_decathlon_s_layout(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=2)
    for path in (tmp_path / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    document = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "ball", "2": "box"},
        "training": [{"image": f"./imagesTr/case{i}.nii.gz", "label": f"./labelsTr/case{i}.nii.gz"} for i in range(2)],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    found = open_dataset(tmp_path)
    assert [case.name for case in found.cases] == ["case0", "case1"]
    assert found.labels.names == ("ball", "box")
    (tmp_path / "dataset.json").write_text(json.dumps(document | {"modality": {"0": "T1", "1": "T2"}}))
    with pytest.raises(InputError, match="2 channels in one file"):
        open_dataset(tmp_path)


def test_regions_and_an_ignore_label(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=1)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    shapes.write_dataset_json(tmp_path, labels=labels, regions_class_order=[1, 2])
    found = open_dataset(tmp_path).labels
    assert found.is_regions
    assert (found.names, found.numbers, found.written, found.ignore) == (("whole", "core"), ((1, 2), (2,)), (1, 2), 3)
    assert found.outputs == 2
    assert found.declared == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "a": 1, "b": 3}, r"without gaps, got \[1, 3\]"),
        ({"a": 1}, "must have 'background' with number 0"),
        ({"background": 0, "a": 1, "ignore": 5}, "'ignore' must be the highest label, 2"),
        ({"background": 0, "a": [1, 2], "b": 2}, "need regions_class_order"),
        ({"background": 0, "a": "x"}, "must be whole numbers"),
        ({"background": 0, "a": 1, "b": 1}, "need regions_class_order"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(tmp_path, shapes, labels, message) -> None:
    shapes.write_case(tmp_path, "case0", *shapes.ball_and_box(0))
    shapes.write_dataset_json(tmp_path, labels=labels)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_a_folder_without_dataset_json_or_with_a_damaged_one(tmp_path, shapes) -> None:
    with pytest.raises(InputError, match=r"has no dataset.json"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        open_dataset(tmp_path)
    shapes.write_dataset_json(tmp_path, labels=None)
    with pytest.raises(InputError, match="must have channel_names and labels"):
        open_dataset(tmp_path)


def test_splits_keep_a_subject_together(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=8)
    rows = "".join(f"case{i},{i // 2}\n" for i in range(7))
    (tmp_path / "subjects.csv").write_text("case,subject\n" + rows)
    found = open_dataset(tmp_path)
    assert [(r.case, r.reason) for r in found.rejected] == [("case7", "subjects.csv does not say whom it is of")]
    for seed in range(10):
        training, validation = split_cases(found.cases, seed=seed)
        assert len(training) + len(validation) == 7
        assert validation
        assert not {c.subject for c in training} & {c.subject for c in validation}
    assert split_cases(found.cases, seed=1) == split_cases(found.cases, seed=1)
    with pytest.raises(InputError, match="at least 2 subjects, got 1"):
        split_cases(found.cases[:2], seed=0)


def test_the_digest_changes_with_labels_subjects_and_files(tmp_path, shapes) -> None:
    shapes.write(tmp_path, cases=2)
    before = open_dataset(tmp_path).digest
    assert open_dataset(tmp_path).digest == before
    shapes.write_dataset_json(tmp_path, labels={"background": 0, "box": 1, "ball": 2})
    other = open_dataset(tmp_path).digest
    assert other != before
    shapes.write_dataset_json(tmp_path, labels=shapes.labels)
    shapes.write_case(tmp_path, "case1", *shapes.ball_and_box(9))
    assert open_dataset(tmp_path).digest not in {before, other}
