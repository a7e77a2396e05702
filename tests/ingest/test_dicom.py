"""DICOM headers to events: pydicom's own files, made-up series and reports, and any bytes at all."""

from __future__ import annotations

import zipfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from careloop import InputError
from careloop.ingest.dicom import dicom_sources
from careloop.ingest.dicom.header import parse_date, parse_datetime

SHIPPED = Path(pydicom.__file__).parent / "data"
REASONS = {
    "no PatientID",
    "no StudyInstanceUID",
    "no SeriesInstanceUID",
    "no SOPInstanceUID",
    "no date of series, acquisition, study, content or creation",
    "dates were removed by de-identification",
    "its series is also of another study, or its study of another patient",
    "not readable as DICOM (cut off, malformed or encrypted)",
}
SKIPPED = {
    "not a DICOM file",
    "empty file",
    "DICOMDIR: an index of other files",
    "a second copy of an instance",
}
DATES = (
    "SeriesDate", "StudyDate", "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "InstanceCreationDate",
)  # fmt: skip
CT, SR, PDF, ECG = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "88.33", "104.1", "9.1.1"))


def read(path: Path, **given: Any) -> dict[str, Any]:
    """Everything that a path gives, with the law that every file is kept, rejected or skipped checked on the way."""
    batches = [batch for source in dicom_sources(path, **given) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    assert {reject.reason for reject in rejected} <= REASONS
    assert set(skipped) <= SKIPPED
    events = pl.concat([batch.events for batch in batches])
    assert events.filter(pl.col("known_time") < pl.col("time")).is_empty()
    codes = dict(pl.concat([batch.codes for batch in batches]).iter_rows())
    return {"events": events, "rows": rows, "kept": kept, "rejected": rejected, "skipped": skipped, "codes": codes}


def write(path: Path, syntax: str = ExplicitVRLittleEndian, **values: Any) -> Path:
    """A made-up file; `values` are put over a plain CT header."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    plain = {
        "SOPClassUID": CT,
        "SOPInstanceUID": f"1.2.3.{path.stem}" if path.stem.isdigit() else "1.2.3.99",
        "StudyInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3.4.5",
        "PatientID": "P-1",
        "Modality": "CT",
        "StudyDate": "20240229",
        "StudyTime": "101500",
    }
    for keyword, value in (plain | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def concept(code: str, scheme: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, meaning
    return [item]


def content(kind: str, name: list[Dataset], **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, name
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def measured(value: str, unit: str) -> list[Dataset]:
    item = Dataset()
    item.NumericValue, item.MeasurementUnitsCodeSequence = value, concept(unit, "UCUM", unit)
    return [item]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("folder", ["test_files", "charset_files"])
def test_pydicoms_own_files_give_the_series_that_plain_pydicom_sees(folder: str) -> None:
    result = read(SHIPPED / folder)
    expected: dict[str, set[str]] = defaultdict(set)
    for file in (SHIPPED / folder).rglob("*"):
        if not file.is_file():
            continue
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        dates = [header.get(name) for name in DATES]
        if header.get("PatientID") and header.get("SeriesInstanceUID") and any(dates):
            expected[header.SeriesInstanceUID].add(header.SOPInstanceUID)
    series = result["events"].filter(pl.col("source").str.starts_with("DICOM//series/"))
    found = dict(zip(series["source"].str.strip_prefix("DICOM//series/"), series["numeric_value"], strict=True))
    assert found == {uid: len(instances) for uid, instances in expected.items()}
    assert len(found) > 10


def test_one_series_in_two_folders_is_one_event(tmp_path: Path) -> None:
    for number in range(1, 6):
        write(
            tmp_path / f"{number % 2}" / f"{number}",
            SeriesDate="20240229",
            SeriesTime="102000",
            ContentDate="20240229",
            ContentTime=f"1021{number:02}.5",
            BodyPartExamined="CHEST",
            SeriesDescription="Thorax 1.0",
            StudyDescription="CT chest",
            TimezoneOffsetFromUTC="+0200",
        )
    (tmp_path / "notes.txt").write_text("not an image")
    result = read(tmp_path)
    events = {row["code"]: row for row in result["events"].iter_rows(named=True)}
    assert set(events) == {"IMAGING//CT", "IMAGING_STUDY//CT"}
    series = events["IMAGING//CT"]
    assert series["time"] == datetime(2024, 2, 29, 8, 20, tzinfo=UTC)
    assert series["known_time"] == datetime(2024, 2, 29, 8, 21, 5, 500_000, tzinfo=UTC)
    assert (series["numeric_value"], series["text_value"]) == (5.0, "CHEST; Thorax 1.0")
    assert series["asset"] == "dicom:study/1.2.3.4/series/1.2.3.4.5"
    assert events["IMAGING_STUDY//CT"]["time"] == datetime(2024, 2, 29, 8, 15, tzinfo=UTC)
    assert result["skipped"] == {"not a DICOM file": 1}


def test_patient_facts(tmp_path: Path) -> None:
    facts = {"PatientBirthDate": "19560704", "PatientSex": "F", "EthnicGroup": "Sami", "PatientAge": "067Y"}
    for number in (1, 2):
        write(
            tmp_path / f"{number}", **facts, PatientSize="1.7", PatientWeight="71.5", SeriesInstanceUID=f"1.9.{number}"
        )
    result = read(tmp_path, origin="pacs")
    events = result["events"]
    rows = {row["code"]: row for row in events.iter_rows(named=True)}
    assert set(events["subject"]) == {"pacs:P-1"}
    assert rows["MEDS_BIRTH"]["time"] == datetime(1956, 7, 4, tzinfo=UTC)
    assert rows["GENDER//F"]["time"] is None
    assert rows["ETHNICITY//sami"]["source"] == "DICOM//pacs//patient/P-1"
    assert (rows["LOINC//29463-7"]["numeric_value"], rows["LOINC//29463-7"]["unit"]) == (71.5, "kg")
    assert rows["LOINC//8302-2"]["numeric_value"] == pytest.approx(1.7)
    assert (rows["LOINC//30525-0"]["numeric_value"], rows["LOINC//30525-0"]["unit"]) == (67.0, "a")
    assert rows["IMAGING_STUDY//CT"]["numeric_value"] == 2.0
    assert events.filter(pl.col("code") == "MEDS_BIRTH").height == 1


def test_facts_of_a_study_come_from_the_file_known_first(tmp_path: Path) -> None:
    late = {"SeriesInstanceUID": "1.9.1", "Modality": "SEG", "ContentDate": "20300101", "ContentTime": "000000"}
    write(tmp_path / "1", PatientWeight="99", **late)
    write(tmp_path / "2", PatientWeight="71", SeriesInstanceUID="1.9.2")
    rows = {row["code"]: row for row in read(tmp_path)["events"].iter_rows(named=True)}
    weight = rows["LOINC//29463-7"]
    assert (weight["numeric_value"], weight["known_time"].year) == (71.0, 2024)
    assert rows["IMAGING_STUDY//CT"]["known_time"].year == 2024
    assert rows["IMAGING_STUDY//SEG"]["known_time"].year == 2030


def test_structured_report_of_measurements(tmp_path: Path) -> None:
    group = content(
        "CONTAINER",
        concept("125007", "DCM", "Measurement Group"),
        ContentSequence=[
            content("TEXT", concept("112039", "DCM", "Tracking Identifier"), TextValue="Lesion 1"),
            content(
                "CODE",
                concept("363698007", "SCT", "Finding Site"),
                ConceptCodeSequence=concept("10200004", "SCT", "Liver"),
            ),
            content("NUM", concept("410668003", "SCT", "Length"), MeasuredValueSequence=measured("23.5", "mm")),
            content("NUM", concept("118565006", "SCT", "Volume"), MeasuredValueSequence=[]),
        ],
    )
    observer = content("PNAME", concept("121008", "DCM", "Person Observer Name"), PersonName="Meier^Anna")
    observer.RelationshipType = "HAS OBS CONTEXT"
    finding = content("TEXT", concept("121071", "DCM", "Finding"), TextValue="Größe unverändert")
    write(
        tmp_path / "1",
        SpecificCharacterSet="ISO_IR 100",
        SOPClassUID=SR,
        Modality="SR",
        ContentDate="20240301",
        ContentTime="080000",
        ConceptNameCodeSequence=concept("126000", "DCM", "Imaging Measurement Report"),
        ContentSequence=[observer, finding, group],
    )
    result = read(tmp_path)
    rows = {row["code"]: row for row in result["events"].iter_rows(named=True)}
    assert set(rows) == {"REPORT//DCM//126000", "SNOMED//410668003"}
    assert rows["REPORT//DCM//126000"]["text_value"] == (
        "Finding: Größe unverändert\nMeasurement Group:\nTracking Identifier: Lesion 1\nFinding Site: Liver"
    )
    length = rows["SNOMED//410668003"]
    assert (length["numeric_value"], length["unit"]) == (23.5, "mm")
    assert length["text_value"] == "Tracking Identifier: Lesion 1; Finding Site: Liver"
    assert length["known_time"] == datetime(2024, 3, 1, 8, tzinfo=UTC)
    assert length["source"] == "DICOM//instance/1.2.3.1"
    assert result["codes"]["SNOMED//410668003"] == "Length"
    assert "Meier" not in str(result["events"].rows())


def test_document_and_waveform_kinds(tmp_path: Path) -> None:
    pdf = {"SOPClassUID": PDF, "EncapsulatedDocument": b"%PDF-1.7", "DocumentTitle": "Discharge letter"}
    write(tmp_path / "1", Modality="DOC", SeriesInstanceUID="1.5.1", **pdf)
    write(tmp_path / "2", Modality="ECG", SOPClassUID=ECG, SeriesInstanceUID="1.5.2")
    rows = {row["code"]: row for row in read(tmp_path)["events"].iter_rows(named=True)}
    assert rows["DOCUMENT//LOCAL//doc"]["text_value"] == "Discharge letter"
    assert rows["DOCUMENT//LOCAL//doc"]["asset"] == "dicom:study/1.2.3.4/series/1.5.1/instance/1.2.3.1"
    assert set(rows) == {"DOCUMENT//LOCAL//doc", "WAVEFORM//ECG", "IMAGING_STUDY//ECG"}


def test_a_day_without_time_is_known_at_its_end(tmp_path: Path) -> None:
    write(tmp_path / "1", StudyTime=None)
    rows = read(tmp_path, time_zone="Europe/Berlin")["events"].row(0, named=True)
    assert rows["time"] == datetime(2024, 2, 28, 23, tzinfo=UTC)
    assert rows["known_time"] == datetime(2024, 2, 29, 22, 59, 59, tzinfo=UTC)


def test_what_cannot_be_placed_is_rejected_or_skipped(tmp_path: Path) -> None:
    write(tmp_path / "1")
    write(tmp_path / "a" / "1")
    write(tmp_path / "2", PatientID="")
    write(tmp_path / "3", StudyDate=None, StudyTime=None)
    write(tmp_path / "4", PatientID="P-2")
    write(tmp_path / "5", SeriesInstanceUID=None)
    cut = write(tmp_path / "6", DeflatedExplicitVRLittleEndian)
    cut.write_bytes(cut.read_bytes()[:-60])
    (tmp_path / "7").touch()
    write(tmp_path / "8", StudyDate="19000101", LongitudinalTemporalInformationModified="REMOVED")
    result = read(tmp_path)
    assert {reject.place: reject.reason for reject in result["rejected"]} == {
        "2": "no PatientID",
        "3": "no date of series, acquisition, study, content or creation",
        "4": "its series is also of another study, or its study of another patient",
        "5": "no SeriesInstanceUID",
        "6": "not readable as DICOM (cut off, malformed or encrypted)",
        "8": "dates were removed by de-identification",
    }
    assert result["skipped"] == {"a second copy of an instance": 1, "empty file": 1}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes_and_character_sets(tmp_path: Path, syntax: str) -> None:
    text = {"SpecificCharacterSet": "ISO_IR 144", "SeriesDescription": "Грудная клетка"}
    write(tmp_path / "1", syntax, **text)
    assert read(tmp_path)["events"]["text_value"].to_list()[0] == "Грудная клетка"


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "1", ImplicitVRLittleEndian)
    dataset = pydicom.dcmread(whole)
    bare = Dataset()
    bare.update(dataset)
    bare.save_as(whole, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert whole.read_bytes()[128:132] != b"DICM"
    assert "IMAGING//CT" in read(tmp_path)["events"]["code"].to_list()


def test_a_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / "tree" / "a" / f"{number}")
    with zipfile.ZipFile(tmp_path / "tree.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "tree").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "tree"))
    assert read(tmp_path / "tree.zip")["events"].equals(read(tmp_path / "tree")["events"])
    cut = tmp_path / "cut.zip"
    cut.write_bytes((tmp_path / "tree.zip").read_bytes()[:200])
    source = dicom_sources(cut)[0]
    assert [r.reason for batch in source.read() for r in batch.rejected] == [
        "not a readable zip file (cut off or malformed)"
    ]


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / f"{number}", SeriesInstanceUID=f"1.2.{number % 3}", StudyInstanceUID=f"1.3.{number % 3}")
    assert read(tmp_path)["events"].equals(read(tmp_path)["events"])


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        dicom_sources(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="no DICOM file here"):
        dicom_sources(tmp_path)
    with pytest.raises(InputError, match="IANA name"):
        dicom_sources(tmp_path, time_zone="Mars/Olympus")


@pytest.mark.parametrize(
    ("written", "start", "latest"),
    [
        ("2015", datetime(2015, 1, 1), datetime(2015, 12, 31, 23, 59, 59)),
        ("201502", datetime(2015, 2, 1), datetime(2015, 2, 28, 23, 59, 59)),
        ("20150203", datetime(2015, 2, 3), datetime(2015, 2, 3, 23, 59, 59)),
        ("2015020304", datetime(2015, 2, 3, 4), datetime(2015, 2, 3, 4)),
        ("20150203040560.25+0100", datetime(2015, 2, 3, 3, 5, 59, 250_000), datetime(2015, 2, 3, 3, 5, 59, 250_000)),
    ],
)
def test_partial_times(written: str, start: datetime, latest: datetime) -> None:
    moment = parse_datetime(written, UTC)
    assert moment is not None
    assert (moment.time.replace(tzinfo=None), moment.latest.replace(tzinfo=None)) == (start, latest)


def test_old_and_impossible_dates() -> None:
    assert parse_date("1993.08.22") == parse_date("19930822") == datetime(1993, 8, 22, tzinfo=UTC)
    assert parse_date("20230229") is None
    assert parse_datetime("00010101", UTC) is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_events_or_a_counted_reject(tmp_path: Path, data: st.DataObject) -> None:
    seeds = [SHIPPED / "test_files" / name for name in ("reportsi.dcm", "MR_small_implicit.dcm", "image_dfl.dcm")]
    content = bytearray(data.draw(st.sampled_from(seeds)).read_bytes()[:6000])
    for _ in range(data.draw(st.integers(0, 20))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    extra = data.draw(st.binary(max_size=200))
    file = tmp_path / "x"
    file.write_bytes(bytes(content[: data.draw(st.integers(132, len(content)))]) + extra)
    read(tmp_path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400))
def test_any_bytes_behind_the_prefix(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x").write_bytes(b"\0" * 128 + b"DICM" + body)
    assert read(tmp_path)["rows"] == 1
