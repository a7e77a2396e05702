"""From a folder to a model folder: it learns, a killed training goes on to the same weights, the folder is complete."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.evaluate.segmentation import dice
from careloop.imaging.learn import TrainingSettings, train_segmentation
from careloop.imaging.learn.course import table
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.segment.formats.trained import read_trained
from careloop.imaging.segment.run import RunSettings, segment

QUICK = TrainingSettings(epochs=4, steps=40, device="cpu", threads=1, seed=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory, shapes) -> Path:
    folder = shapes.write(tmp_path_factory.mktemp("data"), cases=6)
    shapes.write_case(folder, "unlabelled", *(np.zeros_like(a) for a in shapes.ball_and_box(0)))
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train_segmentation(data, tmp_path_factory.mktemp("model") / "out", settings=QUICK)


def test_it_learns_what_an_unseen_image_shows(trained, shapes, tmp_path) -> None:
    image, labels = shapes.ball_and_box(99)
    shapes.write_case(tmp_path, "new", image, labels)
    volume = read_volume(tmp_path / "imagesTr" / "new_0000.nii.gz", choice=Choice(modality="CT"))
    found = segment([volume], read_trained(trained.folder), settings=RunSettings(device="cpu", threads=1))
    assert dice(labels == 2, found.label_map.labels == 2) > 0.9
    assert dice(labels == 1, found.label_map.labels == 1) > 0.4
    assert [segment.name for segment in found.label_map.segments] == ["ball", "box"]


def test_the_folder_says_how_the_model_came_about(trained) -> None:
    assert {path.name for path in trained.folder.iterdir()} == {
        "model.json", "weights.safetensors", "plan.json", "learning_curve.json",
    }  # fmt: skip
    said = json.loads((trained.folder / "model.json").read_text())
    assert said["warning"].startswith("Not for clinical use")
    assert said["training"]["cases"] == 5
    assert said["training"]["rejected cases"] == 1
    assert said["training"]["data"] == "shapes: Simulated balls and boxes."
    assert said["validation"]["cases"] == 1
    assert said["validation"]["dice"]["box"]["value"] > 0.9
    assert "an interval needs 5" in said["validation"]["dice"]["box"]["reason"]
    assert "case" not in json.dumps(said["training"]).replace("cases", "")
    assert [score.epoch for score in trained.curve] == [0, 1, 2, 3]
    assert trained.curve[-1].training_loss < trained.curve[0].training_loss
    assert trained.course.rejected[0].case == "unlabelled"
    assert dict(table(trained.course))["cases"] == "5 to train on, 1 to validate on"


def test_a_finished_training_is_returned_as_it_is(trained, data) -> None:
    before = (trained.folder / "weights.safetensors").stat().st_mtime_ns
    again = train_segmentation(data, trained.folder, settings=QUICK)
    assert again.model == trained.model
    assert again.curve == trained.curve
    assert (trained.folder / "weights.safetensors").stat().st_mtime_ns == before


def test_other_settings_or_data_need_another_folder(trained, data, shapes, tmp_path) -> None:
    with pytest.raises(InputError, match="holds a training with other settings or of other data"):
        train_segmentation(data, trained.folder, settings=QUICK.model_copy(update={"seed": 2}))
    with pytest.raises(InputError, match="holds a training with other settings or of other data"):
        train_segmentation(shapes.write(tmp_path, cases=3), trained.folder, settings=QUICK)


def test_a_killed_training_goes_on_to_the_same_weights(trained, data, tmp_path) -> None:
    command = [sys.executable, Path(__file__).with_name("killed_training.py"), data, tmp_path, QUICK.model_dump_json()]
    killed = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "training" / "checkpoint.pt").exists()
    assert not (tmp_path / "model.json").exists()
    train_segmentation(data, tmp_path, settings=QUICK)
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / name).read_bytes() == (trained.folder / name).read_bytes()
    curves = [json.loads((folder / "learning_curve.json").read_text()) for folder in (tmp_path, trained.folder)]
    assert [score["dice"] for score in curves[0]] == [score["dice"] for score in curves[1]]


def test_pictures_and_regions(shapes, tmp_path) -> None:
    """One slice an image, a structure inside another, and voxels that nobody labelled."""
    for number in range(4):
        image, labels = shapes.ball_and_box(number, (1, 32, 32))
        labels[:, :2] = 3
        shapes.write_case(tmp_path / "data", f"case{number}", image, labels)
    labels = {"background": 0, "any": [1, 2], "box": [2], "ignore": 3}
    shapes.write_dataset_json(tmp_path / "data", labels=labels, regions_class_order=[1, 2])
    settings = QUICK.model_copy(update={"epochs": 6, "steps": 20})
    trained = train_segmentation(tmp_path / "data", tmp_path / "out", settings=settings)
    assert len(trained.model.tiling.patch) == 2
    assert trained.model.decision == "regions"
    assert trained.model.validation["dice"]["any"]["value"] > 0.8
    assert trained.model.validation["dice"]["box"]["value"] > 0.8


def test_minutes_decide_the_number_of_epochs(data, tmp_path) -> None:
    settings = QUICK.model_copy(update={"epochs": None, "minutes": 0.02})
    trained = train_segmentation(data, tmp_path, settings=settings)
    assert trained.course.epochs >= 1
    assert len(trained.curve) <= trained.course.epochs
