"""Headers of single- and multi-frame files: places, decimals of any length, and what tells volumes apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.elements import BadValueError, decimals, raw_text, whole
from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.read.headers import read_header
from careloop.imaging.read.series import find_series, read_series

DEFLATED = "1.2.840.10008.1.2.1.99"
LONG = "-123.4567890123456789"


def header_of(file: Dataset, folder: Path) -> Any:
    file.save_as(folder / "one.dcm")
    with Files() as files:
        return read_header(str(folder / "one.dcm"), files, {})


def raw(file: Dataset, keyword: str, value: str | bytes, vr: str = "DS") -> None:
    """Put bytes into an element that pydicom would not write."""
    tag = Tag(pydicom.datadict.tag_for_keyword(keyword))
    data = value.encode() if isinstance(value, str) else value
    data += b" " * (len(data) % 2)
    file[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)


def test_over_long_decimals_are_exact_and_found(tmp_path: Path, made: Any) -> None:
    slices = made.slices(3)
    for number, one in enumerate(slices):
        raw(one, "ImagePositionPatient", f"{LONG}\\1.5\\{number}.0000000000000000001")
    volume = read_series(find_series(made.write(tmp_path, slices))[0])
    assert volume.affine[0, 3] == float(LONG)
    (finding,) = [f for f in volume.findings if f.check == "over-long decimal string"]
    assert finding.verdict == "handled"
    assert "ImagePositionPatient" in finding.message


@pytest.mark.parametrize(
    "value", ["1,5\\0\\0", "a\\b\\c", "nan\\0\\0", "1_0\\0\\0", "1e999\\0\\0", "1\\2", "0x1\\0\\0"]
)
def test_text_that_is_no_number_refuses_the_slice(value: str, tmp_path: Path, made: Any) -> None:
    slices = made.slices(3)
    raw(slices[1], "ImagePositionPatient", value)
    (found,) = find_series(made.write(tmp_path, slices))
    assert "ImagePositionPatient" in found.unreadable[0][1]
    with pytest.raises(RefusedSeriesError, match="ImagePositionPatient"):
        read_series(found)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_what_python_reads(value: float) -> None:
    file = Dataset()
    raw(file, "SliceThickness", repr(value))
    over_long: list[str] = []
    assert decimals(file, "SliceThickness", over_long) == (value,)
    assert bool(over_long) == (len(repr(value)) > 16)


def test_numbers_of_other_vrs_and_orders() -> None:
    file = Dataset()
    file.DiffusionBValue, file.SliceVector, file.EchoTime = 1000.5, [1, 2, 3], "4.60"
    assert decimals(file, "DiffusionBValue", []) == (1000.5,)
    assert decimals(file, "SliceVector", []) == (1.0, 2.0, 3.0)
    assert raw_text(file, "EchoTime") == "4.60"
    tag = Tag(0x00280010)
    file[tag] = RawDataElement(tag, "US", 2, b"\x01\x02", 0, False, False)
    assert whole(file, "Rows") == 0x0102
    file[tag] = RawDataElement(tag, None, 2, b"\x01\x02", 0, True, True)
    assert whole(file, "Rows") == 0x0201
    file.add(DataElement(0x00200013, "LO", "7x"))
    assert whole(file, "InstanceNumber") is None
    raw(file, "DiffusionBValue", b"\x01\x02\x03", "FD")
    with pytest.raises(BadValueError, match="DiffusionBValue"):
        decimals(file, "DiffusionBValue", [])
    assert raw_text(file, "DiffusionBValue") == ""


def test_enhanced_frames_are_the_slices_they_were_made_from(tmp_path: Path, made: Any) -> None:
    slices = made.slices(5)
    classic = read_series(find_series(made.write(tmp_path / "classic", slices))[0])
    made.write(tmp_path / "enhanced", [made.enhanced(slices[::-1])])
    volume = read_series(find_series(tmp_path / "enhanced")[0])
    np.testing.assert_array_equal(volume.voxels, classic.voxels)
    np.testing.assert_array_equal(volume.affine, classic.affine)
    assert volume.unit == classic.unit
    assert volume.source.frames == (5, 4, 3, 2, 1)
    assert len(volume.source.files) == 1


def test_enhanced_values_that_tell_volumes_apart(tmp_path: Path, made: Any) -> None:
    file = made.enhanced(made.slices(4))
    for number, group in enumerate(file.PerFrameFunctionalGroupsSequence):
        diffusion, direction = Dataset(), Dataset()
        diffusion.DiffusionBValue = 500.0 * (number % 2)
        direction.DiffusionGradientOrientation = [0.0, 0.6, 0.8]
        diffusion.DiffusionGradientDirectionSequence = [direction]
        group.MRDiffusionSequence = [diffusion]
        group.CTImageFrameTypeSequence = [Dataset()]
        group.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "ENERGY"[number:]]
    header = header_of(file, tmp_path)
    assert [s.stacks["b-value"] for s in header.slices] == ["0.0", "500.0", "0.0", "500.0"]
    assert header.slices[0].stacks["gradient direction"] == "0.0\\0.6\\0.8"
    assert header.slices[1].image_type == ("ORIGINAL", "PRIMARY", "VOLUME", "NERGY")
    assert [s.in_stack_position for s in header.slices] == [1, 2, 3, 4]


def test_frames_that_are_not_described_refuse_the_file(tmp_path: Path, made: Any) -> None:
    file = made.enhanced(made.slices(4))
    del file.PerFrameFunctionalGroupsSequence[-1]
    with pytest.raises(UnreadableError, match="describes 3 frames and states 4"):
        header_of(file, tmp_path)


def test_dose_planes_lie_where_the_header_says() -> None:
    path = get_testdata_file("rtdose.dcm")
    file = pydicom.dcmread(path)
    volume = read_series(find_series(Path(path))[0])
    z = [float(file.ImagePositionPatient[2]) + float(offset) for offset in file.GridFrameOffsetVector]
    np.testing.assert_allclose(volume.affine[2, 3] + volume.affine[2, 0] * np.arange(15), z)
    assert volume.unit == ""  # its DoseUnits are RELATIVE


def test_a_nuclear_tomogram_is_placed_by_its_signed_spacing(tmp_path: Path, made: Any) -> None:
    file = made.slices(1, shape=(8, 8))[0]
    file.Modality, file.NumberOfFrames, file.SpacingBetweenSlices = "NM", 3, "-4"
    file.PixelData, file.SliceVector = np.arange(3 * 64, dtype=np.int16).tobytes(), [1, 2, 3]
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    file.DetectorInformationSequence = [detector]
    del file.ImagePositionPatient, file.ImageOrientationPatient
    assert [s.position for s in header_of(file, tmp_path).slices] == [(1, 2, 3), (1, 2, -1), (1, 2, -5)]


def test_frames_without_a_place_are_said_to_be_a_film() -> None:
    volume = read_series(find_series(Path(get_testdata_file("examples_ybr_color.dcm")))[0])
    assert not volume.placed
    assert any(f.check == "cine" and "30 frames" in f.message for f in volume.findings)


@pytest.mark.parametrize(
    ("owner", "value", "b"),
    [((0x0019, 0x10, "SIEMENS MR HEADER"), (0x0019, 0x100C, "IS", "800"), "800"),
     ((0x0043, 0x10, "GEMS_PARM_01"), (0x0043, 0x1039, "IS", [1000000700, 8, 0, 0]), "700"),
     ((0x0043, 0x10, "SOMEBODY"), (0x0043, 0x1039, "IS", [700, 8, 0, 0]), None)],
)  # fmt: skip
def test_vendors_b_values(owner: Any, value: Any, b: str | None, tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    file.remove_private_tags()
    file.add_new(owner[:2], "LO", owner[2])
    file.add_new(value[:2], value[2], value[3])
    assert header_of(file, tmp_path).slices[0].stacks.get("b-value") == b


@pytest.mark.parametrize("syntax", ["implicit", "big endian", "no preamble", "deflated"])
def test_every_way_to_write_a_header(syntax: str, tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    expected = made.stored(file) - 1024
    plain = Dataset({element.tag: element for element in file})  # without memory of how it was encoded
    if syntax == "big endian":
        plain.remove_private_tags()
        plain.PixelData = (expected + 1024).astype(">i2").tobytes()
    if syntax != "no preamble":
        uids = {"implicit": "1.2.840.10008.1.2", "big endian": "1.2.840.10008.1.2.2", "deflated": DEFLATED}
        plain.file_meta = file.file_meta
        plain.file_meta.TransferSyntaxUID = uids[syntax]
    path = tmp_path / "one.dcm"
    little = syntax != "big endian"
    pydicom.dcmwrite(path, plain, implicit_vr=syntax == "implicit", little_endian=little, enforce_file_format=False)
    np.testing.assert_array_equal(read_series(find_series(path)[0]).voxels[0], expected)
