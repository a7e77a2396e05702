"""Series found below a path and read into volumes: all of pydicom's images, zips, any order, several volumes."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.series import find_series, read_series, stacks_of, survey

PYDICOM = Path(pydicom.__file__).parent / "data"
FILES = sorted(f for f in (PYDICOM / "test_files").rglob("*") if f.is_file() and "TINY_ALPHA" not in f.parts)
# What pydicom itself cannot decode here, or only by guessing how long the data should be.
REFUSED = {
    "JPEG-lossy.dcm": "cannot be decoded", "JPGExtended.dcm": "cannot be decoded",
    "JPEG2000-embedded-sequence-delimiter.dcm": "codestream", "MR_truncated.dcm": "8,130 of 8,192 bytes",
    "badVR.dcm": "NumberOfFrames",
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_file_of_pydicom_reads_as_pydicom_reads_it_or_is_refused(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / file.name)
    found = survey(tmp_path).series
    assert found or file.name not in REFUSED
    for series in found:
        if series.kind != "image":
            continue
        if file.name in REFUSED:
            with pytest.raises(RefusedSeriesError, match=REFUSED[file.name]):
                read_series(series)
        elif series.slices:
            _same_as_pydicom(read_series(series).voxels, file)


def _same_as_pydicom(voxels: np.ndarray[Any, Any], file: Path) -> None:
    header = pydicom.dcmread(file)
    expected = header.pixel_array
    if header.PhotometricInterpretation == "PALETTE COLOR":
        expected = pydicom.pixels.apply_color_lut(expected, header)
    elif header.PhotometricInterpretation == "MONOCHROME1":
        expected = (1 << header.BitsStored) - 1 - expected
    if header.get("Modality") == "RTDOSE":
        expected = expected * float(header.DoseGridScaling)
    else:
        expected = pydicom.pixels.apply_modality_lut(expected, header)
    np.testing.assert_allclose(voxels, expected.reshape(voxels.shape), rtol=1e-6)


def test_a_folder_of_files_is_one_volume_in_hounsfield_units(tmp_path: Path, made: Any) -> None:
    slices = made.slices()
    (found,) = find_series(made.write(tmp_path, slices[::-1]))
    volume = read_series(found)
    assert (found.modality, found.kind, len(found.slices)) == ("CT", "image", 6)
    np.testing.assert_array_equal(volume.voxels, [made.stored(s).astype(int) - 1024 for s in slices])
    assert volume.voxels.dtype == np.int16
    assert volume.unit == "[hnsf'U]"
    np.testing.assert_allclose(volume.affine[:3], [[0, 0, 0.75, -100], [0, 0.5, 0, -90.5], [2.5, 0, 0, 0]])
    assert volume.source.instances == tuple(s.SOPInstanceUID for s in slices)
    assert volume.source.files == tuple(str(tmp_path / f"{5 - n:03}.dcm") for n in range(6))
    assert volume.source.patient_id == slices[0].PatientID
    assert volume.source.acquired == datetime(1997, 4, 30, 16, 29, 36, tzinfo=UTC)  # 11:29:36 at -0500


def test_a_zip_holds_what_its_folder_holds_and_bad_members_are_named(tmp_path: Path, made: Any) -> None:
    folder = made.write(tmp_path / "folder", made.slices())
    archive = tmp_path / "series.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in folder.iterdir():
            packed.write(file, f"CT/{file.name}")
        packed.write(folder / "000.dcm", "../outside.dcm")
        packed.writestr("notes.txt", "no image")
    in_zip = survey(archive)
    one, other = read_series(find_series(folder)[0]), read_series(in_zip.series[0])
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert other.source.files[0] == f"{archive}!CT/000.dcm"
    assert [(Path(name).name, why) for name, why in in_zip.unreadable] == [
        ("outside.dcm", "its name leads out of the archive")
    ]
    assert sum(in_zip.skipped.values()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "series.zip"]


def test_a_zip_cut_off_and_a_member_above_the_limit_are_no_crash(
    tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.write(tmp_path / "folder", made.slices(2))
    archive = tmp_path / "series.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(folder / "000.dcm", "a.dcm")
    monkeypatch.setenv("CARELOOP_IMAGE_LIMIT_GIB", "0.000001")
    assert "above the limit" in survey(archive).unreadable[0][1]
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputError, match="no DICOM series here"):
        find_series(archive)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_any_order_of_files_gives_the_same_volume(order: list[int], made: Any) -> None:
    slices = made.slices(5)
    with tempfile.TemporaryDirectory() as folder:
        volume = read_series(find_series(made.write(Path(folder), [slices[n] for n in order]))[0])
    np.testing.assert_array_equal(volume.voxels, [made.stored(s) - 1024 for s in slices])
    assert volume.affine[2, 3] == 0.0
    assert volume.affine[2, 0] == 2.5


def test_two_volumes_in_one_series_must_be_chosen_between(tmp_path: Path, made: Any) -> None:
    slices = made.slices(8)
    for number, one in enumerate(slices):
        one.ImagePositionPatient[2] = f"{number // 2 * 2.5}"
        one.EchoTime = f"{10 * (1 + number % 2)}"
    (found,) = find_series(made.write(tmp_path, slices))
    assert [stack.varies for stack in stacks_of(found)] == [{"EchoTime": "10"}, {"EchoTime": "20"}]
    with pytest.raises(InputError, match=r"holds 2 volumes.*1: EchoTime 10, 4 slices; 2: EchoTime 20"):
        read_series(found)
    with pytest.raises(InputError, match="got 3"):
        read_series(found, stack=3)
    volume = read_series(found, stack=2)
    np.testing.assert_array_equal(volume.voxels, [made.stored(s) - 1024 for s in slices[1::2]])


def test_a_slice_that_cannot_be_read_refuses_its_series_not_the_others(tmp_path: Path, made: Any) -> None:
    slices, others = made.slices(4), made.slices(3)
    for one in others:
        one.SeriesInstanceUID = "1.2.3"
    slices[2].PixelData = slices[2].PixelData[:100]
    slices[2].save_as(tmp_path / "cut.dcm")
    made.write(tmp_path / "rest", [*slices[:2], slices[3]])
    made.write(tmp_path / "others", others)
    found = {series.series: series for series in find_series(tmp_path)}
    with pytest.raises(RefusedSeriesError, match=r"cut\.dcm: its pixel data are cut off: 100 of") as refused:
        read_series(found[slices[0].SeriesInstanceUID])
    assert refused.value.findings[0].check == "unreadable slices"
    assert read_series(found["1.2.3"]).voxels.shape == (3, 32, 40)


def test_a_file_without_series_beside_it_is_noted(tmp_path: Path, made: Any) -> None:
    folder = made.write(tmp_path, made.slices(3))
    whole = (folder / "000.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:400])
    volume = read_series(find_series(folder)[0])
    assert any(f.check == "unreadable files" and "cut.dcm" in f.message for f in volume.findings)


def test_files_of_two_patients_under_one_uid_are_two_series(tmp_path: Path, made: Any) -> None:
    slices = made.slices(4)
    slices[3].PatientID = "another"
    assert [len(series.slices) for series in find_series(made.write(tmp_path, slices))] == [3, 1]


def test_what_is_shown_has_no_patient_in_it(tmp_path: Path, made: Any) -> None:
    slices = made.slices(3)
    for one in slices:
        one.PatientName, one.PatientID, one.SeriesDescription = "Muster^Eva", "PID7781", "Thorax MUSTER pid7781 1mm"
    (found,) = find_series(made.write(tmp_path, slices))
    assert found.description == "Thorax 1mm"
    with pytest.raises(InputError) as error:
        read_series(found, stack=9)
    assert "PID7781" not in f"{found} {error.value}".replace(repr(found.headers), "")


def test_other_objects_are_found_by_kind(tmp_path: Path) -> None:
    names = ("rtstruct.dcm", "liver_1frame.dcm", "reportsi.dcm")
    for name in names:
        shutil.copy(PYDICOM / "test_files" / name, tmp_path)
    kinds = {Path(series.files[0]).name: series for series in find_series(tmp_path)}
    assert [kinds[name].kind for name in names] == ["contours", "segmentation", "other"]
    with pytest.raises(InputError, match="holds no images"):
        read_series(kinds["reportsi.dcm"])


def test_progress_counts_slices(tmp_path: Path, made: Any) -> None:
    told: list[tuple[str, int, int]] = []
    found = find_series(made.write(tmp_path, made.slices(3)), progress=lambda *args: told.append(args))
    read_series(found[0], progress=lambda *args: told.append(args))
    assert told == [(f"{what} read", n, 3) for what in ("headers", "slices") for n in (1, 2, 3)]


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="1 files that are not DICOM"):
        find_series(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        find_series(tmp_path / "none")
