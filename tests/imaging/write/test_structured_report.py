"""Measurement reports, read by highdicom, by careloop's own ingest, and by Debian's validator."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import dicom_series as made
import highdicom as hd
import numpy as np
import polars as pl
import pydicom
import pytest

from careloop import InputError
from careloop.imaging.measure import measure
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.segmentation import Encoding, write_segmentation
from careloop.imaging.write.structured_report import write_structured_report

SEGMENTS = (Segment(2, "kidney_left"), Segment(7, "liver_tumour"), Segment(9, "nowhere"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, LabelMap, pl.DataFrame]:
    voxels = np.random.default_rng(0).integers(-100, 200, (8, 20, 24)).astype(np.int16)
    volume = made.write_series(tmp_path_factory.mktemp("ct"), voxels, made.affine_of())
    labels = np.zeros(voxels.shape, np.uint8)
    labels[1:6, 3:9, 4:12], labels[2:4, 12:16, 14:20], labels[6, 1, 1] = 2, 7, 7
    label_map = LabelMap(labels, volume.affine, SEGMENTS, made_by="model 2.1", source=volume.source)
    return volume, label_map, measure(label_map, volume)


@pytest.mark.parametrize("encoding", ["labelmap", "binary"])
def test_highdicom_reads_every_number_of_every_segment(
    measured: tuple[Volume, LabelMap, pl.DataFrame], tmp_path: Path, encoding: Encoding
) -> None:
    volume, label_map, table = measured
    seg = write_segmentation(label_map, volume, tmp_path / "seg.dcm", encoding=encoding)
    file = write_structured_report(table, seg, tmp_path / "sr.dcm", volume=volume)

    report = hd.sr.srread(file)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == [s.name for s in SEGMENTS]
    segmentation = pydicom.dcmread(seg)
    numbers = [2, 7, 9] if encoding == "labelmap" else [1, 2, 3]
    for group, segment, number in zip(groups, SEGMENTS, numbers, strict=True):
        rows = table.filter(pl.col("name") == segment.name, ~pl.col("quantity").str.starts_with("component_"))
        found = [(m.name.scheme_designator, m.name.value, m.value, m.unit.value) for m in group.get_measurements()]
        assert found == [
            (row["concept"]["scheme"], row["concept"]["value"], row["value"], row["unit"])
            for row in rows.iter_rows(named=True)
        ]
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert list(reference.referenced_segment_numbers) == [number]
        tracking = {int(s.SegmentNumber): s.TrackingUID for s in segmentation.SegmentSequence if "TrackingUID" in s}
        assert group.tracking_uid == tracking[number]
    kidney, tumour, _ = groups
    assert kidney.finding_type.value == "64033007"
    assert kidney.finding_sites[0].laterality.meaning == "Left"
    assert (tumour.finding_type.value, tumour.finding_sites[0].value.value) == ("108369006", "10200004")
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.SeriesDescription == "Measurements, not for clinical use"
    assert (report.StudyInstanceUID, report.PatientID) == (volume.source.study, "test-1")
    referenced = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert segmentation.SOPInstanceUID in referenced


def test_same_numbers_have_same_uids(measured: tuple[Volume, LabelMap, pl.DataFrame], tmp_path: Path) -> None:
    volume, label_map, table = measured
    seg = write_segmentation(label_map, volume, tmp_path / "seg.dcm")
    other = table.with_columns(pl.col("value") + 1)
    uids = [
        (r.SOPInstanceUID, r.SeriesInstanceUID)
        for r in (
            pydicom.dcmread(write_structured_report(t, seg, tmp_path / "a", volume=volume))
            for t in (table, table, other)
        )
    ]
    assert uids[0] == uids[1]
    assert not set(uids[0]) & set(uids[2])


def test_what_cannot_be_reported_is_refused(measured: tuple[Volume, LabelMap, pl.DataFrame], tmp_path: Path) -> None:
    volume, label_map, table = measured
    seg = write_segmentation(label_map, volume, tmp_path / "seg.dcm")
    out = tmp_path / "sr.dcm"
    with pytest.raises(InputError, match=r"without \['unit'\]"):
        write_structured_report(table.drop("unit"), seg, out, volume=volume)
    with pytest.raises(InputError, match=r"must name a segment of seg\.dcm, got 'spleen'"):
        write_structured_report(table.with_columns(name=pl.lit("spleen")), seg, out, volume=volume)
    with pytest.raises(InputError, match="at least one measurement"):
        write_structured_report(table.with_columns(value=pl.lit(float("nan"))), seg, out, volume=volume)
    with pytest.raises(InputError, match="needs DICOM images"):
        write_structured_report(table, seg, out, volume=replace(volume, source=replace(volume.source, files=())))
    assert not out.exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
def test_validator_finds_no_error(measured: tuple[Volume, LabelMap, pl.DataFrame], tmp_path: Path) -> None:
    volume, label_map, table = measured
    seg = write_segmentation(label_map, volume, tmp_path / "seg.dcm", encoding="binary")
    file = write_structured_report(table, seg, tmp_path / "sr.dcm", volume=volume)
    said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False).stderr
    assert "EnhancedSR" in said
    assert "Error" not in said
