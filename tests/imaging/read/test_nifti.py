"""NIfTI in and out: places agree with nibabel's own, values and types are kept, bad files are refused in one line."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.nifti import affine_from_ras, read_nifti, read_nifti_labels
from careloop.imaging.volume import LabelMap, Segment, Volume, check_same_grid
from careloop.imaging.write.nifti import write_nifti

AFFINE = np.array([[0, 0.1, -0.8, 100], [0.0, 0.8, 0.1, -20], [2.5, 0, 0, 7], [0, 0, 0, 1]])


def volume(voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(voxels, affine, modality="CT", unit="[hnsf'U]")


def test_a_voxel_lies_where_nibabel_says(tmp_path: Path) -> None:
    data = np.arange(24, dtype=np.int16).reshape(4, 3, 2)  # i, j, k
    ras = np.array([[-2.0, 0.2, 0, 10], [0.1, 3.0, 0, -5], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(data, ras), tmp_path / "a.nii.gz")
    read = read_nifti(tmp_path / "a.nii.gz", modality="CT")
    assert read.voxels.shape == (2, 3, 4)
    assert read.voxels.dtype == np.int16
    assert read.unit == "[hnsf'U]"
    i, j, k = 3, 1, 1
    assert read.voxels[k, j, i] == data[i, j, k]
    place = nibabel.affines.apply_affine(nibabel.load(tmp_path / "a.nii.gz").affine, (i, j, k))
    ours = (read.affine @ [k, j, i, 1])[:3]
    np.testing.assert_allclose(ours, place * [-1, -1, 1], atol=1e-5)  # LPS against RAS
    assert read.spacing_mm == pytest.approx((4.0, np.hypot(0.2, 3.0), np.hypot(2.0, 0.1)), rel=1e-6)


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)))
def test_the_way_between_axes_is_its_own_inverse(top: np.ndarray) -> None:
    affine = np.vstack([top, [0, 0, 0, 1]])
    np.testing.assert_array_equal(affine_from_ras(affine_from_ras(affine)), affine)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]), hnp.array_shapes(min_dims=3, max_dims=3)),
    st.sampled_from([".nii", ".nii.gz"]),
)
def test_written_and_read_is_the_same(tmp_path_factory: pytest.TempPathFactory, voxels: np.ndarray, end: str) -> None:
    path = tmp_path_factory.mktemp("nifti") / f"v{end}"
    voxels = np.nan_to_num(voxels, nan=0, posinf=0, neginf=0)
    before = volume(voxels)
    after = read_nifti(write_nifti(before, path), modality="CT")
    np.testing.assert_array_equal(after.voxels, voxels)
    assert after.voxels.dtype == voxels.dtype
    check_same_grid(before, after, what="images")
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]  # no half-written file stays


def test_a_sheared_grid_keeps_its_place(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[:3, 0] += [0, 1.0, 0]
    before = volume(np.zeros((5, 4, 3), np.int16), sheared)
    after = read_nifti(write_nifti(before, tmp_path / "v.nii"), modality="CT")
    check_same_grid(before, after, what="images")
    assert not after.findings


def test_scaling_colour_and_labels(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.array([[[100]]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "scaled.nii")
    assert read_nifti(tmp_path / "scaled.nii").voxels == pytest.approx(
        nibabel.load(tmp_path / "scaled.nii").get_fdata()
    )
    colour = Volume(np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), np.uint8), np.eye(4), modality="XC")
    np.testing.assert_array_equal(read_nifti(write_nifti(colour, tmp_path / "c.nii.gz")).voxels, colour.voxels)
    labels = LabelMap(np.array([[[0, 1, 300]]], np.uint16), np.eye(4), (Segment(1, "heart"), Segment(300, "rib")))
    back = read_nifti_labels(write_nifti(labels, tmp_path / "l.nii.gz"), names={1: "heart"})
    np.testing.assert_array_equal(back.labels, labels.labels)
    assert [(s.number, s.name) for s in back.segments] == [(1, "heart"), (300, "label 300")]
    assert (tmp_path / "l.json").read_text().count("heart") == 1


def test_what_is_noted(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), None)
    nibabel.save(image, tmp_path / "n.nii")
    read = read_nifti(tmp_path / "n.nii")
    assert not read.placed
    assert {f.check for f in read.findings} == {"no placement", "modality", "not a number"}
    assert np.all(read.voxels == 0)
    image = nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4))
    image.set_sform(np.diag([2.0, 1, 1, 1]), 1)
    image.set_qform(np.eye(4), 1)
    nibabel.save(image, tmp_path / "two.nii")
    (found,) = read_nifti(tmp_path / "two.nii", modality="MR").findings
    assert found.check == "two placements"
    assert "8.0 mm" in found.message


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 5), np.int16), np.eye(4)), tmp_path / "four.nii")
    with pytest.raises(RefusedSeriesError, match="5 volumes"):
        read_nifti(tmp_path / "four.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.complex64), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(RefusedSeriesError, match="complex"):
        read_nifti(tmp_path / "c.nii")
    flat = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)
    flat.header["sform_code"] = 1
    nibabel.save(flat, tmp_path / "flat.nii")
    raw = bytearray((tmp_path / "flat.nii").read_bytes())
    raw[252:256] = b"\0\0\1\0"  # qform_code 0, sform_code 1
    raw[280:328] = bytes(48)  # an sform of zeros
    (tmp_path / "flat.nii").write_bytes(raw)
    with pytest.raises(RefusedSeriesError, match="singular"):
        read_nifti(tmp_path / "flat.nii")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_nifti(tmp_path / "text.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), tmp_path / "half.nii")
    with pytest.raises(InputError, match="whole numbers"):
        read_nifti_labels(tmp_path / "half.nii")
    monkeypatch.setenv("CARELOOP_IMAGE_LIMIT_GIB", "1e-9")
    with pytest.raises(InputError, match="above the limit"):
        read_nifti(tmp_path / "half.nii")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_cut_and_garbled_files_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("garbled")
    end = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    raw = bytearray(write_nifti(volume(np.ones((3, 3, 3), np.int16)), folder / f"v{end}").read_bytes())
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / f"w{end}").write_bytes(raw)
    try:
        read = read_nifti(folder / f"w{end}")
    except InputError:
        return
    assert read.voxels.ndim in (3, 4)
    assert np.isfinite(read.affine).all()
