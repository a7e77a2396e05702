"""Each of the broken series is handled with the known right values and geometry, or refused for its own reason."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.gate import check_expected
from careloop.imaging.read.series import find_series, read_series, stacks_of
from careloop.imaging.upright import upright
from careloop.imaging.volume import Volume


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


broken = _module(Path(__file__).with_name("broken_series.py"))
HEAD = broken.head_ct(slices=16, thinned=4)
CASES = {case.name: case for case in broken.cases(HEAD)}


def volumes(folder: Path) -> list[Volume]:
    return [
        read_series(found, stack=number)
        for found in find_series(folder)
        for number in range(1, len(stacks_of(found)) + 1)
    ]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.right == "handled"])
def test_what_can_be_put_right_comes_out_right(name: str, tmp_path: Path) -> None:
    truths = CASES[name].write(tmp_path)
    read = volumes(tmp_path)
    assert len(read) == len(truths)
    for volume, truth in zip(read, truths, strict=True):
        assert (CASES[name].check, "handled") in {(f.check, f.verdict) for f in volume.findings}
        np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-5)
        difference = volume.voxels.astype(np.float64) - truth.voxels
        if not truth.placed:
            difference -= difference.flat[0]  # grey values turned round have no zero of their own
        np.testing.assert_allclose(difference, 0, atol=1e-6 * np.ptp(truth.voxels))
        assert volume.placed == truth.placed


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.right == "refused" and case.model is None])
def test_what_cannot_be_put_right_is_refused(name: str, tmp_path: Path) -> None:
    CASES[name].write(tmp_path)
    with pytest.raises(RefusedSeriesError) as caught:
        volumes(tmp_path)
    assert [f.check for f in caught.value.findings if f.verdict == "refused"] == [CASES[name].check]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.model is not None])
def test_images_of_another_kind_are_refused_for_a_model(name: str, tmp_path: Path) -> None:
    (truth,) = CASES[name].write(tmp_path)
    read = volumes(tmp_path)
    np.testing.assert_array_equal(read[0].voxels, truth.voxels)
    modality, body_part = CASES[name].model
    with pytest.raises(RefusedSeriesError) as caught:
        check_expected(read, modalities=(modality,), body_parts=(body_part,), channels=("image",))
    assert [f.check for f in caught.value.findings if f.verdict == "refused"] == [CASES[name].check]


def test_the_series_without_a_fault_passes_without_a_finding(tmp_path: Path) -> None:
    (truth,) = broken.plain_series(HEAD, tmp_path)
    (volume,) = volumes(tmp_path)
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    assert volume.findings == ()
    assert check_expected([volume], modalities=("CT",), body_parts=("HEAD",), channels=("CT",)) == ()


def test_a_tilted_head_set_upright_is_the_head_that_was_tilted(tmp_path: Path) -> None:
    """The scan along tilted planes, moved onto an upright grid, has the values of the head at the same places."""
    from scipy.ndimage import map_coordinates

    head = broken.head_ct(slices=40, thinned=2)
    broken.write_slices(tmp_path, broken.tilted_head(head, broken.TILT_DEG))
    (volume,) = volumes(tmp_path)
    result = upright(volume)
    index = np.argwhere(np.ones(result.voxels.shape, bool))
    places = index @ result.affine[:3, :3].T + result.affine[:3, 3]
    there = (places - head.affine[:3, 3]) @ np.linalg.inv(head.affine[:3, :3]).T
    inside = ((there >= 1) & (there <= np.array(head.voxels.shape) - 2)).all(axis=1)
    wanted = map_coordinates(head.voxels.astype(np.float32), there[inside].T, order=1)
    error = np.abs(result.voxels.reshape(-1)[inside] - wanted)
    assert inside.sum() > 1000
    assert error.mean() < 0.1 * np.abs(wanted - wanted.mean()).mean()  # interpolated twice, at edges of bone too


@pytest.mark.parametrize(
    ("folder", "check"),
    [("77654033/CT2", "missing slices"), ("98892003/MR700", "mixed orientations")],
)
def test_real_series_that_are_incomplete_or_no_stack_are_refused(folder: str, check: str) -> None:
    """Four of 182 slices of a CT, and seven planes that turn about an axis: both come with pydicom."""
    from pydicom.data import get_testdata_file

    root = Path(str(get_testdata_file("dicomdirtests/DICOMDIR", download=False))).parent
    with pytest.raises(RefusedSeriesError) as caught:
        volumes(root / folder)
    assert check in [f.check for f in caught.value.findings if f.verdict == "refused"]


def test_real_slices_next_to_each_other_are_a_volume() -> None:
    from pydicom.data import get_testdata_file

    root = Path(str(get_testdata_file("dicomdirtests/DICOMDIR", download=False))).parent
    (volume,) = volumes(root / "98892001" / "CT5N")
    assert volume.voxels.shape == (5, 16, 16)
    assert volume.spacing_mm[0] == pytest.approx(2.5)
