"""Applying a model: torch's own figures through OpenVINO, label sets, refusals, slices, and events in a record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import softmax

from careloop import InputError
from careloop.imaging.classify import classify
from careloop.imaging.classify.apply import Classified, decided
from careloop.imaging.classify.events import classification_events, record_classification
from careloop.imaging.classify.expected import check_image
from careloop.imaging.classify.model import (
    Calibration,
    Classifier,
    ClassifierFile,
    Conformal,
    InputFormat,
    Intensities,
    Labels,
    write_classifier,
)
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.classify.prepare import prepare
from careloop.imaging.familiar import fit_familiar
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.measure import Recording
from careloop.imaging.volume import Source, Volume
from careloop.record import EVENTS, Record

NAMES = ("benign", "malignant", "none")
EIGHT_BITS = Intensities("range", 0, 255)
SAID = ClassifierFile(
    "nodules",
    {"name": "resnet-small", "depths": (1, 1), "widths": (8, 16)},
    InputFormat((24, 24), intensities=EIGHT_BITS),
    Labels(NAMES),
    calibration=Calibration(0.5),
)
TAKEN = datetime(2021, 5, 6, 7, tzinfo=UTC)
NOISE = np.random.default_rng(5)


def image(*shape: int, **said: Any) -> Volume:
    return Volume(NOISE.integers(0, 256, shape, dtype=np.uint8), np.eye(4), placed=False, **said)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARELOOP_CACHE", str(folder / "cache"))
        network = build_classifier(SAID.architecture, channels=1, outputs=3).eval()
        yield write_classifier(network, SAID, folder / "nodules")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    record = Record.create(tmp_path / "record", shards=2)
    known = {"subject_id": [7, 8], "time": [TAKEN - timedelta(days=400)] * 2, "code": ["VISIT"] * 2}
    return record.append(pl.DataFrame(known), key="visits")


def test_results_are_those_of_torch_in_the_order_of_images_and_slices(model: Classifier) -> None:
    volumes = [image(1, 30, 24), image(9, 24, 24), image(1, 24, 24, modality="MR")]
    heard: list[tuple[int, int]] = []
    found = classify(volumes, model, progress=lambda what, done, total: heard.append((done, total)))
    assert [(one.image, one.slice) for one in found] == [(0, None), *((1, i) for i in range(9)), (2, None)]
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]
    slices = [replace(volumes[1], voxels=volumes[1].voxels[i : i + 1]) for i in range(9)]
    x = torch.from_numpy(np.stack([prepare(v, model.said.input) for v in (volumes[0], *slices, volumes[2])]))
    with torch.inference_mode():
        logits, embeddings = model.network()(x).numpy(), model.network().embed(x).numpy()
    probability = softmax(logits.astype(float) / 0.5, axis=1)
    np.testing.assert_allclose([one.probability for one in found], probability, atol=1e-5)
    np.testing.assert_allclose([one.embedding for one in found], embeddings, atol=1e-5)
    assert [one.answer for one in found] == [(NAMES[i],) for i in probability.argmax(axis=1)]
    assert any("each of the 9 slices" in finding.message for finding in found[3].findings)


def test_an_image_that_does_not_fit_is_a_refusal_and_the_others_are_classified(model: Classifier) -> None:
    strict = replace(model, said=replace(model.said, modalities=("DX", "CR")))
    volumes = [image(1, 24, 24, modality="MR"), image(1, 24, 24, modality="CR"), image(1, 24, 24)]
    volumes.append(Volume(np.full((1, 24, 24), 4095), np.eye(4), modality="DX"))
    found = classify(volumes, strict)
    assert [one.verdict for one in found] == ["refused", "answered", "answered", "refused"]
    assert "made for DX and this is" in found[0].reason
    assert "0 to 255, got 4095" in found[3].reason
    assert np.isnan(found[0].probability).all()
    assert found[0].answer == ()
    assert "names no modality" in found[2].findings[-1].message


def test_images_unlike_those_of_training_are_refused(model: Classifier, tmp_path: Path) -> None:
    pixels = [gaussian() for _ in range(120)]
    x = np.stack([prepare(volume, SAID.input) for volume in pixels])
    with torch.inference_mode():
        embeddings = model.network().embed(torch.from_numpy(x)).numpy()
    checked = write_classifier(model.network(), model.said, tmp_path, familiar=fit_familiar(embeddings, x))
    alike, noise = classify([gaussian(), image(1, 24, 24)], checked)
    assert alike.verdict == "answered"
    assert alike.p_value is not None
    assert noise.refused
    assert noise.reason
    assert np.isnan(noise.probability).all()
    assert noise.embedding is not None


def gaussian() -> Volume:
    """A bright spot at a place, of a width and on a ground drawn at random."""
    y, x = np.mgrid[:24, :24] - NOISE.uniform(8, 16, (2, 1, 1))
    spot = np.exp(-(x**2 + y**2) / NOISE.uniform(8, 20)) * NOISE.uniform(100, 150)
    return Volume(np.uint8(spot + NOISE.uniform(40, 60) + NOISE.normal(0, 3, (24, 24)).clip(-9, 9))[None], np.eye(4))


def result(names: tuple[str, ...]) -> Classified:
    return Classified(0, None, "m 1", names, "refused", np.full(len(names), np.nan))


@pytest.mark.parametrize(
    ("probability", "verdict", "answer", "label_set"),
    [
        ([0.9, 0.05, 0.05], "answered", ("benign",), ("benign",)),
        ([0.45, 0.45, 0.1], "abstained", (), ("benign", "malignant")),
        ([0.1, 0.15, 0.75], "abstained", (), ()),
    ],
)
def test_of_one_true_label_only_a_single_one_is_an_answer(
    probability: list[float], verdict: str, answer: tuple[str, ...], label_set: tuple[str, ...]
) -> None:
    said = replace(SAID, conformal=Conformal(0.9, (0.7, 0.6, 0.2)))
    found = decided(result(NAMES), np.array(probability), said)
    assert (found.verdict, found.answer, found.label_set, found.level) == (verdict, answer, label_set, 0.9)


def test_of_independent_labels_each_is_decided_or_open() -> None:
    said = replace(SAID, labels=Labels(NAMES, "multi"), thresholds=(0.5, 0.2, 0.5))
    plain = decided(result(NAMES), np.array([0.6, 0.3, 0.4]), said)
    assert (plain.verdict, plain.answer, plain.label_set) == ("answered", ("benign", "malignant"), ())
    sets = replace(said, conformal=Conformal(0.9, (0.6, 0.8, 0.8), (0.3, 0.4, 0.3)))
    found = decided(result(NAMES), np.array([0.6, 0.3, 0.1]), sets)
    assert (found.verdict, found.answer, found.undecided) == ("abstained", ("benign",), ("malignant",))
    assert found.label_set == ("benign", "malignant")
    assert found.reason == "malignant: presence is open"


def test_a_radiograph_of_another_view_is_refused(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPInstanceUID, header.ViewPosition = "1.2", "LL"
    header.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    shown = image(1, 8, 8, source=Source(files=(str(tmp_path / "a.dcm"),), instances=("1.2",)))
    with pytest.raises(RefusedSeriesError, match="made for PA or AP views and this is"):
        check_image(shown, replace(SAID, views=("PA", "AP")))
    assert check_image(shown, replace(SAID, views=("lateral",))) == ()
    assert "names no view" in check_image(image(1, 8, 8), replace(SAID, views=("PA",)))[0].message


def test_a_ct_needs_hounsfield_units_where_the_model_has_a_window() -> None:
    window = replace(SAID.input, intensities=Intensities("window", -1000, 400))
    shown = image(1, 8, 8, modality="CT")
    assert check_image(shown, replace(SAID, modalities=("CT",))) == ()
    with pytest.raises(RefusedSeriesError, match="Hounsfield"):
        check_image(shown, replace(SAID, modalities=("CT",), input=window))


def colour_findings(channels: int) -> list[str]:
    said = replace(SAID, input=InputFormat((8, 8), channels, EIGHT_BITS))
    return [finding.check for finding in check_image(image(1, 8, 8, 3), said)]


def test_colour_is_turned_into_grey_where_the_model_takes_grey() -> None:
    assert colour_findings(1) == ["colour"]
    assert colour_findings(3) == []


def series(slices: int) -> Volume:
    instances = tuple(f"1.2.3.4.{i + 1}" for i in range(slices))
    source = Source(study="1.2.3", series="1.2.3.4", instances=instances, acquired=TAKEN)
    return image(slices, 24, 24, source=source)


def test_results_as_events(model: Classifier, record: Record) -> None:
    volume = series(1)
    found = classify([volume], model)
    events = classification_events(found, volume, subject_id=7)
    assert dict(events.schema) == dict(EVENTS)
    assert events["time"].to_list() == events["known_time"].to_list() == [TAKEN] * (3 + 1 + 16)
    assert set(events["asset"]) == {"dicom:study/1.2.3/series/1.2.3.4"}
    values = dict(events.select("code", "numeric_value").iter_rows())
    for name, probability in zip(NAMES, found[0].probability, strict=True):
        assert values[f"IMAGE//FINDING//nodules//{name}"] == pytest.approx(probability)
    assert found[0].embedding is not None
    assert values["IMAGE//EMBEDDING//nodules//15"] == pytest.approx(float(found[0].embedding[15]))
    text = events.filter(code="IMAGE//LABELS//nodules")["text_value"].item()
    assert text == found[0].answer[0]
    written = record_classification(record.path, found, volume, subject_id=7)
    assert record_classification(record.path, found, volume, subject_id=7).version == written.version
    meaning = written.code_metadata().filter(code="IMAGE//FINDING//nodules//malignant")
    assert meaning["description"].item() == "malignant: probability by nodules"


def test_a_later_result_replaces_the_earlier_and_later_knowledge_stays_later(model: Classifier, record: Record) -> None:
    volume = series(2)
    how = Recording(measured_at=TAKEN + timedelta(days=3))
    found = classify([volume], model)
    before = record_classification(record.path, found, volume, subject_id=7, how=how)
    reason = "unlike the images of training"
    refused = [replace(result(NAMES), made_by="nodules 2.0", reason=reason, slice=i) for i in range(2)]
    after = record_classification(before.path, refused, volume, subject_id=7, how=how)
    rows = pl.concat([after.events(shard).collect() for shard in range(2)]).filter(
        pl.col("code").str.starts_with("IMAGE")
    )
    assert rows["text_value"].to_list() == [f"refused: {reason}"] * 2
    assert sorted(rows["asset"]) == [f"dicom:study/1.2.3/series/1.2.3.4/instance/1.2.3.4.{i}" for i in (1, 2)]
    assert set(rows["known_time"]) == {TAKEN + timedelta(days=3)}


def test_events_without_a_time_or_with_codes_that_collide_are_refused(model: Classifier) -> None:
    volume = image(1, 24, 24)
    answer = replace(result(("a b", "a-b")), verdict="answered", probability=np.array([0.5, 0.5]))
    with pytest.raises(InputError, match="acquired"):
        classification_events([answer], volume, subject_id=7)
    timed = replace(volume, source=Source(acquired=TAKEN))
    with pytest.raises(InputError, match="code of its own"):
        classification_events([answer], timed, subject_id=7)
    with pytest.raises(InputError, match="got 0 models"):
        classification_events([], timed, subject_id=7)
    early = Recording(measured_at=TAKEN - timedelta(days=1))
    with pytest.raises(InputError, match="not be earlier"):
        classification_events([answer], timed, subject_id=7, how=early)
