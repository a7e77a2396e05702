"""What a training starts from: the settings first, then what pretrained weights state, then the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelled_images import write_medmnist

from careloop import InputError
from careloop.imaging.classify.data import open_images
from careloop.imaging.classify.data.split import with_splits
from careloop.imaging.classify.model import InputFormat, Intensities
from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.classify.start import Start, as_pretrained, start_of


@pytest.fixture
def timm(tmp_path) -> Path:
    """A folder of timm's ResNet-18, as its config.json states it."""
    stated = {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    folder = tmp_path / "timm"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": stated}))
    return folder


def start(tmp_path: Path, **settings: object) -> Start:
    dataset = with_splits(open_images(write_medmnist(tmp_path / "a.npz")), seed=0).dataset
    return start_of(ClassifierSettings(**settings), dataset)


def test_the_data_decide_where_nothing_is_asked_for(tmp_path) -> None:
    found = start(tmp_path)
    assert found.architecture == {"dimensions": 2, "name": "resnet-small"}
    assert (found.input.size, found.input.channels) == ((12, 12), 1)


def test_a_pretrained_folder_states_network_size_and_standardisation(tmp_path, timm) -> None:
    found = start(tmp_path, pretrained=timm)
    assert found.architecture["name"] == "resnet18"
    assert (found.input.size, found.input.channels) == ((224, 224), 3)
    assert found.input.mean == (0.485, 0.456, 0.406)
    assert found.input.intensities == Intensities("range", 0.0, 255.0)


def test_settings_go_before_what_the_folder_states(tmp_path, timm) -> None:
    found = start(tmp_path, pretrained=timm, architecture="resnet34", size=(32, 32))
    assert (found.architecture["name"], found.input.size) == ("resnet34", (32, 32))


def test_a_mean_image_has_the_size_of_the_images_and_stays_with_a_network_that_had_one(tmp_path) -> None:
    assert start(tmp_path, mean_image=True).architecture["mean_image"] == (12, 12)
    had = {"name": "resnet-small", "mean_image": (9, 9)}
    assert start(tmp_path, architecture=had, size=(10, 11)).architecture["mean_image"] == (10, 11)


def test_intensities_stay_those_of_the_data_except_for_a_window() -> None:
    data, weights = InputFormat((8, 8)), InputFormat((9, 9), 3, Intensities("range", 0, 255), (0.5,), (0.2,))
    taken = as_pretrained(data, weights)
    assert (taken.size, taken.channels, taken.mean, taken.std) == ((8, 8), 3, (0.5,), (0.2,))
    assert taken.intensities.rule == "percentiles"
    lung, bone = Intensities("window", -1350, 150), Intensities("window", -400, 1000)
    assert as_pretrained(InputFormat((8, 8), 1, bone), InputFormat((8, 8), 1, lung)).intensities == lung


def test_a_network_for_volumes_does_not_take_pictures(tmp_path) -> None:
    with pytest.raises(InputError, match="images of 2 axes, but the network is for 3"):
        start(tmp_path, architecture={"name": "resnet-small", "dimensions": 3})
