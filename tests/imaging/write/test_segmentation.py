"""Label maps to DICOM segmentations, read by highdicom and pydicom, which know nothing of this code."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import dicom_series as made
import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.imaging.read.segmentations import read_segmentation
from careloop.imaging.volume import LabelMap, Segment, Source, Volume
from careloop.imaging.write.segmentation import Compression, Encoding, write_segmentation

SEGMENTS = (Segment(1, "kidney_left"), Segment(5, "liver_tumour"), Segment(300, "größer 骨", colour=(10, 200, 30)))
AFFINES = {"upright": {}, "turned": {"turn_deg": 17.0}, "tilted": {"tilt_deg": 12.0}}
every_affine = pytest.mark.parametrize("kind", AFFINES)


def _voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (7, 20, 30)).astype(np.int16)


def _labels(volume: Volume) -> LabelMap:
    labels = np.zeros(volume.voxels.shape, np.uint16)
    labels[2:5, 3:9, 4:20], labels[3:6, 10:15, 5:25], labels[1, 0, 0] = 1, 5, 300
    return LabelMap(labels, volume.affine, SEGMENTS, made_by="threshold 1.0")


def _in_order(dataset: pydicom.Dataset, volume: Volume) -> np.ndarray:
    """The frames of a label map by pydicom, each put where its position lies in the volume."""
    to_index = np.linalg.inv(volume.affine)
    frames = np.zeros(volume.voxels.shape, np.uint16)
    for pixels, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array([*map(float, group.PlanePositionSequence[0].ImagePositionPatient), 1.0])
        index = to_index @ place
        assert np.abs(index[:3] - [round(index[0]), 0, 0]).max() < 1e-6
        frames[round(index[0])] = pixels
    return frames


@every_affine
@pytest.mark.parametrize("source", ["series", "enhanced", "echoes"])
def test_label_map_lies_where_its_images_lie(tmp_path: Path, kind: str, source: str) -> None:
    affine = made.affine_of(**AFFINES[kind])
    if source == "series":
        volume = made.write_series(tmp_path / "ct", _voxels(), affine)
    else:
        volume = made.write_enhanced(tmp_path / "ct.dcm", _voxels(), affine, echoes=3 if source == "echoes" else 1)
    labels = _labels(volume)

    dataset = pydicom.dcmread(write_segmentation(labels, volume, tmp_path / "seg.dcm"))

    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    np.testing.assert_array_equal(_in_order(dataset, volume), labels.labels)
    assert dataset.FrameOfReferenceUID == volume.source.frame_of_reference
    assert (dataset.StudyInstanceUID, str(dataset.PatientName)) == (volume.source.study, made.NAME)
    distance = float(dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices)
    assert distance == pytest.approx(2.5 * np.cos(np.deg2rad(AFFINES[kind].get("tilt_deg", 0.0))), abs=1e-6)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        index = int(_index_of(group, volume))
        assert image.ReferencedSOPInstanceUID == volume.source.instances[index]
        assert int(image.get("ReferencedFrameNumber", 1)) == volume.source.frames[index]


def _index_of(group: pydicom.Dataset, volume: Volume) -> int:
    place = np.array([*map(float, group.PlanePositionSequence[0].ImagePositionPatient), 1.0])
    return round((np.linalg.inv(volume.affine) @ place)[0])


@pytest.mark.parametrize("encoding", ["labelmap", "binary"])
def test_highdicom_reads_segments_with_codes_sides_and_colours(tmp_path: Path, encoding: Encoding) -> None:
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of())
    file = write_segmentation(_labels(volume), volume, tmp_path / "seg.dcm", encoding=encoding)
    segmentation = hd.seg.segread(file)
    numbers = [1, 5, 300] if encoding == "labelmap" else [1, 2, 3]
    kidney, tumour, own = (segmentation.get_segment_description(number) for number in numbers)
    assert (kidney.segment_label, kidney.segmented_property_type.value) == ("kidney_left", "64033007")
    modifiers = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert modifiers[0].CodeValue == "7771000"
    assert tumour.segmented_property_category.value == "49755003"
    assert tumour.AnatomicRegionSequence[0].CodeValue == "10200004"
    assert own.segment_label == "größer 骨"
    assert own.segmented_property_type.scheme_designator == "99CARELOOP"
    rgb = hd.color.CIELabColor.from_dicom_value(tuple(own.RecommendedDisplayCIELabValue)).to_rgb()
    np.testing.assert_allclose(rgb, (10, 200, 30), atol=2)
    assert kidney.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "threshold"
    assert kidney.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.0"
    assert segmentation.SeriesDescription.endswith("not for clinical use")
    # Combined: highdicom 0.28 cuts numbers above 255 to a byte when it splits a label map into segments.
    combined = segmentation.get_pixels_by_source_instance(
        list(volume.source.instances), segment_numbers=numbers, combine_segments=True
    )
    for number, label in zip(numbers, (1, 5, 300), strict=True):
        np.testing.assert_array_equal(combined == number, _labels(volume).labels == label)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(5, 14), st.integers(5, 14)),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    turn=st.floats(-180, 180),
    tilt=st.floats(-25, 25),
    encoding=st.sampled_from(["labelmap", "binary"]),
    compression=st.sampled_from(["rle", "none"]),  # JPEG-LS's codec refuses images of a few noisy pixels
    numbers=st.sets(st.integers(1, 400), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_label_map_comes_back(
    tmp_path: Path,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    turn: float,
    tilt: float,
    encoding: Encoding,
    compression: Compression,
    numbers: set[int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    affine = made.affine_of(spacing, origin, turn, tilt)
    folder = tmp_path / f"{rng.integers(1 << 60)}"
    volume = made.write_series(folder / "ct", np.zeros(shape, np.int16), affine)
    labels = rng.choice([0, 0, *sorted(numbers)], shape).astype(np.uint16)
    labels[rng.random(shape[0]) < 0.4] = 0  # empty slices, which the binary form leaves out
    segments = tuple(Segment(number, f"part {number}") for number in sorted(numbers))
    label_map = LabelMap(labels, affine, segments, made_by="any")

    file = write_segmentation(label_map, volume, folder / "seg.dcm", encoding=encoding, compression=compression)

    expected = labels if encoding == "labelmap" else np.searchsorted([0, *sorted(numbers)], labels)
    back = read_segmentation(file, volume=volume)
    np.testing.assert_array_equal(back.labels, expected)
    alone = read_segmentation(file)
    first = round((np.linalg.inv(affine) @ alone.affine[:, 3])[0])
    np.testing.assert_array_equal(alone.labels, expected[first : first + len(alone.labels)])
    np.testing.assert_allclose(alone.affine[:3, 1:3], affine[:3, 1:3], atol=1e-6)
    if len(alone.labels) > 1:
        np.testing.assert_allclose(alone.affine[:3, 0], affine[:3, 0], atol=1e-6)
    assert [segment.name for segment in back.segments] == [segment.name for segment in segments]


def test_same_result_has_same_uids_and_another_has_others(tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of())
    labels = _labels(volume)
    changed = labels.labels.copy()
    changed[0, 0, 0] = 1
    first, again, other, binary = (
        pydicom.dcmread(write_segmentation(map_, volume, tmp_path / name, encoding=encoding))
        for map_, name, encoding in (
            (labels, "a", "labelmap"), (labels, "b", "labelmap"), (replace(labels, labels=changed), "c", "labelmap"),
            (labels, "d", "binary"),
        )
    )  # fmt: skip
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value == again[keyword].value
        assert len({d[keyword].value for d in (first, other, binary)}) == 3
    dimension = "DimensionOrganizationUID"
    assert first.DimensionIndexSequence[0][dimension] == first.DimensionOrganizationSequence[0][dimension]
    assert first.DimensionIndexSequence[0][dimension] == again.DimensionIndexSequence[0][dimension]
    uid = int(str(first.SOPInstanceUID).removeprefix("2.25."))
    assert (uid >> 76 & 0xF, uid >> 62 & 3) == (8, 2)  # version and variant, RFC 9562


def test_sources_in_a_zip_and_single_pictures_are_referenced(tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of())
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for file in volume.source.files:
            archive.write(file, Path(file).name)
    members = tuple(f"{tmp_path / 'ct.zip'}!{Path(file).name}" for file in volume.source.files)
    zipped = replace(volume, source=replace(volume.source, files=members))
    back = read_segmentation(write_segmentation(_labels(volume), zipped, tmp_path / "seg.dcm"), volume=volume)
    np.testing.assert_array_equal(back.labels, _labels(volume).labels)

    one = made.write_series(tmp_path / "one", _voxels()[:1], made.affine_of())
    label_map = LabelMap(np.ones((1, 20, 30), np.uint8), one.affine, SEGMENTS[:1])
    np.testing.assert_array_equal(
        read_segmentation(write_segmentation(label_map, one, tmp_path / "one.dcm")).labels, label_map.labels
    )


def test_empty_label_map_is_written_whole(tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of())
    empty = replace(_labels(volume), labels=np.zeros(volume.voxels.shape, np.uint8))
    for encoding in ("labelmap", "binary"):
        file = write_segmentation(empty, volume, tmp_path / "seg.dcm", encoding=encoding)  # type: ignore[arg-type]
        assert not read_segmentation(file, volume=volume).labels.any()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of())
    labels, out = _labels(volume), tmp_path / "out" / "seg.dcm"
    with pytest.raises(InputError, match="needs DICOM images as its source"):
        write_segmentation(labels, replace(volume, source=Source(files=("a.nii.gz",))), out)
    with pytest.raises(InputError, match=r"got labels \[300\] without one"):
        write_segmentation(replace(labels, segments=SEGMENTS[:2]), volume, out)
    with pytest.raises(InputError, match="different numbers"):
        write_segmentation(replace(labels, segments=(*SEGMENTS, SEGMENTS[0])), volume, out)
    with pytest.raises(InputError, match="at least one segment"):
        write_segmentation(replace(labels, segments=()), volume, out)
    moved = volume.affine.copy()
    moved[0, 3] += 1
    with pytest.raises(InputError, match="corners up to 1 mm apart"):
        write_segmentation(replace(labels, affine=moved), volume, out)
    with pytest.raises(InputError, match=r"must lie where its source images lie, got slice \d 1 mm away"):
        write_segmentation(replace(labels, affine=moved), replace(volume, affine=moved), out)
    backwards = replace(volume.source, files=volume.source.files[::-1])
    with pytest.raises(InputError, match="must lie where its source images lie"):
        write_segmentation(labels, replace(volume, source=backwards), out)
    with pytest.raises(InputError, match="one image a slice, got 3 for 7 slices"):
        write_segmentation(labels, replace(volume, source=replace(volume.source, files=volume.source.files[:3])), out)
    Path(volume.source.files[0]).unlink()
    with pytest.raises(InputError, match="cannot be read as DICOM"):
        write_segmentation(labels, volume, out)
    assert not out.parent.exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
@every_affine
def test_validator_finds_no_error(tmp_path: Path, kind: str) -> None:
    """The binary form: Debian's dciodvfy is older than label maps (Supplement 243)."""
    volume = made.write_series(tmp_path / "ct", _voxels(), made.affine_of(**AFFINES[kind]))
    file = write_segmentation(_labels(volume), volume, tmp_path / "seg.dcm", encoding="binary")
    said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False).stderr
    assert "Segmentation" in said
    assert "Error" not in said


def test_jpeg_ls_keeps_every_label(tmp_path: Path) -> None:
    affine = made.affine_of()
    volume = made.write_series(tmp_path / "ct", np.zeros((4, 48, 40), np.int16), affine)
    labels = np.zeros((4, 48, 40), np.uint8)
    labels[1:3, 8:30, 6:20], labels[2, 20:40, 10:30] = 1, 7
    label_map = LabelMap(labels, affine, (Segment(1, "liver"), Segment(7, "spleen")), made_by="any")
    file = write_segmentation(label_map, volume, tmp_path / "seg.dcm", compression="jpeg-ls")
    np.testing.assert_array_equal(read_segmentation(file, volume=volume).labels, labels)
