"""De-identified DICOM: nothing of the original's names, ids, dates and UIDs is left in pydicom's own files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from careloop import InputError
from careloop.clean.privacy.dicom import DeidentifiedDicom, DicomOptions, Rectangle, deidentify_dicom
from careloop.clean.privacy.dicom.dataset import keyed_uid
from careloop.clean.privacy.dicom.profile import action_on, basic_profile

SHIPPED = Path(pydicom.__file__).parent / "data"
KEY = b"a made-up key of 32 bytes length"
EVERYTHING = DicomOptions(
    shift_days=lambda _: -777,
    clean_text=lambda text: text,
    patient_characteristics="keep",
    private="keep_safe",
    pixel_text="keep",
)
IDENTIFYING = {
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "InstitutionName",
    "InstitutionAddress", "StationName", "DeviceSerialNumber", "PatientAddress", "RequestedProcedureID",
    "ScheduledProcedureStepID", "PerformedProcedureStepID", "PatientTelephoneNumbers",
}  # fmt: skip
CT, US, SC = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "6.1", "7"))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def elements(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    """(keyword, VR, value) of every value at every depth, but private ones."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            values = element.value if element.VM > 1 else [element.value]
        except Exception:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        elif not tag.is_private:
            yield from ((element.keyword, element.VR, str(value).strip().strip("\0")) for value in values)


def identifying(dataset: Dataset) -> set[str]:
    """Words of names, numbers, dates and UIDs that no one may find again; short ones occur by chance."""
    found: set[str] = set()
    for keyword, vr, value in elements(dataset):
        if vr == "PN":
            found |= {word for word in re.split(r"[\W_]+", value) if len(word) >= 4}
        elif vr == "UI" and not value.startswith("1.2.840.10008."):
            found.add(value)
        elif vr in {"DA", "DT"} and len(value) >= 8:
            found.add(value[:8])
        elif keyword in IDENTIFYING and len(value) >= 4:
            found.add(value)
    return found - {""}


