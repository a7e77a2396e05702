"""One door to every format, and clear words where a path holds several images or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from careloop import InputError
from careloop.imaging.read.volumes import Choice, list_images, read_volume
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(get_testdata_file(name), folder / name)  # type: ignore[arg-type]
    return folder


def test_every_format_comes_through_one_door(tmp_path: Path) -> None:
    volume = Volume(np.ones((2, 3, 4), np.int16), np.diag([3.0, 2.0, 1.0, 1.0]), modality="CT")
    write_nifti(volume, tmp_path / "v.nii.gz")
    read = read_volume(tmp_path / "v.nii.gz", choice=Choice(modality="CT"))
    assert (read.modality, read.spacing_mm) == ("CT", (3.0, 2.0, 1.0))
    Image.new("L", (4, 3)).save(tmp_path / "P.PNG")
    assert read_volume(tmp_path / "P.PNG").voxels.shape == (1, 3, 4)
    assert read_volume(Path(get_testdata_file("CT_small.dcm"))).modality == "CT"  # type: ignore[arg-type]


def test_several_series_need_a_choice(two_series: Path) -> None:
    with pytest.raises(InputError, match=r"holds 2 series of images; choose one with --series.*1: .*2: "):
        read_volume(two_series)
    listed = list_images(two_series)
    assert {image.modality for image in listed} == {"CT", "MR"}
    assert all(image.volumes[0].shape[0] == 1 for image in listed)
    for image in listed:
        by_number = read_volume(two_series, choice=Choice(series=str(image.number)))
        by_uid = read_volume(two_series, choice=Choice(series=image.series))
        by_modality = read_volume(two_series, choice=Choice(modality=image.modality))
        assert by_number.modality == by_uid.modality == by_modality.modality == image.modality
    with pytest.raises(InputError, match="'9' names 0 of them"):
        read_volume(two_series, choice=Choice(series="9"))


def test_a_path_without_images(tmp_path: Path) -> None:
    shutil.copy(get_testdata_file("rtplan.dcm"), tmp_path / "plan.dcm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds no images, only"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        read_volume(tmp_path / "nowhere")


def test_a_file_that_is_refused_is_listed_with_its_reason(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4)), tmp_path / "four.nii")
    (image,) = list_images(tmp_path / "four.nii")
    assert image.refused[0].check == "several volumes"
    assert not image.volumes
