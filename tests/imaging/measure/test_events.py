"""Measurements as events: codes, times, replacement, the patient by PatientID, and a feature made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from careloop import InputError
from careloop.features import FeaturesSection, extract, fit_recipe
from careloop.imaging.measure import Recording, measure, measurement_events, record_measurements
from careloop.imaging.measure.events import model_of
from careloop.imaging.volume import Segment
from careloop.ingest import ingest_paths
from careloop.record import EVENTS, Record, subject_ids

TAKEN = datetime(2021, 5, 6, 7, tzinfo=UTC)
SERIES = "dicom:study/1.2.3/series/1.2.3.4"
Image = Any


@pytest.fixture(scope="module")
def image(make_image: Any) -> Image:
    labels = np.zeros((8, 20, 20), dtype=np.uint8)
    labels[2:6, 4:12, 4:12], labels[3:5, 14:17, 14:17] = 1, 2
    return make_image(labels)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    record = Record.create(tmp_path / "record", shards=2)
    known = {"subject_id": [7, 8], "time": [TAKEN - timedelta(days=400)] * 2, "code": ["VISIT"] * 2}
    return record.append(pl.DataFrame(known), key="visits")


def ingest_slice(folder: Path, record: Path, **settings: str) -> None:
    """One CT slice of patient p1, as a hospital's file, through ingest."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.4.5"
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.PatientID, made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = "p1", "1.2.3", "1.2.3.4", "CT"
    made.SeriesDate, made.SeriesTime = "20210506", "070000"
    folder.mkdir()
    made.save_as(folder / "a.dcm", enforce_file_format=True)
    ingest_paths("dicom", [folder], record, settings=settings)


def test_a_measurement_becomes_an_event(image: Image) -> None:
    table = measure(*image)
    events = measurement_events(table, image[1], subject_id=7, made_by="chest 1.0")
    assert events.schema == EVENTS
    volume = table.filter(name="heart", quantity="volume")["value"][0]
    assert events.filter(code="IMAGE//heart//volume").to_dicts() == [
        {
            "subject_id": 7,
            "time": TAKEN,
            "known_time": TAKEN,
            "code": "IMAGE//heart//volume",
            "numeric_value": pytest.approx(volume),
            "unit": "mL",
            "text_value": "chest 1.0",
            "asset": SERIES,
            "source": f"IMAGE//{SERIES}//chest",
        }
    ]
    assert "IMAGE//lung_nodule//longest_diameter" in events["code"]
    assert not events["code"].str.contains("centre_|box_").any()
    assert events.filter(code="IMAGE//spleen//components")["numeric_value"].to_list() == [0]
    assert not events["code"].is_duplicated().any()


def test_values_that_are_no_numbers_become_no_events(image: Image) -> None:
    table = measure(*image).with_columns(
        value=pl.when(quantity="volume").then(None).when(quantity="area").then(float("inf")).otherwise("value")
    )
    events = measurement_events(table, image[1], subject_id=7, made_by="chest 1.0")
    assert not events["code"].str.ends_with("//volume").any()
    assert events["numeric_value"].is_finite().all()


def test_known_when_measured(image: Image) -> None:
    table, later = measure(*image), TAKEN + timedelta(days=30)
    how = Recording(measured_at=later)
    events = measurement_events(table, image[1], subject_id=7, made_by="chest 1.0", how=how)
    assert events.select("time", "known_time").unique().rows() == [(TAKEN, later)]
    for wrong in (TAKEN - timedelta(days=1), later.replace(tzinfo=None)):
        with pytest.raises(InputError, match="measured_at must have a time zone and not be earlier"):
            measurement_events(table, image[1], subject_id=7, made_by="m 1", how=Recording(measured_at=wrong))


def test_an_image_without_time_or_with_two_structures_of_one_code_is_refused(image: Image) -> None:
    label_map, volume = image
    timeless = replace(volume, source=replace(volume.source, acquired=None))
    with pytest.raises(InputError, match="does not say when it was acquired"):
        measurement_events(measure(*image), timeless, subject_id=7, made_by="m 1")
    twice = replace(label_map, segments=(Segment(1, "Lung (left)"), Segment(2, "lung_left")))
    with pytest.raises(InputError, match="'lung_left' would be 'lung_left'; rename it"):
        measurement_events(measure(twice, volume), volume, subject_id=7, made_by="m 1")


def test_an_image_without_series_is_named_by_its_content(image: Image) -> None:
    label_map, volume = image
    plain = replace(volume, source=replace(volume.source, study="", series=""))
    other = replace(plain, voxels=volume.voxels + 1)
    assets = [
        measurement_events(measure(label_map, one), one, subject_id=7, made_by="m 1")["asset"][0]
        for one in (plain, plain, other)
    ]
    assert assets[0].startswith("sha256:")
    assert assets[0] == assets[1] != assets[2]


@pytest.mark.parametrize(
    ("made_by", "model"),
    [
        ("chest 1.0", "chest"),
        ("total segmentator v2", "total segmentator"),
        ("Dataset001_Chest deadbeef", "Dataset001_Chest"),
        ("part one 0a1b2c3d, part two 1.2-0a1b2c3d", "part one, part two"),
        ("labels of a reader", "labels of a reader"),
        ("2.4", "2.4"),
        ("", ""),
    ],
)
def test_the_model_without_its_version(made_by: str, model: str) -> None:
    assert model_of(made_by) == model