def left(original: Dataset, file: Path) -> set[str]:
    """What of `original` still stands in a file: anywhere in its bytes, or in its values where bytes are compressed."""
    content = file.read_bytes().decode("latin-1")
    written = pydicom.dcmread(file)
    content += "\n".join(value for _, _, value in elements(written))
    # Body parts and the like are terms of a list, also where a phantom is named after one; a zero is a zero.
    terms = {value for _, vr, value in elements(written) if vr in {"CS", "DS", "IS"}}
    chosen = {word for word in identifying(original) if set(word) - {"0", "1"} and word not in terms}
    return {word for word in chosen if re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", content)}


def write(path: Path, **values: Any) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"II*\0" + b"Sophie Roux".ljust(124, b"\0"))
    plain = {
        "SOPClassUID": CT,
        "SOPInstanceUID": f"1.2.3.{path.stem}",
        "StudyInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3.4.5",
        "PatientID": "MRN-0815",
        "PatientName": "Roux^Sophie",
        "PatientAge": "093Y",
        "PatientBirthDate": "19310704",
        "StudyDate": "20240229",
        "StudyTime": "101500",
        "Modality": "CT",
        "StudyDescription": "CT of Sophie's chest",
        "SeriesDescription": "lung window",
        "SoftwareVersions": "v1",
    }
    for keyword, value in (plain | values).items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def image(path: Path, **values: Any) -> np.ndarray:
    """A made-up 8-bit image of 255 everywhere, written to `path`."""
    pixels = np.full((10, 12), 255, dtype=np.uint8)
    size = {"Rows": 10, "Columns": 12, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    write(path, **size, **bits, PixelData=pixels.tobytes(), **values)
    return pixels


def only(out: Path) -> Dataset:
    (file,) = out.rglob("*.dcm")
    return pydicom.dcmread(file)


def run(tmp_path: Path, options: DicomOptions | None = None) -> DeidentifiedDicom:
    return deidentify_dicom(tmp_path / "in", tmp_path / "out", key=KEY, options=options)


@pytest.mark.parametrize("options", [DicomOptions(pixel_text="keep"), EVERYTHING], ids=["basic", "all options"])
@pytest.mark.parametrize("folder", ["test_files", "charset_files"])
def test_nothing_identifying_is_left_in_pydicoms_own_files(folder: str, options: DicomOptions, tmp_path: Path) -> None:
    written = 0
    for number, file in enumerate(sorted(file for file in (SHIPPED / folder).rglob("*") if file.is_file())):
        place, out = tmp_path / f"in{number}", tmp_path / f"out{number}"
        place.mkdir()
        shutil.copy(file, place / "x")
        result = deidentify_dicom(place, out, key=KEY, options=options)
        assert result.files_read == result.files_written + len(result.refused) == 1
        for new in out.rglob("*.dcm"):
            written += 1
            assert left(pydicom.dcmread(file, force=True), new) == set(), file.name
            assert not any(uid in str(new) for uid in identifying(pydicom.dcmread(file, force=True)) if len(uid) > 9)
    assert written > (100 if folder == "test_files" else 10)


def test_the_table_holds_rows_of_the_standard() -> None:
    """Rows read off PS3.15 Table E.1-1 by hand; what it leaves open is decided for the object's validity."""
    rows = {
        (0x0008, 0x0050): "empty",  # Accession Number: Z
        (0x0008, 0x0018): "uid",  # SOP Instance UID: U
        (0x0010, 0x0010): "empty",  # Patient's Name: Z
        (0x0010, 0x1000): "remove",  # Other Patient IDs: X
        (0x0008, 0x0022): "empty",  # Acquisition Date: X/Z
        (0x0008, 0x0023): "dummy",  # Content Date: Z/D
        (0x0018, 0x1030): "dummy",  # Protocol Name: X/D
        (0x0008, 0x1140): "inside",  # Referenced Image Sequence: X/Z/U*
        (0x0040, 0xA730): "dummy",  # Content Sequence: D
        (0x0018, 0x1000): "dummy",  # Device Serial Number: X/Z/D
        (0x0008, 0x0080): "dummy",  # Institution Name: X/Z/D
        (0x0020, 0x0052): "uid",  # Frame of Reference UID: U
    }
    table = basic_profile()
    assert {tag: table[tag[0] << 16 | tag[1]] for tag in rows} == rows
    assert len(table) > 640


def test_kinds_without_a_row_are_still_safe() -> None:
    basic = DicomOptions()
    assert action_on(0x60003000, "OverlayData", "OW", basic) == "remove"
    assert action_on(0x00999999, "NewName", "PN", basic) == "empty"
    assert action_on(0x00999999, "NewUID", "UI", basic) == "uid"
    assert action_on(0x00999999, "NewDate", "DA", basic) == "empty"
    assert action_on(0x00999999, "NewDate", "DA", EVERYTHING) == "shift"
    assert action_on(0x00999999, "New", "UN", basic) == "remove"
    assert action_on(0x00100030, "PatientBirthDate", "DA", EVERYTHING) == "empty"


def test_basic_profile(tmp_path: Path) -> None:
    write(tmp_path / "in" / "roux" / "1")
    result = run(tmp_path)
    dataset = only(tmp_path / "out")
    assert (result.files_written, result.refused) == (1, ())
    assert dataset.PatientID == dataset.PatientName != "MRN-0815"
    assert dataset.StudyDate == ""
    assert "StudyDescription" not in dataset
    assert "PatientAge" not in dataset
    assert dataset.SoftwareVersions == "v1"
    assert dataset.preamble == b"\0" * 128
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == keyed_uid(KEY, "1.2.3.1")
    assert dataset.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100"]
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"


def test_options_are_applied_and_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "1")
    seen: list[str] = []

    def days(patient: str) -> int:
        seen.append(patient)
        return 10

    run(tmp_path, DicomOptions(shift_days=days, clean_text=str.upper, patient_characteristics="keep"))
    dataset = only(tmp_path / "out")
    assert seen == ["MRN-0815"]
    assert (dataset.StudyDate, dataset.StudyTime) == ("20240310", "101500")
    assert dataset.PatientBirthDate == ""
    assert dataset.PatientAge == "090Y"
    assert dataset.SeriesDescription == "LUNG WINDOW"
    assert not dataset.StudyDescription  # it named the patient
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113107", "113108"]
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"


