"""Restored slices written as a new DICOM series, read back by the room's own reader and checked by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import dicom_series as made
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from careloop import InputError
from careloop.imaging.read.series import find_series, read_series
from careloop.imaging.volume import Volume
from careloop.imaging.write.derived_series import DerivationFacts, write_derived_series

FACTS = DerivationFacts("noise reduced, level 12 HU", "careloop-denoiser 1.0")
HU = np.random.default_rng(0).integers(-1000, 1500, (4, 24, 20)).astype(np.int16)


def read(folder: Path) -> Volume:
    (found,) = find_series(folder)
    return read_series(found)


@pytest.fixture
def ct(tmp_path: Path) -> Volume:
    return made.write_series(tmp_path / "ct", HU, made.affine_of(turn_deg=5))


def restored(volume: Volume, by: float = 0.4) -> Volume:
    return replace(volume, voxels=(volume.voxels + np.float32(by)).astype(np.float32))


def write(volume: Volume, out: Path, what: DerivationFacts = FACTS) -> list[pydicom.Dataset]:
    paths = write_derived_series(volume, volume.source.files, out, what=what)
    return [pydicom.dcmread(path) for path in paths]


def validator_says(path: Path) -> str:
    return subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False).stderr


def errors_of(said: str) -> set[str]:
    return {line for line in said.splitlines() if line.startswith("Error")}


def test_series_is_new_derived_and_says_from_what(ct: Volume, tmp_path: Path) -> None:
    files = write(restored(ct), tmp_path / "out")
    assert len(files) == 4
    for source, file, instance in zip(ct.source.files, files, ct.source.instances, strict=True):
        original = pydicom.dcmread(source)
        for kept in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "ImagePositionPatient", "PixelSpacing",
                     "ImageOrientationPatient", "SOPClassUID", "InstanceNumber", "KVP", "AcquisitionDate"):  # fmt: skip
            assert file[kept].value == original[kept].value, kept
        assert file.SeriesInstanceUID == files[0].SeriesInstanceUID != original.SeriesInstanceUID
        assert file.SOPInstanceUID != original.SOPInstanceUID
        assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
        assert list(file.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert "level 12 HU" in file.DerivationDescription
        assert "not for clinical use" in file.DerivationDescription
        assert file.DerivationCodeSequence[0].CodeValue == "113087"
        (item,) = file.SourceImageSequence
        assert item.ReferencedSOPInstanceUID == instance
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        equipment = file.ContributingEquipmentSequence[-1]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert equipment.ManufacturerModelName == "careloop-denoiser"
        assert file.SeriesDescription.endswith("restored, not for clinical use")
    assert len({file.SOPInstanceUID for file in files}) == 4


def test_it_reads_back_in_the_same_place_rounded_as_the_originals(ct: Volume, tmp_path: Path) -> None:
    write(restored(ct), tmp_path / "out")
    back = read(tmp_path / "out")
    assert np.allclose(back.affine, read(tmp_path / "ct").affine, atol=1e-9)
    assert (back.unit, back.source.study) == ("[hnsf'U]", ct.source.study)
    assert back.voxels.dtype == np.int16
    np.testing.assert_array_equal(back.voxels, HU)


@pytest.mark.parametrize("noise", [0.5, 3.9])
def test_rounding_stays_below_the_noise_that_is_left(ct: Volume, tmp_path: Path, noise: float) -> None:
    volume = restored(ct)
    write(volume, tmp_path / "out", replace(FACTS, noise_sd=noise))
    assert np.abs(read(tmp_path / "out").voxels - volume.voxels).max() <= noise / 8 + 1e-4


def test_values_beyond_the_source_s_range_still_fit(ct: Volume, tmp_path: Path) -> None:
    volume = replace(ct, voxels=ct.voxels * np.float32(40))
    back = np.stack([f.pixel_array * f.RescaleSlope + f.RescaleIntercept for f in write(volume, tmp_path / "out")])
    assert np.abs(back - volume.voxels).max() <= np.ptp(volume.voxels) / 65000


def test_same_content_has_the_same_uids_and_other_content_others(ct: Volume, tmp_path: Path) -> None:
    first, again, other = (
        write(restored(ct, by), tmp_path / name)[0] for by, name in ((0.4, "a"), (0.4, "b"), (3.0, "c"))
    )
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID != other.SeriesInstanceUID


def test_what_was_true_of_the_source_s_bytes_alone_is_left_out(ct: Volume, tmp_path: Path) -> None:
    name = ct.source.files[1]
    source = pydicom.dcmread(name)
    source.add_new(0x60003000, "OW", b"\0" * 60)
    source.add_new(0x00091001, "LO", "private")
    source.add_new("SmallestImagePixelValue", "SS", -1000)
    source.SeriesDescription = "Thorax " * 8
    source.WindowCenter, source.LossyImageCompression, source.BurnedInAnnotation = 40, "01", "YES"
    source.save_as(name)
    file = write(restored(ct), tmp_path / "out")[1]
    assert 0x60003000 not in file
    assert 0x00091001 not in file
    assert "SmallestImagePixelValue" not in file
    assert (file.WindowCenter, file.LossyImageCompression, file.BurnedInAnnotation) == (40, "01", "YES")
    assert len(file.SeriesDescription) <= 64
    assert file.SeriesDescription.startswith("Thorax")
    assert file.SeriesDescription.endswith("restored, not for clinical use")


def test_finer_pixels_get_their_spacing_and_place(ct: Volume, tmp_path: Path) -> None:
    affine = ct.affine.copy()
    affine[:3, 1:3] /= 2
    fine = replace(ct, voxels=ct.voxels.repeat(2, 1).repeat(2, 2), affine=affine)
    files = write(fine, tmp_path / "out", replace(FACTS, derivation="resolution"))
    assert files[0].DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    back = read(tmp_path / "out")
    assert np.allclose(back.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(back.voxels, fine.voxels)


def test_enhanced_frames_refer_to_their_source_frames(tmp_path: Path) -> None:
    volume = made.write_enhanced(tmp_path / "e.dcm", HU, made.affine_of(), echoes=2)
    (file,) = write(restored(volume), tmp_path / "out", replace(FACTS, noise_sd=1.0))
    assert int(file.NumberOfFrames) == 4
    assert list(file.ImageType)[:2] == ["DERIVED", "PRIMARY"]
    groups = file.PerFrameFunctionalGroupsSequence
    named = [g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for g in groups]
    assert tuple(named) == volume.source.frames
    back = read(tmp_path / "out")
    assert np.allclose(back.affine, volume.affine, atol=1e-6)
    assert np.abs(back.voxels - restored(volume).voxels).max() < 0.15


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm"])
def test_real_files_keep_their_values_and_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(str(get_testdata_file(name)), tmp_path / "in")
    volume = read(tmp_path / "in")
    write(volume, tmp_path / "out")
    back = read(tmp_path / "out")
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    assert np.allclose(back.affine, volume.affine, atol=1e-9)
    assert back.unit == volume.unit


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", None])
def test_validator_finds_no_error_that_the_source_has_not(name: str | None, ct: Volume, tmp_path: Path) -> None:
    volume = ct
    if name is not None:
        (tmp_path / "in").mkdir()
        shutil.copy(str(get_testdata_file(name)), tmp_path / "in")
        volume = read(tmp_path / "in")
    (first, *_) = write_derived_series(
        restored(volume), volume.source.files, tmp_path / "out", what=replace(FACTS, noise_sd=1.0)
    )
    said = validator_says(first)
    assert "Image" in said
    assert not errors_of(said) - errors_of(validator_says(Path(volume.source.files[0])))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
def test_validator_finds_no_new_error_in_an_enhanced_image(tmp_path: Path) -> None:
    volume = made.write_enhanced(tmp_path / "e.dcm", HU, made.affine_of())
    (path,) = write_derived_series(restored(volume), volume.source.files, tmp_path / "out", what=FACTS)
    assert not errors_of(validator_says(path)) - errors_of(validator_says(tmp_path / "e.dcm"))


def changed(volume: Volume, sop_class: str, **elements: object) -> None:
    """Make the files of `volume` images of another kind."""
    for name in volume.source.files:
        file = pydicom.dcmread(name)
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = sop_class
        for keyword, value in elements.items():
            if value is None:
                delattr(file, keyword)
            else:
                setattr(file, keyword, value)
        file.save_as(name)


def test_pet_in_suv_is_stored_as_suv(tmp_path: Path) -> None:
    dose = pydicom.Dataset()
    dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = 3e8, 6586.2
    dose.RadiopharmaceuticalStartTime = "091200"
    counts = made.write_series(tmp_path / "pet", np.abs(HU), made.affine_of())
    changed(counts, pydicom.uid.PositronEmissionTomographyImageStorage, Modality="PT", Units="BQML", PatientWeight=70,
            DecayCorrection="START", CorrectedImage=["ATTN", "DECY"], RescaleType=None, RescaleSlope="12.5",
            RadiopharmaceuticalInformationSequence=[dose])  # fmt: skip
    volume = read(tmp_path / "pet")
    files = write(volume, tmp_path / "out")
    assert {(f.Units, f.SUVType, float(f.RescaleIntercept)) for f in files} == {("GML", "BW", 0)}
    back = read(tmp_path / "out")
    assert back.unit == volume.unit == "g/mL"
    assert np.abs(back.voxels - volume.voxels).max() < 1e-4 * volume.voxels.max()


def test_a_radiograph_with_high_values_dark_is_stored_with_high_values_bright(tmp_path: Path) -> None:
    source = made.write_series(tmp_path / "cr", np.abs(HU[:1]), made.affine_of())
    no = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType", "ImagePositionPatient"))
    changed(source, pydicom.uid.ComputedRadiographyImageStorage, Modality="CR", PhotometricInterpretation="MONOCHROME1",
            BitsStored=12, HighBit=11, PixelRepresentation=0, WindowCenter=500, WindowWidth=400, **no)  # fmt: skip
    volume = read(tmp_path / "cr")
    (file,) = write(restored(volume, 0.2), tmp_path / "out")
    assert (file.PhotometricInterpretation, file.BitsStored) == ("MONOCHROME2", 12)
    assert "WindowCenter" not in file
    assert "RescaleSlope" not in file
    np.testing.assert_array_equal(read(tmp_path / "out").voxels, volume.voxels)


def test_originals_are_never_overwritten(ct: Volume, tmp_path: Path) -> None:
    before = Path(ct.source.files[0]).read_bytes()
    with pytest.raises(InputError, match="new or an empty folder"):
        write(restored(ct), tmp_path / "ct")
    assert Path(ct.source.files[0]).read_bytes() == before
    with pytest.raises(InputError, match="new or an empty folder"):
        write(restored(ct), Path(ct.source.files[0]))


def test_what_cannot_be_a_derived_series_is_refused(ct: Volume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DICOM images"):
        write_derived_series(ct, (), tmp_path / "a", what=FACTS)
    with pytest.raises(InputError, match="one image a slice"):
        write_derived_series(replace(ct, voxels=ct.voxels[1:]), ct.source.files, tmp_path / "b", what=FACTS)
    with pytest.raises(InputError, match="finite"):
        write(replace(ct, voxels=np.full(HU.shape, np.nan, np.float32)), tmp_path / "c")
    enhanced = made.write_enhanced(tmp_path / "e.dcm", HU, made.affine_of())
    with pytest.raises(InputError, match="rows and columns of its source"):
        write(replace(enhanced, voxels=HU.repeat(2, 1)), tmp_path / "d")
    assert not any((tmp_path / name).exists() for name in "abcd")
