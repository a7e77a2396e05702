"""Stored values to physical ones: transfer syntaxes, types, LUTs, overlays, MONOCHROME1, sign, and files that lie."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.read.codestream import read_codestream
from careloop.imaging.read.series import find_series, read_series, survey
from careloop.imaging.read.sign import settled_sign

RLE, JPEG_LS, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def volume_of(file: Dataset, folder: Path) -> Any:
    file.save_as(folder / "one.dcm")
    return read_series(find_series(folder)[0])


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, J2K])
def test_lossless_syntaxes_round_trip(syntax: str, tmp_path: Path, made: Any) -> None:
    slices = made.slices(4)
    expected = [made.stored(s) - 1024 for s in slices]
    folder = made.write(tmp_path, [made.compressed(s, syntax) for s in slices])
    volume = read_series(find_series(folder)[0])
    np.testing.assert_array_equal(volume.voxels, expected)
    assert volume.voxels.dtype == np.int16


def test_frames_of_several_fragments_and_with_an_offset_table(tmp_path: Path, made: Any) -> None:
    slices = made.slices(3)
    file = made.enhanced(slices)
    expected = [made.stored(s) - 1024 for s in slices]
    frames = [made.compressed(s, JPEG_LS).PixelData for s in slices]
    streams = [next(pydicom.encaps.generate_frames(frame, number_of_frames=1)) for frame in frames]
    for name, data in (("one", encapsulate(streams, has_bot=False)), ("two", encapsulate(streams, 2, has_bot=True))):
        file.PixelData, file.file_meta.TransferSyntaxUID = data, JPEG_LS
        file["PixelData"].is_undefined_length = True
        (tmp_path / name).mkdir()
        np.testing.assert_array_equal(volume_of(file, tmp_path / name).voxels, expected)


@pytest.mark.parametrize(
    ("slope", "intercept", "stored", "dtype"),
    [("1", "-1024", np.array([0, 4095], "i2"), "i2"), ("1", "-1024", np.array([-32768, 0], "i2"), "i4"),
     ("1", "0", np.array([0, 65535], "u2"), "u2"), ("1", "-1024", np.array([0, 33791], "u2"), "i2"),
     ("2", "-1024", np.array([0, 4095], "i2"), "i2"), ("10", "-8192", np.array([0, 30000], "u2"), "i4"),
     ("0.5", "-1024", np.array([0, 4095], "i2"), "f4"), ("1", "0.25", np.array([0, 4095], "i2"), "f4"),
     ("-3", "7", np.array([-5, 9], "i2"), "i2")],
)  # fmt: skip
def test_the_leanest_type_that_holds_every_value(
    slope: str, intercept: str, stored: Any, dtype: str, tmp_path: Path, made: Any
) -> None:
    slices = made.slices(2, shape=(8, 8))
    for one in slices:
        one.RescaleSlope, one.RescaleIntercept, one.Modality = slope, intercept, "MR"
        one.PixelRepresentation = int(stored.dtype.kind == "i")
        one.PixelData = np.resize(stored, (8, 8)).tobytes()
    volume = read_series(find_series(made.write(tmp_path, slices))[0])
    assert volume.voxels.dtype == dtype
    np.testing.assert_array_equal(
        volume.voxels[1], np.resize(stored, (8, 8)).astype(float) * float(slope) + float(intercept)
    )


def test_each_slice_has_its_own_rescale(tmp_path: Path, made: Any) -> None:
    slices = made.slices(3)
    for number, one in enumerate(slices):
        one.RescaleSlope, one.RescaleIntercept = f"{0.5 + number}", "0"
    volume = read_series(find_series(made.write(tmp_path, slices))[0])
    expected = [pydicom.pixels.apply_modality_lut(made.stored(s), s) for s in slices]
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-7)
    assert volume.voxels.dtype == np.float32


def test_overlays_in_unused_bits_are_masked_and_high_bits_heeded(tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    plain = made.stored(file) % 1024
    file.BitsStored, file.HighBit, file.PixelRepresentation, file.Modality = 10, 13, 0, "OT"
    del file.RescaleSlope, file.RescaleIntercept
    junk = np.random.default_rng(0).integers(0, 4, plain.shape)
    file.PixelData = (plain << 4 | junk << 14 | junk).astype("u2").tobytes()
    np.testing.assert_array_equal(volume_of(file, tmp_path).voxels[0], plain)


def test_monochrome1_is_turned_round_where_values_have_no_unit(tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    stored = made.stored(file)
    file.PhotometricInterpretation = "MONOCHROME1"
    (tmp_path / "ct").mkdir()
    volume = volume_of(file, tmp_path / "ct")
    np.testing.assert_array_equal(volume.voxels[0], stored - 1024)
    file.Modality, file.PixelRepresentation, file.BitsStored, file.HighBit = "DX", 0, 12, 11
    (tmp_path / "dx").mkdir()
    volume = volume_of(file, tmp_path / "dx")
    np.testing.assert_array_equal(volume.voxels[0], 4095 - stored - 1024)
    assert any(f.check == "MONOCHROME1" and f.verdict == "handled" for f in volume.findings)


def test_a_modality_lut_is_applied(tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    stored = made.stored(file) % 200
    table = np.random.default_rng(0).integers(0, 65536, 200, dtype="u2")
    item = Dataset()
    item.add_new(0x00283002, "SS", [200, 0, 16])
    item.add_new(0x00283006, "OW", table.tobytes())
    item.ModalityLUTType = "US"
    file.ModalityLUTSequence, file.PixelData, file.Modality = [item], stored.astype("i2").tobytes(), "CR"
    del file.RescaleSlope, file.RescaleIntercept
    np.testing.assert_array_equal(volume_of(file, tmp_path).voxels[0], table[stored])


def test_padding_stays_and_is_noted(tmp_path: Path, made: Any) -> None:
    file = made.slices(1)[0]
    file.PixelPaddingValue = -2000
    stored = made.stored(file).copy()
    stored[0] = -2000
    file.PixelData = stored.tobytes()
    volume = volume_of(file, tmp_path)
    assert volume.voxels.min() == -3024
    assert any(f.check == "pixel padding" and "-3024" in f.message for f in volume.findings)


@pytest.mark.parametrize(("truth", "stream_signed"), [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("header_signed", [True, False])
def test_jpeg_2000_of_another_sign_is_read_by_the_smoother_sign(
    truth: bool, stream_signed: bool, header_signed: bool, tmp_path: Path, made: Any
) -> None:
    """All that header and codestream may say about one smooth image of 12 bits; `truth` is what its values are."""
    from openjpeg.utils import encode_array

    ramp = np.add.outer(np.linspace(-900, 900, 32), np.linspace(-600, 600, 32)).astype(np.int16)
    values = ramp if truth else (ramp + 2048).astype(np.int16)
    bits = values & 0xFFF
    coded = np.where(bits >= 2048, bits - 4096, bits).astype("i2") if stream_signed else bits.astype("u2")
    file = made.slices(1)[0]
    file.Rows, file.Columns, file.BitsStored, file.HighBit = 32, 32, 12, 11
    file.PixelRepresentation = int(header_signed)
    file.RescaleIntercept = "0"
    stream = encode_array(coded, bits_stored=12, photometric_interpretation=2, use_mct=False)
    assert read_codestream(stream).signed == stream_signed  # type: ignore[union-attr]
    file.PixelData, file.file_meta.TransferSyntaxUID = encapsulate([stream]), J2K
    file["PixelData"].is_undefined_length = True
    volume = volume_of(file, tmp_path)
    found = [f for f in volume.findings if f.check == "sign mismatch in JPEG 2000"]
    assert bool(found) == (stream_signed != header_signed)
    expected = values if found else np.where((bits >= 2048) & header_signed, bits.astype(int) - 4096, bits)
    np.testing.assert_array_equal(volume.voxels[0], expected)


def test_the_sign_of_real_data_and_of_noise(tmp_path: Path) -> None:
    volume = read_series(find_series(Path(get_testdata_file("J2K_pixelrep_mismatch.dcm")))[0])
    assert volume.voxels[0, 47:57, 279].tolist() == [621, 412, 138, -193, -520, -767, -907, -966, -988, -995]
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype("u2")
    signed, finding = settled_sign([(noise, ((noise << 4).view("i2") >> 4))], header=True)
    assert (signed, finding.verdict) == (True, "refused")


def test_files_that_lie_about_their_size_are_refused_before_anything_is_allocated(tmp_path: Path, made: Any) -> None:
    cases = {
        "rows": {"Rows": 60000, "Columns": 60000},
        "frames": {"NumberOfFrames": 1_000_000_000},
        "j2k": {"Rows": 60000, "Columns": 60000, "syntax": J2K},
        "rle": {"Rows": 40000, "Columns": 40000, "syntax": RLE},
        "jls": {"Rows": 21, "syntax": JPEG_LS},
    }
    for name, changes in cases.items():
        file = made.slices(1)[0]
        if "syntax" in changes:
            made.compressed(file, changes.pop("syntax"))
        for keyword, value in changes.items():
            setattr(file, keyword, value)
        (tmp_path / name).mkdir()
        with pytest.raises(RefusedSeriesError, match=r"cut off|limit|codestream"):
            volume_of(file, tmp_path / name)


def test_a_deflated_file_is_inflated_as_far_as_its_header_says(tmp_path: Path, made: Any) -> None:
    """A header above the limit of headers is refused; pixels cut off are; what follows the pixels is never inflated."""
    file = made.slices(1)[0]
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    file.save_as(tmp_path / "one.dcm")
    whole = (tmp_path / "one.dcm").read_bytes()
    meta = 144 + int.from_bytes(whole[140:144], "little")
    plain = zlib.decompress(whole[meta:], -15)
    for name, data in (("bomb", plain + bytes(1 << 26)), ("cut", plain[:-100]), ("header", bytes(1 << 26))):
        deflate = zlib.compressobj(wbits=-15)
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.dcm").write_bytes(whole[:meta] + deflate.compress(data) + deflate.flush())
    np.testing.assert_array_equal(read_series(find_series(tmp_path / "bomb")[0]).voxels[0], made.stored(file) - 1024)
    with pytest.raises(RefusedSeriesError, match="cut off"):
        read_series(find_series(tmp_path / "cut")[0])
    assert survey(tmp_path / "header").series == ()


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, J2K])
def test_compressed_pixels_cut_off_or_damaged_are_refused(syntax: str, tmp_path: Path, made: Any) -> None:
    file = made.compressed(made.slices(1)[0], syntax)
    file.save_as(tmp_path / "one.dcm")
    whole = (tmp_path / "one.dcm").read_bytes()
    for end in range(len(whole) - 12, len(whole) - 600, -60):
        (tmp_path / "one.dcm").write_bytes(whole[:end])
        with pytest.raises(RefusedSeriesError):
            read_series(find_series(tmp_path)[0])


def test_a_codestream_cut_off_inside_its_item_is_refused(tmp_path: Path, made: Any) -> None:
    for name, syntax in (("rle", RLE), ("jls", JPEG_LS), ("j2k", J2K)):
        file = made.compressed(made.slices(1)[0], syntax)
        stream = next(pydicom.encaps.generate_frames(file.PixelData, number_of_frames=1))
        file.PixelData = encapsulate([stream[: len(stream) // 2]])
        file["PixelData"].is_undefined_length = True
        (tmp_path / name).mkdir()
        with pytest.raises(RefusedSeriesError, match="pixel data"):
            volume_of(file, tmp_path / name)


def test_color_keeps_three_channels_and_a_film_its_frames() -> None:
    rgb = read_series(find_series(Path(get_testdata_file("SC_rgb_rle_2frame.dcm")))[0])
    assert rgb.voxels.shape == (2, 100, 100, 3)
    assert rgb.unit == ""


def test_a_long_multi_frame_file_is_read_in_parts(tmp_path: Path, made: Any) -> None:
    slices = made.slices(70, shape=(6, 7))
    volume = volume_of(made.enhanced(slices), tmp_path)
    np.testing.assert_array_equal(volume.voxels, [made.stored(s) - 1024 for s in slices])
