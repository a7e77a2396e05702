"""Pictures of results as Secondary Captures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import dicom_series as made
import numpy as np
import pydicom
import pytest

from careloop import InputError
from careloop.imaging.volume import Volume
from careloop.imaging.write.secondary_capture import write_secondary_capture

PICTURE = np.random.default_rng(0).integers(0, 256, (31, 47, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return made.write_series(tmp_path_factory.mktemp("ct"), np.zeros((3, 8, 8), np.int16), made.affine_of())


def test_picture_is_kept_and_marked(volume: Volume, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_secondary_capture(PICTURE, volume, tmp_path / "sc.dcm", description="Lungs"))
    np.testing.assert_array_equal(dataset.pixel_array, PICTURE)
    assert dataset.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
    assert dataset.SeriesDescription == "Lungs, not for clinical use"
    assert (dataset.StudyInstanceUID, str(dataset.PatientName)) == (volume.source.study, made.NAME)
    assert dataset.SeriesInstanceUID != volume.source.series
    assert [item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence] == list(volume.source.instances)


def test_same_picture_has_same_uids(volume: Volume, tmp_path: Path) -> None:
    pictures = (PICTURE, PICTURE, PICTURE[::-1])
    first, again, other = (pydicom.dcmread(write_secondary_capture(p, volume, tmp_path / "sc.dcm")) for p in pictures)
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID != other.SeriesInstanceUID


@pytest.mark.parametrize("picture", [PICTURE[..., 0], PICTURE.astype(float), PICTURE[:0], PICTURE[..., :2]])
def test_what_is_no_picture_is_refused(volume: Volume, tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"must be uint8 of shape \(rows, columns, 3\)"):
        write_secondary_capture(picture, volume, tmp_path / "sc.dcm")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
def test_validator_finds_no_error(volume: Volume, tmp_path: Path) -> None:
    file = write_secondary_capture(PICTURE, volume, tmp_path / "sc.dcm")
    said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False).stderr
    assert "SCImage" in said
    assert "Error" not in said
