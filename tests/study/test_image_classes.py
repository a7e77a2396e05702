"""A classifier trained by the command's own way, then images through it to a table, a page and a tested map."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.read.volumes import Choice
from careloop.record import Record
from careloop.study.image_classes import ClassifyTask, classify_images
from careloop.study.image_training import train_image_classifier
from careloop.study.similar_images import Past


def squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Generated noise, half of it with a bright square that decides the label."""
    rng = np.random.default_rng(seed)
    label, image = rng.integers(0, 2, count), rng.normal(90, 12, (count, 28, 28))
    for k in np.flatnonzero(label):
        row, column = rng.integers(4, 18, 2)
        image[k, row : row + 6, column : column + 6] += 70
    return np.clip(image, 0, 255).astype(np.uint8), label[:, None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    parts = {
        name: squares(count, seed) for seed, (name, count) in enumerate((("train", 400), ("val", 160), ("test", 120)))
    }
    arrays = {f"{name}_{what}": part[i] for name, part in parts.items() for i, what in enumerate(("images", "labels"))}
    np.savez(folder / "squares.npz", **arrays)
    settings = ClassifierSettings(epochs=6, threads=1, resamples=100)
    train_image_classifier(folder / "squares.npz", folder / "model", settings=settings, progress=lambda *said: None)
    return folder / "model"


def test_training_leaves_a_page_and_a_test_of_its_maps(model: Path) -> None:
    checked = json.loads((model / "explanation.json").read_text())
    assert checked["weights"] == json.loads((model / "model.json").read_text())["weights"]
    assert {tuple(methods) for methods in checked["labels"].values()} == {("grad_cam",)}
    assert "files" in (model / "report.html").read_text()


def test_images_become_rows_and_what_is_unlike_is_refused(model: Path, tmp_path: Path) -> None:
    images, labels = squares(8, seed=9)
    chosen = [int(np.flatnonzero(labels[:, 0] == value)[0]) for value in (0, 1)]
    paths = [tmp_path / f"{k}.png" for k in chosen]
    for path, k in zip(paths, chosen, strict=True):
        Image.fromarray(images[k]).save(path)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    task = ClassifyTask((*paths, tmp_path / "noise.png"), model, Choice(modality="DX"))
    made = classify_images(task, tmp_path / "out")
    table = pl.read_csv(tmp_path / "out" / "results.csv")
    assert table["verdict"].to_list()[2] == "refused"
    assert table["1"][2] is None
    assert table["1"][1] > table["1"][0]
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["results"]) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "not for clinical use" in page.lower()
    assert made.found[2].refused


def test_images_of_other_patients_that_look_alike_are_named_in_a_table_and_not_on_the_page(
    model: Path, tmp_path: Path
) -> None:
    images, labels = squares(30, seed=21)
    record = Record.create(tmp_path / "record")
    born = datetime(1950, 1, 1, tzinfo=UTC)
    people = range(1, 31)
    events = {"subject_id": list(people), "time": [born] * 30, "known_time": [born] * 30, "code": ["MEDS_BIRTH"] * 30}
    record.append(pl.DataFrame(events).with_columns(source=pl.lit("test")), key="people")
    for person in people:
        path = tmp_path / f"{person}.png"
        Image.fromarray(images[person - 1]).save(path)
        task = ClassifyTask((path,), model, Choice(modality="DX"), acquired=datetime(2026, 1, person, tzinfo=UTC))
        past = Past(record.path, person)
        made = classify_images(task, tmp_path / f"out{person}", past=past)
        made.record(record.path, subject_id=person)
    assert "images of at least two patients" in (tmp_path / "out1" / "report.html").read_text()
    answered = [p for p in people if (tmp_path / f"out{p}" / "similar.csv").exists()]
    last = answered[-1]
    table = pl.read_csv(tmp_path / f"out{last}" / "similar.csv")
    assert last not in table["subject_id"].to_list()
    assert table["similarity"].is_sorted(descending=True)
    nearest = labels[table["subject_id"].to_numpy() - 1, 0]
    assert np.mean(nearest == labels[last - 1, 0]) > 0.5
    page = (tmp_path / f"out{last}" / "report.html").read_text()
    assert "Similar past images" in page
    assert table["past_image"][0] not in page
