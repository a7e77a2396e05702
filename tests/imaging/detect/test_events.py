"""Findings as events: codes, none found, replacement by a later reading."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from detection_blobs import affine

from careloop import InputError
from careloop.imaging.detect.boxes import detection
from careloop.imaging.detect.events import detection_events, record_detections
from careloop.imaging.measure.events import Recording
from careloop.imaging.volume import Source, Volume
from careloop.record import EVENTS, Record

TAKEN = datetime(2021, 5, 6, 7, tzinfo=UTC)
SOURCE = Source(study="1.2.3", series="1.2.3.4", instances=("1.2.3.4.5",), acquired=TAKEN)
IMAGE = Volume(np.zeros((4, 8, 8), np.int16), affine(), "CT", source=SOURCE)
FOUND = [
    detection("Lung nodule", np.array([0.0, 0, 0, 2, 4, 4]), affine(), probability=p, score=p) for p in (0.25, 0.75)
]
LABELS = ("Lung nodule", "mass")


def test_findings_become_events() -> None:
    events = detection_events(FOUND, IMAGE, subject_id=7, made_by="nodules 1a2b3c4d", labels=LABELS)
    assert events.schema == EVENTS
    stem = "IMAGE//DETECTION//nodules//"
    counts = events.filter(pl.col("code").str.ends_with("//count")).select("code", "numeric_value").rows()
    assert counts == [(f"{stem}lung_nodule//count", 2), (f"{stem}mass//count", 0)]
    sure = events.filter(code=f"{stem}lung_nodule//probability")
    assert sure["numeric_value"].to_list() == [0.75, 0.25]
    assert sure["text_value"].to_list() == ["nodules 1a2b3c4d, finding 1", "nodules 1a2b3c4d, finding 2"]
    assert events.filter(code=f"{stem}lung_nodule//diameter")["numeric_value"].to_list() == [4, 4]
    assert set(events["time"]) == set(events["known_time"]) == {TAKEN}
    assert events["source"].unique().to_list() == [
        "IMAGE//DETECTION//dicom:study/1.2.3/series/1.2.3.4/instance/1.2.3.4.5//nodules"
    ]


def test_a_later_reading_replaces_the_one_before(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=1)
    record.append(pl.DataFrame({"subject_id": [7], "time": [TAKEN], "code": ["VISIT"]}), key="visit")
    for version, found in (("1a2b3c4d", FOUND), ("9f8e7d6c", FOUND[:1])):
        events = detection_events(found, IMAGE, subject_id=7, made_by=f"nodules {version}", labels=LABELS)
        record = record_detections(tmp_path / "record", events)
    kept = record.events(0).filter(pl.col("code").str.starts_with("IMAGE")).collect()
    assert kept.height == 4
    assert kept["text_value"].str.contains("9f8e7d6c").all()
    described = record.code_metadata().filter(code="IMAGE//DETECTION//nodules//lung_nodule//diameter")
    assert described["description"].to_list() == ["lung_nodule marked by nodules: diameter"]


def test_events_need_a_time() -> None:
    undated = replace(IMAGE, source=replace(SOURCE, acquired=None))
    with pytest.raises(InputError, match="need a time"):
        detection_events(FOUND, undated, subject_id=7, made_by="nodules", labels=LABELS)
    early = Recording(measured_at=TAKEN - timedelta(days=1))
    with pytest.raises(InputError, match="measured_at"):
        detection_events(FOUND, IMAGE, subject_id=7, made_by="nodules", labels=LABELS, how=early)
