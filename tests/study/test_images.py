"""Images to labels, numbers, DICOM objects, a page and events: a ball of known size through all of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.phantom import write_series
from careloop.imaging.read.volumes import Choice
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti
from careloop.record import Record
from careloop.study.images import ImageResult, ImageTask, segment_images

RADIUS_MM = 14.0
BALL_ML = 4 / 3 * np.pi * RADIUS_MM**3 / 1000
AFFINE = np.array([[0, 0, 1.2, -40.0], [0, 1.2, 0, -30.0], [2.0, 0, 0, 100.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def volume() -> Volume:
    shape = (24, 48, 40)
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * (2.0, 1.2, 1.2)
    distance = np.linalg.norm(place - (22.0, 28.0, 24.0), axis=-1)
    voxels = np.where(distance < RADIUS_MM, 60, -900).astype(np.int16)
    return Volume(voxels, AFFINE, modality="CT", unit="[hnsf'U]", body_part="CHEST")


@pytest.fixture(scope="module")
def series(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    write_series(volume, folder, name="ball")
    return folder


@pytest.fixture(scope="module")
def made(series: Path, threshold_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageResult:
    return segment_images(ImageTask((str(series),), threshold_model), tmp_path_factory.mktemp("out") / "run")


def test_the_ball_is_found_and_measured(made: ImageResult, volume: Volume) -> None:
    np.testing.assert_array_equal(made.label_map.labels, volume.voxels > 0)
    assert made.volumes_ml["bright"] == pytest.approx(BALL_ML, rel=0.03)
    longest = made.table.filter(pl.col("quantity").str.contains("diameter_3d|maximum_3d|longest"))["value"]
    assert longest.max() == pytest.approx(2 * RADIUS_MM, abs=2.0)
    assert {stage.name for stage in made.stages} >= {"prepare", "networks", "labels"}
    assert all(stage.peak_bytes > 0 for stage in made.stages)


def test_labels_lie_where_the_image_lies(made: ImageResult, volume: Volume) -> None:
    image = nibabel.load(made.folder / "labels.nii.gz")
    i, j, k = np.argwhere(np.asarray(image.dataobj) == 1).mean(axis=0)
    centre = nibabel.affines.apply_affine(image.affine, (i, j, k)) * (-1, -1, 1)  # NIfTI is RAS
    np.testing.assert_allclose(centre, [-40 + 24, -30 + 28, 100 + 22], atol=0.3)


def test_dicom_objects_say_the_same(made: ImageResult, volume: Volume) -> None:
    names = {path.name for path in made.dicom}
    assert names == {"segmentation.dcm", "measurements.dcm", "picture.dcm"}
    segmentation = highdicom.seg.segread(made.folder / "dicom" / "segmentation.dcm")
    labels = segmentation.get_volume(combine_segments=True).array
    assert (labels > 0).sum() == (volume.voxels > 0).sum()


def test_the_page_shows_it_and_names_nobody(made: ImageResult) -> None:
    text = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "bright" in text
    assert "ot for clinical use" in text
    assert made.volume.source.patient_id
    assert made.volume.source.patient_id not in text


def test_the_same_again_changes_nothing(made: ImageResult, series: Path, threshold_model: Path) -> None:
    heard: list[tuple[str, str]] = []
    before = {path: path.stat().st_mtime_ns for path in made.folder.iterdir() if path.is_file()}
    segment_images(ImageTask((str(series),), threshold_model), made.folder, notify=lambda *state: heard.append(state))
    assert {state for _, state in heard} == {"unchanged"}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_measurements_become_events(made: ImageResult, tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record")
    born = pl.DataFrame({"subject_id": [7], "time": [datetime(1950, 1, 1, tzinfo=UTC)], "code": ["MEDS_BIRTH"]})
    record.append(born, key="birth")
    taken = replace(made.volume.source, acquired=datetime(2024, 5, 1, tzinfo=UTC))
    result = replace(made, volume=replace(made.volume, source=taken))
    record = result.record(record.path, subject_id=7)
    events = record.timeline(7).filter(pl.col("code") == "IMAGE//bright//volume")
    assert events["numeric_value"].item() == pytest.approx(BALL_ML, rel=0.03)
    assert events["unit"].item() == "mL"
    assert result.record(record.path, subject_id=7).version == record.version


def test_another_image_kind_is_refused_and_nothing_is_left(
    volume: Volume, threshold_model: Path, tmp_path: Path
) -> None:
    path = write_nifti(volume, tmp_path / "mr.nii.gz")
    task = ImageTask((str(path),), threshold_model, choice=Choice(modality="MR"))
    with pytest.raises(RefusedSeriesError, match="modality"):
        segment_images(task, tmp_path / "out")
    assert not (tmp_path / "out" / "labels.nii.gz").exists()


def test_nifti_gives_no_dicom_and_says_so(volume: Volume, threshold_model: Path, tmp_path: Path) -> None:
    path = write_nifti(volume, tmp_path / "ct.nii.gz")
    result = segment_images(ImageTask((str(path),), threshold_model, choice=Choice(modality="CT")), tmp_path / "out")
    assert result.volumes_ml["bright"] == pytest.approx(BALL_ML, rel=0.03)
    with pytest.raises(InputError, match="only images that came as DICOM"):
        result.send("https://localhost/dicom-web")
    born = pl.DataFrame({"subject_id": [1], "time": [datetime(1950, 1, 1, tzinfo=UTC)], "code": ["MEDS_BIRTH"]})
    record = Record.create(tmp_path / "record").append(born, key="birth")
    with pytest.raises(InputError, match="acquired"):
        result.record(record.path, subject_id=1)
