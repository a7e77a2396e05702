"""DICOM segmentations that highdicom made: fractional, overlapping, sparse, oblique, and broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dicom_series as made
import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from careloop import InputError
from careloop.imaging.read.segmentations import read_segmentation
from careloop.imaging.volume import Volume

SHAPE = (9, 12, 10)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return made.write_series(tmp_path_factory.mktemp("ct"), np.zeros(SHAPE, np.int16), made.affine_of(turn_deg=25))


def _write(path: Path, volume: Volume, pixels: np.ndarray, kind: str, **more: Any) -> Path:
    """A segmentation by highdicom alone; its sources are given from head to feet."""
    count = pixels.shape[3] if pixels.ndim == 4 else int(pixels.max())
    algorithm = hd.AlgorithmIdentificationSequence("peer", codes.DCM.ArtificialIntelligence, "3")
    segments = [
        hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.Organ, codes.SCT.Liver, "AUTOMATIC", algorithm)
        for n in range(1, count + 1)
    ]
    hd.seg.Segmentation(
        [pydicom.dcmread(file) for file in reversed(volume.source.files)], pixels[::-1], kind, segments,
        hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "0", **more,
    ).save_as(path)  # fmt: skip
    return path


def test_binary_segments_come_back_on_either_grid(volume: Volume, tmp_path: Path) -> None:
    pixels = np.zeros((*SHAPE, 2), np.uint8)
    pixels[2:4, 2:5, 1:9, 0] = 1
    pixels[6, 7:10, 3:5, 1] = 1  # slice 4 and 5 have no frames
    file = _write(tmp_path / "seg.dcm", volume, pixels, "BINARY")
    assert len(pydicom.dcmread(file).PerFrameFunctionalGroupsSequence) == 3
    expected = pixels[..., 0] + 2 * pixels[..., 1]

    back = read_segmentation(file, volume=volume)
    np.testing.assert_array_equal(back.labels, expected)
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert [(s.number, s.name, s.type) for s in back.segments] == [
        (1, "part 1", ("SCT", "10200004", "Liver")), (2, "part 2", ("SCT", "10200004", "Liver")),
    ]  # fmt: skip
    assert back.made_by == "peer 3"

    alone = read_segmentation(file)
    np.testing.assert_array_equal(alone.labels, expected[2:7])
    np.testing.assert_allclose(alone.affine[:3, :3], volume.affine[:3, :3], atol=1e-8)
    np.testing.assert_allclose(alone.affine[:3, 3], (volume.affine @ [2, 0, 0, 1])[:3], atol=1e-8)


def test_fractions_of_half_and_more_count_and_the_highest_wins(volume: Volume, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((*SHAPE, 3))
    file = _write(tmp_path / "seg.dcm", volume, pixels, "FRACTIONAL", max_fractional_value=255)
    stored = np.around(pixels * 255)
    expected = np.where(stored.max(axis=3) * 2 >= 255, stored.argmax(axis=3) + 1, 0)
    np.testing.assert_array_equal(read_segmentation(file, volume=volume).labels, expected)
    only = read_segmentation(file, volume=volume, segments=[2]).labels
    np.testing.assert_array_equal(only, np.where(stored[..., 1] * 2 >= 255, 2, 0))


def test_overlapping_segments_are_refused_together_and_read_alone(volume: Volume, tmp_path: Path) -> None:
    pixels = np.zeros((*SHAPE, 2), np.uint8)
    pixels[2:5, 2:8, 2:8, 0] = pixels[4:6, 5:9, 5:9, 1] = 1
    file = _write(tmp_path / "seg.dcm", volume, pixels, "BINARY")
    with pytest.raises(InputError, match="segments 1 and 2 overlap"):
        read_segmentation(file)
    for number in (1, 2):
        back = read_segmentation(file, volume=volume, segments=[number])
        np.testing.assert_array_equal(back.labels > 0, pixels[..., number - 1])
        assert [segment.number for segment in back.segments] == [number]
    with pytest.raises(InputError, match=r"must be among \[1, 2\], got \[7\]"):
        read_segmentation(file, segments=[7])


@pytest.mark.parametrize("gap", [2, 3])
def test_sparse_frames_keep_the_distance_that_the_header_states(volume: Volume, tmp_path: Path, gap: int) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[1 : 1 + 2 * gap : gap, 3:6, 3:6] = 1
    file = _write(tmp_path / "seg.dcm", volume, pixels, "BINARY")
    alone = read_segmentation(file)
    np.testing.assert_array_equal(alone.labels, pixels[1 : 2 + gap])
    np.testing.assert_allclose(alone.spacing_mm, volume.spacing_mm, atol=1e-8)


def test_frames_that_fit_no_grid_are_refused(volume: Volume, tmp_path: Path) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[2:6, 3:6, 3:6] = 1
    file = _write(tmp_path / "seg.dcm", volume, pixels, "BINARY")
    dataset = pydicom.dcmread(file)
    place = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = map(float, place.ImagePositionPatient)
    for moved, match in (([x, y, z + 1.0], "evenly spaced"), ([x + 0.5, y, z], "0.5 mm beside one")):
        place.ImagePositionPatient = moved
        dataset.save_as(file)
        with pytest.raises(InputError, match=match):
            read_segmentation(file)
        with pytest.raises(InputError, match="evenly spaced"):
            read_segmentation(file, volume=volume)
    place.ImagePositionPatient = [x, y, z]
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.9, 0.7]
    dataset.save_as(file)
    with pytest.raises(InputError, match="grid of the volume"):
        read_segmentation(file, volume=volume)
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    dataset.save_as(file)
    with pytest.raises(InputError, match="does not say where"):
        read_segmentation(file)


def test_other_objects_are_refused(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a DICOM segmentation, got another kind"):
        read_segmentation(Path(volume.source.files[0]))
    (tmp_path / "text.dcm").write_text("nothing of the kind")
    with pytest.raises(InputError, match="DICOM"):
        read_segmentation(tmp_path / "text.dcm")
    with pytest.raises(InputError, match="cannot be read"):
        read_segmentation(tmp_path / "none.dcm")


@pytest.fixture(scope="module")
def compressed(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    file = _write(tmp_path_factory.mktemp("seg") / "seg.dcm", volume, pixels, "LABELMAP")
    dataset = pydicom.dcmread(file)
    dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
    dataset.save_as(file)
    return file.read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4))
def test_damaged_files_are_read_or_refused(
    compressed: bytes, tmp_path: Path, cut: float, changes: list[tuple[float, int]]
) -> None:
    damaged = bytearray(compressed)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    file = tmp_path / "damaged.dcm"
    file.write_bytes(damaged if cut > 0.5 else damaged[: int(2 * cut * len(damaged))])
    try:
        back = read_segmentation(file)
    except InputError:
        return
    assert back.labels.ndim == 3
    assert np.isfinite(back.affine).all()
    assert abs(np.linalg.det(back.affine)) > 0
