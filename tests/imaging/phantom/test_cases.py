"""Data sets of simulated chests: layout, resuming, and what marks them as simulated."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from careloop import InputError
from careloop.imaging.phantom import write_series
from careloop.imaging.phantom.cases import TESTS, TRAINING, SimulatedCase, simulate_case, write_dataset
from careloop.imaging.phantom.chest import Grid

SMALL = Grid((10, 40, 40), (24.0, 9.6, 9.6))


@pytest.fixture(scope="module")
def case() -> SimulatedCase:
    return simulate_case(TRAINING, 0, grid=SMALL)


def test_layout_is_nnunets_and_says_simulated(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    write_dataset(tmp_path, cases=2, test_cases=1, grid=SMALL, progress=lambda _, done, of: heard.append((done, of)))
    document = json.loads((tmp_path / "dataset.json").read_text())
    assert "SIMULATED" in document["description"]
    assert document["numTraining"] == 2
    assert document["labels"] == {
        "background": 0, "heart": 1, "lung_left": 2, "lung_right": 3, "spine": 4, "aorta": 5, "nodule": 6,
    }  # fmt: skip
    assert {p.name for p in (tmp_path / "imagesTr").iterdir()} == {"chest_0000_0000.nii.gz", "chest_0001_0000.nii.gz"}
    assert {p.name for p in (tmp_path / "imagesTs").iterdir()} == {f"{f.name}_0000_0000.nii.gz" for f in TESTS}
    image = nibabel.load(tmp_path / "imagesTr" / "chest_0000_0000.nii.gz")
    labels = nibabel.load(tmp_path / "labelsTr" / "chest_0000.nii.gz")
    assert image.shape == labels.shape == (40, 40, 10)
    assert np.allclose(image.affine, labels.affine)
    assert heard[-1] == (6, 6)


def test_a_second_run_keeps_what_is_there_and_adds_the_rest(tmp_path: Path) -> None:
    write_dataset(tmp_path, cases=1, grid=SMALL)
    kept = tmp_path / "imagesTr" / "chest_0000_0000.nii.gz"
    before = kept.stat().st_mtime_ns
    write_dataset(tmp_path, cases=2, grid=SMALL)
    assert kept.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "dataset.json").read_text())["numTraining"] == 2


def test_a_folder_with_other_cases_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", cases=1, grid=SMALL)
    with pytest.raises(InputError, match="other settings"):
        write_dataset(tmp_path / "a", cases=1, seed=1, grid=SMALL)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="another data set"):
        write_dataset(tmp_path / "b", cases=1, grid=SMALL)
    with pytest.raises(InputError, match="at least 1 case"):
        write_dataset(tmp_path / "c", cases=0, grid=SMALL)


def test_families_share_no_chest() -> None:
    grid = Grid((4, 16, 16), (60.0, 24.0, 24.0))
    shown = [simulate_case(f, 0, grid=grid).phantom.volume.voxels.tobytes() for f in (TRAINING, *TESTS)]
    shown.append(simulate_case(TRAINING, 0, seed=1, grid=grid).phantom.volume.voxels.tobytes())
    assert len(set(shown)) == len(shown)


def test_unseen_noise_is_outside_the_range_trained_on() -> None:
    seen, unseen = TRAINING, next(f for f in TESTS if f.name == "unseen_noise")
    assert unseen.photons[1] < seen.photons[0]
    assert not set(unseen.kernels) & set(seen.kernels)


def test_a_series_has_the_voxels_and_the_place_of_the_volume(case: SimulatedCase, tmp_path: Path) -> None:
    paths = write_series(case.image, tmp_path, name=case.name)
    files = [pydicom.dcmread(path) for path in paths]
    hu = np.stack([f.pixel_array * float(f.RescaleSlope) + float(f.RescaleIntercept) for f in files])
    assert np.array_equal(hu, case.image.voxels)
    for index, file in enumerate(files):
        corner = case.image.affine @ [index, 0, 0, 1]
        assert np.allclose(np.array(file.ImagePositionPatient, float), corner[:3], atol=1e-3)
        assert list(file.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert len({f.SeriesInstanceUID for f in files}) == 1
    assert len({f.SOPInstanceUID for f in files}) == len(files)


def test_a_series_says_simulated_wherever_a_viewer_looks(case: SimulatedCase, tmp_path: Path) -> None:
    file = pydicom.dcmread(write_series(case.image, tmp_path, name=case.name)[0])
    assert str(file.PatientName) == "SIMULATED"
    assert file.PatientID.startswith("SIMULATED")
    assert file.SeriesDescription.startswith("SIMULATED")
    assert file.ImageType[0] == "DERIVED"
    assert "SIMULATED" in file.ImageType
    assert file.QualityControlSubject == "YES"


def test_writing_the_same_scan_twice_gives_the_same_series(case: SimulatedCase, tmp_path: Path) -> None:
    first, again = (write_series(case.image, tmp_path / name, name=case.name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]


def test_the_reader_takes_the_series_without_complaint(case: SimulatedCase, tmp_path: Path) -> None:
    from careloop.imaging.read.series import find_series, read_series

    write_series(case.image, tmp_path, name=case.name)
    (series,) = find_series(tmp_path)
    volume = read_series(series)
    assert np.array_equal(volume.voxels, case.image.voxels)
    assert np.allclose(volume.affine, case.image.affine, atol=1e-3)
    assert volume.unit == "[hnsf'U]"
    assert not [f for f in volume.findings if f.verdict == "refused"]
