"""Which files are read: folders, single files, zip files, and what is none of these."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.ingest.fhir import fhir_sources

Read = Callable[..., Any]
MAN = json.dumps({"resourceType": "Patient", "id": "m", "gender": "male"}).encode()
ORDER = {
    "resourceType": "MedicationRequest",
    "id": "r",
    "subject": {"reference": "Patient/m"},
    "authoredOn": "2020",
    "medicationReference": {"reference": "Medication/d"},
}
DRUG = {"resourceType": "Medication", "id": "d", "code": {"text": "Aspirin"}}


def test_files_of_a_folder_in_their_order(tmp_path: Path) -> None:
    for name in ("b/Patient.ndjson", "a.JSON", "c.jsonl.gz", ".hidden.json", "notes.txt", "b/._x.ndjson"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(MAN)
    assert [source.name for source in fhir_sources(tmp_path)] == ["a.JSON", "b/Patient.ndjson", "c.jsonl.gz"]


def test_members_of_a_zip_file(read_path: Read, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("out/MedicationRequest.ndjson", json.dumps(ORDER))
        archive.writestr("out/Medication.ndjson", json.dumps(DRUG))
        archive.writestr("out/readme.txt", "none")
    names = [source.name for source in fhir_sources(tmp_path)]
    assert names == ["export.zip/out/Medication.ndjson", "export.zip/out/MedicationRequest.ndjson"]
    assert read_path(tmp_path / "export.zip").rows("code") == [("LOCAL//aspirin",)]
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes((tmp_path / "export.zip").read_bytes()[:200])
    assert read_path(damaged).reasons == {"file ends early or is damaged": 1}


def test_an_encrypted_member_is_a_reject(read_path: Read, tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.ndjson", MAN)
    data = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags: encrypted
        data[data.index(mark) + offset] |= 1
    file.write_bytes(bytes(data))
    assert read_path(file).reasons == {"file ends early or is damaged": 1}


def test_drug_files_belong_to_those_that_refer_to_them(tmp_path: Path) -> None:
    for name in ("Medication.ndjson", "MedicationRequest.ndjson", "Bundle.json"):
        (tmp_path / name).write_bytes(MAN)
    files = {source.name: [file.name for file in source.files] for source in fhir_sources(tmp_path)}
    assert files["MedicationRequest.ndjson"] == ["MedicationRequest.ndjson", "Medication.ndjson"]
    assert files["Bundle.json"] == ["Bundle.json"]


def test_reading_again_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"\n".join([MAN, json.dumps(ORDER | {"id": None}).encode(), b"{"]))
    (source,) = fhir_sources(tmp_path)
    first, again = (list(source.read()) for _ in range(2))
    assert pl.concat(batch.events for batch in first).equals(pl.concat(batch.events for batch in again))
    assert [batch.rejected for batch in first] == [batch.rejected for batch in again]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such file or folder"), ("notes.txt", "not a FHIR file"), ("empty", "no FHIR file")],
)
def test_what_cannot_be_read_says_so_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_bytes(MAN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as error:
        fhir_sources(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_that_is_gone_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(MAN)
    (source,) = fhir_sources(tmp_path)
    (tmp_path / "a.ndjson").unlink()
    assert [reject.reason for batch in source.read() for reject in batch.rejected] == ["file ends early or is damaged"]
