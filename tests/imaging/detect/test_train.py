"""Detectors of made-up balls: training, figures, folder, resuming, refusals, and detection in images of any size."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_blobs import affine, blob_image, write_blobs

from careloop import InputError
from careloop.imaging.detect import DetectionSettings, DetectorSummary, detect, read_detector, train_detector
from careloop.imaging.detect.dataset import DetectionDataset, open_table
from careloop.imaging.volume import Volume


def picture(seed: int, shape: tuple[int, int]) -> tuple[Volume, np.ndarray]:
    image, boxes = blob_image(seed, shape)
    grey = np.clip(image * 16 + 80, 0, 255).astype(np.uint8)
    return Volume(grey[None], np.eye(4), placed=False), boxes


def test_balls_are_found_and_the_folder_says_how_well(trained: DetectorSummary) -> None:
    figures = trained.evaluation["ball"]
    assert figures.images == 45
    assert figures.froc.value[0] is not None
    assert figures.froc.value[0] > 0.8
    assert figures.jafroc.value is not None
    assert figures.jafroc.value > 0.8
    assert trained.history[-1] < trained.history[0]
    said = read_detector(trained.detector.folder).said
    assert said == trained.detector.said
    assert said.evaluation["ball"]["cpm"]["value"] == figures.cpm.value
    assert said.training["images"] == {"train": 60, "tuning": 30, "held_out": 45}
    assert "Not for clinical use" in said.warning
    assert not (trained.detector.folder / "training").exists()


def test_findings_have_boxes_and_probabilities_that_hold(trained: DetectorSummary) -> None:
    ratios, sure, right = [], [], []
    for seed in range(1000, 1060):
        volume, boxes = picture(seed, (40, 48))
        for found in detect(volume, trained.detector, lowest=0.02):
            centre = [(found.box[i] + found.box[i + 3]) / 2 for i in (1, 2)]
            hit = boxes[((boxes[:, :2] < centre) & (centre < boxes[:, 2:])).all(axis=1)]
            sure.append(found.probability)
            right.append(len(hit) > 0)
            ratios += [found.diameter_mm / float((box[2:] - box[:2]).mean()) for box in hit]
    assert len(ratios) > 40
    assert np.median(ratios) == pytest.approx(1, abs=0.2)
    # Among findings of all probabilities, as many are right as the probabilities say.
    assert np.mean(sure) == pytest.approx(np.mean(right), abs=0.12)


def test_a_large_image_gives_each_ball_once(trained: DetectorSummary) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((90, 130))
    row, column = np.mgrid[:90, :130] + 0.5
    centres = [(12.0, 11.0), (45.0, 64.5), (31.0, 96.0), (77.0, 17.0), (80.0, 120.0), (60.0, 100.0)]
    for r, c in centres:
        image += 6 * ((row - r) ** 2 + (column - c) ** 2 < 16)
    grey = np.clip(image * 16 + 80, 0, 255).astype(np.uint8)[None]
    heard: list[tuple[int, int]] = []
    volume = Volume(grey, np.eye(4), placed=False)
    found = detect(volume, trained.detector, lowest=0.5, progress=lambda _, done, of: heard.append((done, of)))
    hits = [sum(d.box[1] < r < d.box[4] and d.box[2] < c < d.box[5] for d in found) for r, c in centres]
    assert hits == [1] * len(centres)
    assert len(found) <= len(centres) + 1
    assert heard[-1][0] == heard[-1][1] > 8
    assert [d.probability for d in found] == sorted((d.probability for d in found), reverse=True)


def test_a_finished_training_is_returned_and_another_is_refused(
    trained: DetectorSummary, flat_data: DetectionDataset, quick: DetectionSettings
) -> None:
    again = train_detector(flat_data, trained.detector.folder, settings=quick)
    assert again.detector.said == trained.detector.said
    with pytest.raises(InputError, match="other settings or of other data"):
        train_detector(flat_data, trained.detector.folder, settings=quick.model_copy(update={"seed": 1}))


def test_a_killed_training_goes_on_to_the_same_detector(
    trained: DetectorSummary, flat_data: DetectionDataset, quick: DetectionSettings, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("killed_detector.py")
    command = [sys.executable, str(script), str(flat_data.table), str(tmp_path), quick.model_dump_json()]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "model.json").exists()
    train_detector(flat_data, tmp_path, settings=quick)
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / name).read_bytes() == (trained.detector.folder / name).read_bytes()


def test_volumes(tmp_path: Path) -> None:
    dataset = open_table(write_blobs(tmp_path / "data", (24, 9, 12), (16, 24, 32)))
    settings = DetectionSettings(epochs=5, steps=15, batch_size=4, features=6, patch=(16, 16, 16), device="cpu")
    made = train_detector(dataset, tmp_path / "out", settings=settings)
    assert made.detector.said.modality == ""
    assert made.evaluation["ball"].cpm.value is not None
    assert made.evaluation["ball"].cpm.value > 0.6
    image, boxes = blob_image(1001, (16, 24, 32))
    volume = Volume(np.clip(image * 16 + 80, 0, 255).astype(np.float32), affine(), "CT")
    first = detect(volume, made.detector, lowest=0.0)[0]
    middle = np.add(first.box[:3], first.box[3:]) / 2
    assert ((middle > boxes[:, :3]) & (middle < boxes[:, 3:])).all(axis=1).any()
    assert (affine()[:3, :3] @ (middle - 0.5) + affine()[:3, 3]) == pytest.approx(first.centre_mm)
    assert all(
        low <= c <= high for low, c, high in zip(first.box_mm[:3], first.centre_mm, first.box_mm[3:], strict=True)
    )


def test_what_does_not_fit_is_refused(trained: DetectorSummary, flat_data: DetectionDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes pictures of one slice"):
        detect(Volume(np.zeros((4, 8, 8), np.uint8), affine(), "CT"), trained.detector)
    with pytest.raises(InputError, match="1 images"):
        detect(Volume(np.zeros((1, 8, 8, 3), np.uint8), np.eye(4), placed=False), trained.detector)
    other = replace(trained.detector.said, modality="DX")
    with pytest.raises(InputError, match="takes DX images"):
        detect(Volume(np.zeros((1, 8, 8), np.uint8), np.eye(4), "MR"), replace(trained.detector, said=other))
    with pytest.raises(InputError, match="holds no detector"):
        read_detector(tmp_path)
    with pytest.raises(InputError, match="patch must have 2 axes"):
        train_detector(flat_data, tmp_path / "a", settings=DetectionSettings(patch=(8, 8, 8)))
    for name in ("model.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((trained.detector.folder / name).read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="copy the whole folder again"):
        read_detector(tmp_path)