@given(
    days=st.integers(-3650, 3650),
    first=st.dates(date(1950, 1, 1), date(2080, 1, 1)),
    gap=st.integers(0, 20_000),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shifting_keeps_the_days_between(tmp_path: Path, days: int, first: date, gap: int) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    second = first + timedelta(days=gap)
    write(tmp_path / "in" / "1", StudyDate=f"{first:%Y%m%d}", AcquisitionDateTime=f"{second:%Y%m%d}120000.5+0100")
    run(tmp_path, DicomOptions(shift_days=lambda _: days))
    dataset = only(tmp_path / "out")
    moved = [date.fromisoformat(dataset[name].value[:8]) for name in ("StudyDate", "AcquisitionDateTime")]
    assert moved == [first + timedelta(days=days), second + timedelta(days=days)]
    assert dataset.AcquisitionDateTime.endswith("120000.5+0100")


def test_sequences_private_attributes_and_references(tmp_path: Path) -> None:
    request, reference = Dataset(), Dataset()
    request.RequestedProcedureID, request.ReferringPhysicianName = "RP-77", "Curie^Marie"
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT, "1.2.3.2"
    inner = Dataset()
    inner.SourceImageSequence = [reference]
    inner.add_new(0x00291010, "LO", "private and Roux")
    path = write(tmp_path / "in" / "1", RequestAttributesSequence=[request], DerivationImageSequence=[inner])
    dataset = pydicom.dcmread(path)
    siemens = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    siemens.add_new(0x0C, "IS", "800")
    siemens.add_new(0x55, "LO", "Roux")
    dataset.save_as(path)
    write(tmp_path / "in" / "2")
    run(tmp_path, DicomOptions(private="keep_safe"))
    files = {pydicom.dcmread(file).SOPInstanceUID: file for file in (tmp_path / "out").rglob("*.dcm")}
    new = pydicom.dcmread(files[keyed_uid(KEY, "1.2.3.1")])
    assert "RequestAttributesSequence" not in new
    referenced = new.DerivationImageSequence[0].SourceImageSequence[0]
    assert referenced.ReferencedSOPClassUID == CT
    assert referenced.ReferencedSOPInstanceUID in files
    assert new.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 800
    assert 0x55 not in new.private_block(0x0019, "SIEMENS MR HEADER")
    assert not any(tag.is_private for tag in new.DerivationImageSequence[0].keys())  # noqa: SIM118


def test_new_uids_are_keyed_valid_and_of_one_kind() -> None:
    new = keyed_uid(KEY, "1.2.3")
    assert UID(new).is_valid
    assert new.startswith("2.25.")
    assert new == keyed_uid(KEY, "1.2.3") != keyed_uid(KEY + b"x", "1.2.3")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in annotation"),
        ({"Modality": "US", "SOPClassUID": US}, "ultrasound image: text is usually burned in"),
        ({"SOPClassUID": SC}, "secondary capture: text may be burned in"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen shot: text may be burned in"),
    ],
)
def test_images_that_may_show_text_are_refused(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    image(tmp_path / "in" / "1", **values)
    result = run(tmp_path)
    assert result.reasons == {reason: 1}
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_reports_and_documents_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "in" / "1", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    write(tmp_path / "in" / "2", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", EncapsulatedDocument=b"%PDF")
    write(tmp_path / "in" / "3", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")
    (tmp_path / "in" / "readme").write_text("no image")
    result = run(tmp_path)
    assert result.files_written == 1
    assert sorted(place for place, _ in result.refused) == ["1", "2", "readme"]


def test_blanking_keeps_only_the_ultrasound_regions(tmp_path: Path) -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 3
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 9, 8
    image(tmp_path / "in" / "1", Modality="US", SOPClassUID=US, SequenceOfUltrasoundRegions=[region])
    run(tmp_path, DicomOptions(pixel_text="blank", rectangles=[Rectangle(0, 0, 4, 4)]))
    dataset = only(tmp_path / "out")
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[3:9, 2:10] = 255
    expected[0:4, 0:4] = 0
    assert np.array_equal(dataset.pixel_array, expected)
    assert dataset.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]


def test_blanking_without_an_area_is_refused_and_other_images_stay(tmp_path: Path) -> None:
    pixels = image(tmp_path / "in" / "1")
    image(tmp_path / "in" / "2", SOPClassUID=SC)
    result = run(tmp_path, DicomOptions(pixel_text="blank"))
    assert result.reasons == {"no ultrasound regions and no rectangles say what to blank": 1}
    assert np.array_equal(only(tmp_path / "out").pixel_array, pixels)


def test_modalities_that_the_hospital_suspects_are_blanked_or_refused(tmp_path: Path) -> None:
    image(tmp_path / "in" / "1", Modality="CR", BurnedInAnnotation="NO")
    suspect = ("cr", "DX")
    refused = deidentify_dicom(
        tmp_path / "in", tmp_path / "no", key=KEY, options=DicomOptions(suspect_modalities=suspect)
    )
    assert refused.reasons == {"suspect modality: text may be burned in": 1}
    run(tmp_path, DicomOptions(pixel_text="blank", suspect_modalities=suspect, rectangles=[Rectangle(0, 0, 12, 2)]))
    pixels = only(tmp_path / "out").pixel_array
    assert (pixels[:2] == 0).all()
    assert (pixels[2:] == 255).all()


@pytest.mark.parametrize(("right", "is_written"), [(11, True), (12, True), (13, False)])
def test_regions_beyond_the_image_tell_nothing(tmp_path: Path, right: int, is_written: bool) -> None:
    """The image was cropped or scaled after the regions were written, as pydicom's own examples were."""
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 3
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right, 8
    image(tmp_path / "in" / "1", Modality="US", SOPClassUID=US, SequenceOfUltrasoundRegions=[region])
    result = run(tmp_path, DicomOptions(pixel_text="blank"))
    assert result.files_written == is_written
    if not is_written:
        assert list(result.reasons) == [
            "ultrasound regions reach beyond the image, and no rectangles say what to blank"
        ]
        other = DicomOptions(pixel_text="blank", rectangles=[Rectangle(0, 0, 12, 4)])
        deidentify_dicom(tmp_path / "in", tmp_path / "other", key=KEY, options=other)
        pixels = only(tmp_path / "other").pixel_array
        assert (pixels[:4] == 0).all()
        assert (pixels[4:] == 255).all()


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / "in" / f"{number}")
    run(tmp_path)
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    whole = {file: file.read_bytes() for file in files}
    files[1].unlink()
    files[2].with_suffix(".part").write_bytes(b"half a file")
    result = run(tmp_path)
    assert (result.files_read, result.files_written, result.files_there) == (3, 1, 2)
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.dcm")} == whole
    assert not list((tmp_path / "out").rglob("*.part"))


def test_user_mistakes(tmp_path: Path) -> None:
    write(tmp_path / "in" / "1")
    with pytest.raises(InputError, match="no such folder"):
        deidentify_dicom(tmp_path / "nothing", tmp_path / "out", key=KEY)
    with pytest.raises(InputError, match="at least 16 bytes, got 5"):
        deidentify_dicom(tmp_path / "in", tmp_path / "out", key=b"short")
    with pytest.raises(InputError, match="must not lie inside"):
        deidentify_dicom(tmp_path / "in", tmp_path / "in" / "out", key=KEY)
    with pytest.raises(InputError, match="must be an empty folder"):
        deidentify_dicom(tmp_path / "in", tmp_path, key=KEY)
    run(tmp_path)
    with pytest.raises(InputError, match="another key or other options"):
        deidentify_dicom(tmp_path / "in", tmp_path / "out", key=KEY, options=EVERYTHING)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_written_clean_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    seeds = [SHIPPED / "test_files" / name for name in ("MR_small_implicit.dcm", "rtplan.dcm", "nested_priv_SQ.dcm")]
    content = bytearray(data.draw(st.sampled_from(seeds)).read_bytes()[:8000])
    for _ in range(data.draw(st.integers(0, 20))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "in").mkdir(parents=True)
    (tmp_path / "in" / "x").write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    result = run(tmp_path, EVERYTHING)
    assert result.files_read == result.files_written + len(result.refused) == 1
