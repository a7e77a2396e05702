"""A record and its images, de-identified under one key, are still one patient's; under another key they are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.clean.privacy.deidentify import deidentify_record
from careloop.clean.privacy.dicom import DicomOptions, PatientLinks, deidentify_dicom, patient_links
from careloop.clean.privacy.dicom.linked import shared_assets
from careloop.clean.privacy.pseudonyms import Pseudonyms, read_key
from careloop.clean.privacy.release import DeidentificationSettings
from careloop.record import Record, subject_ids

pydicom = pytest.importorskip("pydicom")
CT = "1.2.840.10008.5.1.4.1.1.2"
TAKEN = datetime(2024, 2, 29, 10, 15, tzinfo=UTC)


def write(path: Path, patient: str, number: int) -> Path:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"1.2.3.{number}.3"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{number}.1", f"1.2.3.{number}.2"
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient, "Roux^Sophie", "CT"
    dataset.StudyDate, dataset.StudyTime = f"{TAKEN:%Y%m%d}", f"{TAKEN:%H%M%S}"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    record = Record.create(tmp_path_factory.mktemp("hospital") / "record", shards=2)
    ids = subject_ids(record, pl.Series([f"P-{number}" for number in range(12)]))
    rows = [
        {"subject_id": subject, "time": TAKEN, "code": "IMAGING//CT", "source": f"DICOM//series/1.2.3.{number}.2",
         "asset": f"dicom:study/1.2.3.{number}.1/series/1.2.3.{number}.2"}
        for number, subject in enumerate(ids)
    ]  # fmt: skip
    return record.append(pl.DataFrame(rows), key="all")


def test_ids_times_and_addresses_meet(record: Record, tmp_path: Path) -> None:
    for number in (0, 5):
        write(tmp_path / "in" / f"{number}.dcm", f"P-{number}", number)
    deidentify_record(record, tmp_path / "out", key_file=tmp_path / "key")
    key = read_key(tmp_path / "key")
    links = patient_links(record, DeidentificationSettings().pseudonyms(key))
    options = DicomOptions(pseudonym=links.pseudonym, shift_days=links.shift_days)
    deidentify_dicom(tmp_path / "in", tmp_path / "images", key=key, options=options)
    events = Record.open(tmp_path / "out").events().collect()
    files = sorted((tmp_path / "images").rglob("*.dcm"))
    assert len(files) == 2
    for file in files:
        header = pydicom.dcmread(file)
        event = events.filter(subject_id=int(header.PatientID)).row(0, named=True)
        assert event["asset"] == f"dicom:study/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
        assert event["time"] == datetime.strptime(f"{header.StudyDate}{header.StudyTime}+0000", "%Y%m%d%H%M%S%z")
        assert event["time"] < TAKEN
        assert header.PatientName == header.PatientID
    with pytest.raises(InputError, match="other options"):
        deidentify_dicom(tmp_path / "in", tmp_path / "images", key=key, options=DicomOptions())


def test_patients_unknown_to_the_record_get_an_id_of_their_own(record: Record) -> None:
    made = Pseudonyms(b"k" * 32)
    links = patient_links(record, made)
    names = [links.pseudonym(f"P-{number}") for number in range(20)]
    assert len(set(names)) == 20
    assert names[15] == PatientLinks(made).pseudonym("P-15") != PatientLinks(Pseudonyms(b"l" * 32)).pseudonym("P-15")
    assert timedelta(days=-364) <= timedelta(days=links.shift_days("P-15")) < timedelta(0)
    assert patient_links(record, made, origin="site").pseudonym("P-1") != names[1]


def test_other_addresses_are_tokens() -> None:
    made = Pseudonyms(b"k" * 32)
    assets = pl.Series("asset", ["s3://pacs/Roux", None, "dicom:study/Roux", "dicom:study/1.2.3/series/1.2.4"])
    new = shared_assets(assets, made)
    assert new[:3].to_list() == made.tokens(assets[:3]).to_list()
    assert new[3].startswith("dicom:study/2.25.")
    assert new.name == "asset"
    assert shared_assets(assets.head(0), made).is_empty()


def test_a_shared_record_cannot_say_who_is_who(record: Record, tmp_path: Path) -> None:
    deidentify_record(record, tmp_path / "out", key_file=tmp_path / "key")
    with pytest.raises(InputError, match="shared without it"):
        patient_links(Record.open(tmp_path / "out"), Pseudonyms(b"k" * 32))
