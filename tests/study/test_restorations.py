"""A patient's image restored through the whole way: volume, derived series, page; refusals; the command."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.data import get_testdata_file

from careloop import InputError
from careloop.cli import cli
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.volumes import read_volume
from careloop.imaging.restore.apply import RestorationTask, restore
from careloop.imaging.restore.model import shipped
from careloop.study.image_training import kind_of
from careloop.study.restorations import RestoreTask, restore_images

CT = Path(get_testdata_file("CT_small.dcm", download=False))
MR = Path(get_testdata_file("MR_small.dcm", download=False))


def test_a_real_ct_slice_becomes_a_derived_series_and_a_page(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    task = RestoreTask(CT, RestorationTask("low-dose"))
    made = restore_images(task, tmp_path / "out", notify=lambda *said: heard.append(said))
    assert heard[::2] == [("restore", "running"), ("dicom", "running"), ("report", "running")]
    (file,) = made.dicom
    before, after = pydicom.dcmread(CT), pydicom.dcmread(file)
    assert after.ImageType[0] == "DERIVED"
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert "not for clinical use" in after.SeriesDescription
    written = read_volume(file)
    assert np.allclose(written.affine, read_volume(CT).affine)
    assert np.abs(written.voxels - made.volume.voxels).max() <= 0.5 + 1e-3  # HU, by rounding
    assert "before" in (tmp_path / "out" / "report.html").read_text().lower()
    heard.clear()
    restore_images(task, tmp_path / "out", notify=lambda *said: heard.append(said))
    assert {state for _, state in heard} == {"unchanged"}


def test_dicom_of_a_kind_that_gives_no_derived_series_is_restored_all_the_same(tmp_path: Path) -> None:
    header = pydicom.dcmread(MR)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    header.save_as(tmp_path / "captured.dcm")
    made = restore_images(
        RestoreTask(tmp_path / "captured.dcm", RestorationTask("upsample", factor=2)), tmp_path / "out"
    )
    assert made.dicom == ()
    (said,) = (finding.message for finding in made.findings if finding.check == "derived series")
    assert "Secondary Capture Image Storage" in said
    assert (tmp_path / "out" / "restored.nii.gz").exists()
    assert "Secondary Capture" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(InputError, match="no DICOM series to send"):
        made.send("http://localhost:1")


@pytest.mark.filterwarnings("error")
def test_what_a_source_states_against_the_standard_is_no_concern_of_its_user(tmp_path: Path) -> None:
    header = pydicom.dcmread(MR)
    with warnings.catch_warnings(action="ignore"):
        header.SoftwareVersions = "a" * 65
        header.save_as(tmp_path / "long.dcm")
    task = RestoreTask(tmp_path / "long.dcm", RestorationTask("upsample", factor=2))
    assert len(restore_images(task, tmp_path / "out").dicom) == 1


def test_noise_that_was_added_to_a_real_slice_is_taken_out_of_it() -> None:
    from scipy.ndimage import gaussian_filter

    volume = read_volume(CT)
    clean = gaussian_filter(volume.voxels.astype(float), (0, 1, 1))  # the slice's own noise is not to be counted
    noise = 80 * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = type(volume)(clean + noise, volume.affine, volume.modality, volume.unit)
    made = restore(noisy, RestorationTask("denoise"), threads=1)
    assert made.levels[0] == pytest.approx(80, rel=0.15)
    left = made.volume.voxels - clean
    assert np.sqrt(np.mean(left**2)) < 0.45 * 80
    assert made.expected_error is not None
    assert np.abs(left).mean() == pytest.approx(made.expected_error.mean(), rel=0.5)


def test_noise_unlike_that_of_training_is_refused() -> None:
    from scipy.ndimage import gaussian_filter

    volume = read_volume(CT)
    grain = gaussian_filter(np.random.default_rng(0).standard_normal(volume.voxels.shape), (0, 1.2, 1.2))
    noisy = type(volume)(volume.voxels + 100 * grain / grain.std(), volume.affine, "CT", volume.unit)
    with pytest.raises(RefusedSeriesError, match="noise unlike training"):
        restore(noisy, RestorationTask("denoise", level=100.0), threads=1)


def test_ct_that_was_filtered_is_refused_instead_of_blurred() -> None:
    from scipy.ndimage import median_filter

    volume = read_volume(CT)
    other = median_filter(volume.voxels[0].astype(np.float32), 9)
    with pytest.raises(RefusedSeriesError, match="follows the outlines in the image"):
        restore(replace(volume, voxels=other[None]), RestorationTask(), threads=1)


@pytest.mark.parametrize("amount", [0, 2])
def test_ct_of_a_sharper_kernel_keeps_its_outlines(amount: int) -> None:
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

    volume = read_volume(CT)
    hu = volume.voxels[0].astype(np.float32)
    sharp = hu + amount * (hu - gaussian_filter(hu, 1))
    made = restore(replace(volume, voxels=sharp[None]), RestorationTask(), threads=1)
    before, after = (gaussian_gradient_magnitude(image.astype(float), 1) for image in (sharp, made.volume.voxels[0]))
    steep = before > np.percentile(before, 99)
    assert after[steep].mean() > 0.95 * before[steep].mean()
    flat = before < np.percentile(before, 50)
    assert after[flat].mean() < 0.8 * before[flat].mean()


def test_an_image_without_white_noise_is_refused_instead_of_copied() -> None:
    with pytest.raises(RefusedSeriesError, match="no gaussian noise was found"):
        restore(read_volume(CT), RestorationTask("denoise"), threads=1)


def test_pixels_that_are_not_square_are_not_sharpened() -> None:
    volume = read_volume(CT)
    longer = type(volume)(volume.voxels, volume.affine @ np.diag([1, 1, 1.5, 1]), "CT", volume.unit)
    with pytest.raises(InputError, match="square pixels"):
        restore(longer, RestorationTask("deblur", blur_mm=1.0), threads=1)


def test_an_mr_slice_is_not_taken_for_a_low_dose_ct() -> None:
    with pytest.raises(RefusedSeriesError, match="the model is for CT"):
        restore(read_volume(MR), RestorationTask("low-dose"), threads=1)


def test_a_localizer_is_no_low_dose_ct(tmp_path: Path) -> None:
    header = pydicom.dcmread(CT)
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    header.save_as(tmp_path / "localizer.dcm")
    with pytest.raises(RefusedSeriesError, match="not in Hounsfield units: a localizer"):
        restore(read_volume(tmp_path / "localizer.dcm"), RestorationTask(), threads=1)


def test_command_says_what_it_did(tmp_path: Path) -> None:
    arguments = ["image", "restore", str(MR), "--out", str(tmp_path / "out"), "--task", "upsample", "--json"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["not_for_clinical_use"]
    assert "resolution raised 2 times" in shown["done"]
    before, after = read_volume(MR), read_volume(Path(shown["dicom"][0]))
    assert after.voxels.shape[1:] == tuple(2 * n for n in before.voxels.shape[1:])
    assert np.allclose(after.spacing_mm[1:], np.array(before.spacing_mm[1:]) / 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("task", "message"), [("bias-field", "takes no network"), ("low-dose", "Only denoising can be adapted")]
)
def test_what_cannot_be_adapted_to_is_refused(task: str, message: str, tmp_path: Path) -> None:
    arguments = ["image", "restore", str(CT), "--out", str(tmp_path / "out"), "--task", task, "--adapt"]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("degradation", ["gaussian noise", "low-dose CT"])
def test_shipped_weights_are_small_and_say_where_they_are_from(degradation) -> None:
    model = shipped(degradation)
    size = sum(file.stat().st_size for file in model.folder.iterdir())
    assert size < 5e6
    assert "Apache-2.0" in model.said.licence
    assert model.said.training["data"]


def test_what_is_trained_follows_from_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    (tmp_path / "b.csv").write_text("image,subject_id,label\n")
    assert kind_of(tmp_path / "a.npz") == "classify"
    assert kind_of(tmp_path / "b.csv") == "classify"
    (tmp_path / "c.csv").write_text("image,subject_id,x_mm,y_mm,z_mm,diameter_mm\n")
    assert kind_of(tmp_path / "c.csv") == "detect"
    (tmp_path / "empty.csv").write_text("")
    assert kind_of(tmp_path / "empty.csv") == "classify"
    (tmp_path / "dataset.json").write_text("{}")
    assert kind_of(tmp_path) == "segment"
