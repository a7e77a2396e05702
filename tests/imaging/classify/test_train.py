"""From labelled images to a model folder: it learns, a killed training goes on alike, the folder says everything."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from labelled_images import left_or_right, write_medmnist, write_picture, write_table
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from careloop import InputError
from careloop.imaging.classify.apply import ApplySettings, classify
from careloop.imaging.classify.model import read_classifier
from careloop.imaging.classify.prepare import prepare_array
from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.classify.train import ClassifierSummary, train_classifier
from careloop.imaging.volume import Volume

TINY = {"name": "resnet-small", "depths": (1, 1), "widths": (8, 16)}
QUICK = ClassifierSettings(
    architecture=TINY, epochs=12, batch_size=16, learning_rate=5e-3, resamples=100, device="cpu", threads=1, seed=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_medmnist(tmp_path_factory.mktemp("data") / "sides.npz")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train_classifier(data, tmp_path_factory.mktemp("model") / "out", settings=QUICK)


def test_it_learns_what_new_images_show(trained) -> None:
    images, right = left_or_right(100, 77)
    volumes = [Volume(image[None], np.eye(4), placed=False) for image in images]
    answers = classify(volumes, read_classifier(trained.folder), settings=ApplySettings("cpu", 1))
    seen = [number for number, answer in enumerate(answers) if not answer.refused]
    assert len(seen) > 80
    assert roc_auc_score(right[seen], [answers[number].probability[1] for number in seen]) > 0.9


def test_the_folder_says_how_the_model_came_about(trained) -> None:
    assert {path.name for path in trained.folder.iterdir()} == {
        "model.json", "weights.safetensors", "familiar.npz", "plan.json", "learning_curve.json", "evaluation.json",
        "predictions.parquet", "rejected.csv",
    }  # fmt: skip
    said = json.loads((trained.folder / "model.json").read_text())
    assert said["warning"].startswith("Not for clinical use")
    assert said["training"]["images"] == {"train": 120, "tuning": 40, "label sets": 40, "held out": 60}
    assert said["training"]["split by"] == "file"
    assert "does not say whose" in said["training"]["notes"][0]
    assert said["training"]["mirrored"].startswith("never")
    assert said["training"]["check for unlike images"] == "fitted to tuning images"
    assert [loss.epoch for loss in trained.curve] == list(range(len(trained.curve)))
    assert trained.curve[-1].training < trained.curve[0].training
    figures = said["evaluation"]["labels"]["1"]
    assert figures["network"]["auroc"]["value"] > 0.9
    assert set(figures) == {"network", "logistic regression", "auroc difference"}
    assert figures["auroc difference"]["value"] == pytest.approx(
        figures["network"]["auroc"]["value"] - figures["logistic regression"]["auroc"]["value"]
    )


def test_predictions_are_those_that_were_evaluated(trained, data) -> None:
    frame = pl.read_parquet(trained.folder / "predictions.parquet")
    with np.load(data) as file:
        assert frame["1 truth"].to_list() == (file["test_labels"][:, 0] == 1).tolist()
    assert frame["row"].to_list() == list(range(201, 261))
    evaluation = json.loads((trained.folder / "evaluation.json").read_text())
    for model in ("network", "logistic regression"):
        figure = evaluation["labels"]["1"]["models"][model]["figures"]["auroc"]["value"]
        assert figure == pytest.approx(roc_auc_score(frame["1 truth"], frame[f"1 {model}"]))
    assert evaluation["refused"]["value"] == pytest.approx(frame["refused"].mean())


def test_the_engine_that_users_run_says_what_was_evaluated(trained, data) -> None:
    frame = pl.read_parquet(trained.folder / "predictions.parquet")
    with np.load(data) as file:
        volumes = [Volume(image[None], np.eye(4), placed=False) for image in file["test_images"]]
    answers = classify(volumes, read_classifier(trained.folder), settings=ApplySettings("cpu", 1))
    assert [answer.refused for answer in answers] == frame["refused"].to_list()
    for answer, row in zip(answers, frame.iter_rows(named=True), strict=True):
        if not answer.refused:
            np.testing.assert_allclose(answer.probability, [row["0 network"], row["1 network"]], atol=1e-4)
            assert answer.label_set == tuple(name for name in "01" if row[f"{name} possible"])


def test_a_finished_training_is_returned_as_it_is(trained, data) -> None:
    before = (trained.folder / "weights.safetensors").stat().st_mtime_ns
    again = train_classifier(data, trained.folder, settings=QUICK)
    assert (again.model, again.curve) == (trained.model, trained.curve)
    assert (trained.folder / "weights.safetensors").stat().st_mtime_ns == before


def test_other_settings_need_another_folder(trained, data) -> None:
    with pytest.raises(InputError, match="holds a training with other settings or of other data"):
        train_classifier(data, trained.folder, settings=QUICK.model_copy(update={"seed": 2}))


def test_a_killed_training_goes_on_to_the_same_weights(trained, data, tmp_path) -> None:
    script = Path(__file__).with_name("killed_classifier.py")
    command = [sys.executable, script, data, tmp_path, QUICK.model_dump_json()]
    killed = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "training" / "checkpoint.pt").exists()
    assert not (tmp_path / "model.json").exists()
    train_classifier(data, tmp_path, settings=QUICK)
    for name in ("weights.safetensors", "model.json", "evaluation.json"):
        assert (tmp_path / name).read_bytes() == (trained.folder / name).read_bytes()


def test_a_table_with_several_labels_views_and_a_bad_file(tmp_path) -> None:
    images, right = left_or_right(180, 5)
    rows = []
    for number, (pixels, side) in enumerate(zip(images, right, strict=True)):
        write_picture(tmp_path / f"{number}.png", pixels)
        label = {"right": side, "left": 1 - side if number % 3 else ""}
        rows.append({"image": f"{number}.png", "subject_id": number // 2, "view": "AP" if number % 4 else "PA"} | label)
    (tmp_path / "9.png").write_bytes(b"damaged")
    done = train_classifier(write_table(tmp_path / "t.csv", rows), tmp_path / "out", settings=QUICK)
    assert done.rejected == 1
    with (tmp_path / "out" / "rejected.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["10"]
    assert done.model.labels.kind == "multi"
    assert done.model.views == ("AP", "PA")
    assert len(done.model.thresholds) == len(done.model.calibration.slope) == 2
    assert done.model.training["split by"] == "subject"
    assert done.model.training["check for unlike images"].startswith("none: ")  # 14 subjects are too few for one
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    groups = evaluation["labels"]["right"]["models"]["network"]["subgroups"]
    assert [group["group"] for group in groups] == ["AP", "PA"]
    truth = pl.read_parquet(tmp_path / "out" / "predictions.parquet")["left truth"]
    assert 0 < truth.null_count() < len(truth)


def test_volumes_are_trained_on_from_pretrained_weights(tmp_path) -> None:
    arrays = {}
    for seed, (name, n) in enumerate({"train": 48, "val": 40, "test": 40}.items()):
        images, right = left_or_right(n, seed, (8, 8, 8))
        arrays |= {f"{name}_images": images, f"{name}_labels": right[:, None]}
    path = write_medmnist(tmp_path / "space.npz", arrays)
    first = QUICK.model_copy(update={"epochs": 1})
    train_classifier(path, tmp_path / "first", settings=first)
    settings = first.model_copy(update={"pretrained": tmp_path / "first", "architecture": None, "frozen_epochs": 1})
    done = train_classifier(path, tmp_path / "second", settings=settings)
    assert done.model.architecture["dimensions"] == 3
    assert done.model.input.size == (8, 8, 8)
    assert done.model.training["pretrained"] == "100.0% of the body from first, head kept"
    assert done.curve[0].tuning < read_first_loss(tmp_path / "first")


def test_the_mean_training_image_is_kept_with_the_weights_and_measured_anew_for_other_images(data, tmp_path) -> None:
    settings = QUICK.model_copy(update={"epochs": 1, "mean_image": True})
    first = train_classifier(data, tmp_path / "first", settings=settings)
    assert first.model.training["mean image taken off"]
    with np.load(data) as file:
        arrays = dict(file)
    np.testing.assert_allclose(kept_mean(first), mean_of(arrays["train_images"], first), atol=1e-5)
    darker = write_medmnist(tmp_path / "darker.npz", {k: v // 2 if "images" in k else v for k, v in arrays.items()})
    again = settings.model_copy(update={"mean_image": False, "pretrained": tmp_path / "first", "architecture": None})
    second = train_classifier(darker, tmp_path / "second", settings=again)
    assert second.model.training["pretrained"] == "100.0% of the body from first, head kept"
    np.testing.assert_allclose(kept_mean(second), mean_of(arrays["train_images"] // 2, second), atol=1e-5)


def kept_mean(done: ClassifierSummary) -> np.ndarray:
    return load_file(done.folder / "weights.safetensors")["mean_image"]


def mean_of(images: np.ndarray, done: ClassifierSummary) -> np.ndarray:
    return np.mean([prepare_array(image, done.model.input) for image in images], axis=0)


def read_first_loss(folder: Path) -> float:
    return json.loads((folder / "learning_curve.json").read_text())[0]["tuning"]


def test_minutes_decide_the_number_of_epochs(data, tmp_path) -> None:
    settings = QUICK.model_copy(update={"epochs": None, "minutes": 0.003})
    done = train_classifier(data, tmp_path, settings=settings)
    assert 1 <= len(done.curve) <= done.model.training["epochs"]