def test_measuring_twice_changes_nothing_and_a_newer_version_replaces(image: Image, record: Record) -> None:
    label_map, volume = image
    table = measure(*image)
    first = record_measurements(record.path, table, volume, made_by="chest 1.0", subject_id=7)
    again = record_measurements(record.path, table, volume, made_by="chest 1.0", subject_id=7)
    assert again.version == first.version
    assert first.facts_version == first.version  # a study that pins facts sees them
    fewer = replace(label_map, segments=label_map.segments[:1])
    newer = record_measurements(record.path, measure(fewer, volume), volume, made_by="chest 1.1", subject_id=7)
    rows = newer.timeline(7).filter(pl.col("code").str.starts_with("IMAGE//"))
    assert rows["text_value"].unique().to_list() == ["chest 1.1"]
    assert not rows["code"].str.contains("lung_nodule").any()
    other = record_measurements(record.path, table, volume, made_by="heart 3", subject_id=7)
    models = other.timeline(7).filter(code="IMAGE//heart//volume")["text_value"]
    assert sorted(models) == ["chest 1.1", "heart 3"]


def test_volumes_of_one_series_stay_beside_each_other(image: Image, record: Record) -> None:
    table = measure(*image)
    for frame in (1, 40, 1):
        one = replace(image[1], source=replace(image[1].source, instances=("1.2.3.4.9",), frames=(frame,)))
        record = record_measurements(record.path, table, one, made_by=f"chest 1.{frame}", subject_id=7)
    assert sorted(record.timeline(7).filter(code="IMAGE//heart//volume")["text_value"]) == ["chest 1.1", "chest 1.40"]


def test_all_versions_stay_where_asked(image: Image, record: Record) -> None:
    table, how = measure(*image), Recording(versions="all")
    for made_by in ("chest 1.0", "chest 1.1"):
        record = record_measurements(record.path, table, image[1], made_by=made_by, subject_id=7, how=how)
    found = record.timeline(7).filter(code="IMAGE//heart//volume")
    assert sorted(found["text_value"]) == ["chest 1.0", "chest 1.1"]


def test_codes_are_described_and_what_is_there_stays(image: Image, record: Record) -> None:
    mine = pl.DataFrame({"code": ["IMAGE//heart//area"], "description": ["mine"]})
    record.describe_codes(mine.with_columns(code=pl.lit("IMAGE//heart//surface_area")))
    record = record_measurements(record.path, measure(*image), image[1], made_by="chest 1.0", subject_id=7)
    codes = {row["code"]: row for row in record.code_metadata().iter_rows(named=True)}
    heart = codes["IMAGE//heart//volume"]
    assert heart["description"] == "heart: Volume of Mesh"
    assert heart["parent_codes"] == ["IBSI//RNU0", "SNOMED//80891009"]
    assert heart["unit"] == "mL"
    assert codes["IMAGE//heart//surface_area"]["description"] == "mine"


@pytest.mark.parametrize("origin", ["", "clinic"])
def test_the_patient_is_that_of_the_ingested_series(image: Image, tmp_path: Path, origin: str) -> None:
    path = tmp_path / "record"
    ingest_slice(tmp_path / "files", path, **({"origin": origin} if origin else {}))
    record = record_measurements(path, measure(*image), image[1], made_by="chest 1.0", how=Recording(origin=origin))
    found = record.events().filter(pl.col("code").is_in(["IMAGING//CT", "IMAGE//heart//volume"])).collect()
    assert found["subject_id"].n_unique() == 1
    assert found["asset"].unique().to_list() == [SERIES]
    assert found["time"].unique().to_list() == [TAKEN]
    name = pl.Series([f"{origin}:p1" if origin else "p1"])
    assert found["subject_id"][0] == subject_ids(record, name)[0]


def test_a_subject_that_is_not_known_is_refused(image: Image, record: Record) -> None:
    with pytest.raises(InputError, match="holds no facts about subject 99"):
        record_measurements(record.path, measure(*image), image[1], made_by="m 1", subject_id=99)
    nobody = replace(image[1], source=replace(image[1].source, patient_id=""))
    with pytest.raises(InputError, match="the image names no patient"):
        record_measurements(record.path, measure(*image), nobody, made_by="m 1")


def test_a_study_uses_a_measurement_as_any_code(image: Image, record: Record) -> None:
    volume = image[1]
    record_measurements(record.path, measure(*image), volume, made_by="chest 1.0", subject_id=7)
    later = replace(volume, source=replace(volume.source, series="1.2.3.5", acquired=TAKEN + timedelta(days=100)))
    label_map = replace(image[0], labels=image[0].labels.copy())
    label_map.labels[6, 4:12, 4:12] = 1
    record = record_measurements(record.path, measure(label_map, later), later, made_by="chest 1.0", subject_id=7)
    days = (-1, 1, 99, 101)
    keys = pl.DataFrame(
        {"subject_id": [7] * 4, "prediction_time": [TAKEN + timedelta(days=day) for day in days]},
        schema={"subject_id": pl.Int64, "prediction_time": EVENTS["time"]},
    )
    section = FeaturesSection(codes=("IMAGE//heart//volume",), value=("last",), windows_days=("all",), age="none")
    recipe = fit_recipe(record, keys, section)
    matrix = extract(record, keys, recipe).to_frame()
    column = next(name for name in matrix.columns if name.endswith("last"))
    before, after = (
        measure(*one).filter(name="heart", quantity="volume")["value"][0] for one in (image, (label_map, later))
    )
    values = matrix[column].to_list()
    assert values[0] is None or np.isnan(values[0])
    assert values[1:] == pytest.approx([before, before, after])
    assert after > before
