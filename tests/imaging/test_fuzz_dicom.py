"""Headers and pixel data with anything wrong in them: a right volume or an error of this library, and little memory.

A series of five real slices stands in a folder, the middle one or all of them are changed, and the folder is read.
Where a volume comes out, its place is compared with what pydicom reads from the same headers.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from careloop import InputError
from careloop.imaging.read.series import find_series, read_series, stacks_of
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
HEAD = broken.head_ct(slices=5, thinned=8)
MIDDLE = 2
OFF_MM = 0.15  # what the gate lets pass as rounding, at the corners of this volume
FUZZ = settings(
    derandomize=True,  # the same examples each time; give --hypothesis-seed and max_examples for a campaign
    deadline=None,
    max_examples=120,
    suppress_health_check=list(HealthCheck),
)
GEOMETRY = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt",
)  # fmt: skip
KEYWORDS = (
    *GEOMETRY, "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "Modality", "ImageType", "InstanceNumber", "AcquisitionNumber", "EchoTime", "KVP", "ConvolutionKernel",
    "BodyPartExamined", "PatientID", "StudyDate", "StudyTime", "SpecificCharacterSet", "TriggerTime",
    "TemporalPositionIdentifier", "PixelPaddingValue", "SpacingBetweenSlices", "LossyImageCompression", "PixelData",
)  # fmt: skip
NUMBERS = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e30",
    "1e-300",
    "0",
    "-0",
    "-1",
    "1",
    "65535",
    "4294967296",
    "0x10",
    "1,5",
)
TEXTS = (
    "",
    " ",
    "\\",
    "\\\\\\\\\\",
    "junk",
    "\x00",
    "ä",
    "1\\2",
    "0\\0\\0",
    "0\\0\\0\\0\\0\\0",
    "1\\0\\0\\1\\0\\0",
    "1" * 64,
)
VRS = ("DS", "IS", "US", "SS", "UL", "FD", "FL", "LO", "OB", "OW", "SQ", "UN", "UI", "AT", "PN", "UT", "TM", "UV")


def base_slices(transfer_syntax: str | None = None) -> list[Dataset]:
    headers = []
    for k in range(len(HEAD.voxels)):
        header = broken._header("CT", {})
        header.SOPInstanceUID, header.InstanceNumber = f"{broken.UID}1.{k + 1}", k + 1
        broken._set_place(header, HEAD.affine, k, "{:.10g}".format)
        header.Rows, header.Columns = HEAD.voxels[k].shape
        header.PixelData = HEAD.voxels[k].tobytes()
        header["PixelData"].VR = "OW"
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        if transfer_syntax == JPEG2000Lossless:
            header.PixelData = encapsulate([jpeg_2000(HEAD.voxels[k])])
            header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True
            header.file_meta.TransferSyntaxUID = transfer_syntax
        elif transfer_syntax:
            header.compress(transfer_syntax, generate_instance_uid=False)
        headers.append(header)
    return headers


def jpeg_2000(plane: NDArray[np.int16]) -> bytes:
    from openjpeg.utils import encode_array

    stream: bytes = encode_array(plane, bits_stored=16, photometric_interpretation=2, codec_format=0)
    return stream


def as_bytes(header: Dataset) -> bytes:
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


PLAIN = base_slices()
SYNTAXES = {"plain": None, "rle": RLELossless, "jpeg-ls": JPEGLSLossless, "jpeg 2000": JPEG2000Lossless}
FILES = {name: [as_bytes(header) for header in base_slices(uid)] for name, uid in SYNTAXES.items()}


def read_all(folder: Path) -> list[Volume]:
    """Every volume in the folder that is not refused; any error but InputError is a fault of the reader."""
    volumes: list[Volume] = []
    messages: list[str] = []
    try:
        series = find_series(folder)
    except InputError:
        return volumes
    for found in series:
        try:
            for number in range(1, len(stacks_of(found)) + 1):
                volumes.append(read_series(found, stack=number))
        except InputError as error:
            messages.append(str(error))
    assert not [text for text in messages if "Head^CT" in text or len(text.splitlines()) > 1]
    return volumes


def write(folder: Path, files: list[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for k, data in enumerate(files):
        (folder / f"{(k * 3) % 5}.dcm").write_bytes(data)


def check(volumes: list[Volume]) -> None:
    """What came out lies where pydicom says that its files lie."""
    for volume in volumes:
        assert np.isfinite(volume.affine).all()
        if volume.placed:
            corners = np.array(
                [[*np.multiply(np.subtract(volume.voxels.shape[:3], 1), c), 1.0] for c in np.ndindex(2, 2, 2)]
            )
            apart = np.abs((volume.affine - said_by_headers(volume)) @ corners.T)[:3].max()
            assert apart < OFF_MM, volume.affine
        n = len(volume.voxels)
        assert n in (1, 5) or not volume.placed, "an inner slice is missing"


def said_by_headers(volume: Volume) -> NDArray[np.float64]:
    """The affine of a volume's files by what pydicom makes of their headers."""
    headers = [pydicom.dcmread(name, force=True) for name in volume.source.files]
    positions = np.array([[float(x) for x in h.ImagePositionPatient] for h in headers])
    row, column = np.array([float(x) for x in headers[0].ImageOrientationPatient]).reshape(2, 3)
    spacing = [float(x) for x in headers[0].PixelSpacing]
    n = len(headers)
    affine = np.eye(4)
    if n > 1:
        affine[:3, 0] = (positions[-1] - positions[0]) / (n - 1)
    else:
        affine[:3, 0] = volume.affine[:3, 0]
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = column * spacing[0], row * spacing[1], positions[0]
    return affine


# An element as it stands in a file, None where it is dropped: pydicom would not write most of what is tried here.
Change = tuple[str, bytes | None]


def element(keyword: str, vr: str, value: bytes) -> bytes:
    """Explicit VR, little endian (PS3.5 7.1.2)."""
    tag = Tag(tag_for_keyword(keyword))
    start = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr.encode()
    if vr in EXPLICIT_VR_LENGTH_32:
        return start + bytes(2) + len(value).to_bytes(4, "little") + value
    return start + len(value).to_bytes(2, "little") + value


@st.composite
def changed_elements(draw: st.DrawFn) -> Change:
    """An element, and what stands in its place: nothing, or any bytes under its own or another VR."""
    keyword = draw(st.sampled_from(KEYWORDS))
    own = dictionary_VR(tag_for_keyword(keyword))[:2]
    match draw(st.sampled_from(("drop", "empty", "number", "numbers", "text", "bytes", "vr"))):
        case "drop":
            return keyword, None
        case "empty":
            return keyword, element(keyword, own, b"")
        case "number":
            value = draw(st.sampled_from(NUMBERS) | st.floats().map(str) | st.integers(-(2**40), 2**40).map(str))
            return keyword, element(keyword, own, padded(value.encode()))
        case "numbers":
            values = draw(st.lists(st.sampled_from(NUMBERS) | st.floats(-1000, 1000).map("{:.6g}".format), max_size=8))
            return keyword, element(keyword, own, padded("\\".join(values).encode()))
        case "text":
            value = draw(st.sampled_from(TEXTS) | st.text(max_size=40))
            return keyword, element(keyword, own, padded(value.encode("utf-8", "replace")))
        case "bytes":
            return keyword, element(keyword, own, padded(draw(st.binary(max_size=64))))
        case _:
            return keyword, element(keyword, draw(st.sampled_from(VRS)), padded(draw(st.binary(max_size=32))))


def padded(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def elements_of(header: Dataset) -> dict[int, bytes]:
    encoded = {}
    for item in header:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, item)
        encoded[int(item.tag)] = buffer.getvalue()
    return encoded


def with_elements(number: int, *changes: Change) -> bytes:
    """The file of a plain slice with elements changed."""
    whole = FILES["plain"][number]
    start = 144 + int.from_bytes(whole[140:144], "little")  # where the file meta information ends
    changed = dict(ELEMENTS[number])
    for keyword, encoded in changes:
        changed[tag_for_keyword(keyword)] = encoded or b""
    return whole[:start] + b"".join(changed[tag] for tag in sorted(changed))


ELEMENTS = [elements_of(header) for header in PLAIN]


@FUZZ
@given(change=changed_elements())
def test_one_slice_with_any_element_changed(change: Change, tmp_path: Path) -> None:
    files = list(FILES["plain"])
    files[MIDDLE] = with_elements(MIDDLE, change)
    write(tmp_path, files)
    check(read_all(tmp_path))


@FUZZ
@given(change=changed_elements())
def test_all_slices_with_any_element_changed(change: Change, tmp_path: Path) -> None:
    write(tmp_path, [with_elements(number, change) for number in range(len(PLAIN))])
    volumes = read_all(tmp_path)
    check(volumes)
    for volume in volumes:
        if change[0] not in GEOMETRY and volume.placed and len(volume.voxels) == 5:
            np.testing.assert_allclose(volume.affine, HEAD.affine, atol=1e-6)


@FUZZ
@given(changes=st.lists(changed_elements(), min_size=2, max_size=6))
def test_several_elements_changed_in_one_slice(changes: list[Change], tmp_path: Path) -> None:
    files = list(FILES["plain"])
    files[MIDDLE] = with_elements(MIDDLE, *changes)
    write(tmp_path, files)
    check(read_all(tmp_path))


@pytest.mark.parametrize("syntax", SYNTAXES)
@settings(FUZZ, max_examples=25)
@given(data=st.data())
def test_bytes_changed_anywhere_in_one_file(syntax: str, data: st.DataObject, tmp_path: Path) -> None:
    files = list(FILES[syntax])
    changed = bytearray(files[MIDDLE])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    files[MIDDLE] = bytes(changed)
    write(tmp_path, files)
    for volume in read_all(tmp_path):
        if volume.placed and len(volume.voxels) > 1:
            assert len(volume.voxels) == 5
            np.testing.assert_allclose(volume.affine, HEAD.affine, atol=1e-2)


@pytest.mark.parametrize("syntax", SYNTAXES)
@settings(FUZZ, max_examples=25)
@given(data=st.data())
def test_files_cut_off_or_with_a_piece_lost(syntax: str, data: st.DataObject, tmp_path: Path) -> None:
    files = list(FILES[syntax])
    whole = files[MIDDLE]
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.sampled_from((len(whole), start)) | st.integers(start, len(whole)))
    files[MIDDLE] = whole[:start] + whole[end:]
    write(tmp_path, files)
    volumes = read_all(tmp_path)
    if files[MIDDLE] == whole:
        assert [v.voxels.shape for v in volumes] == [HEAD.voxels.shape]
    for volume in volumes:
        if volume.placed and len(volume.voxels) > 1:
            assert len(volume.voxels) == 5
            np.testing.assert_allclose(volume.affine, HEAD.affine, atol=1e-2)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_series_as_it_is(syntax: str, tmp_path: Path) -> None:
    write(tmp_path, FILES[syntax])
    (volume,) = read_all(tmp_path)
    np.testing.assert_array_equal(volume.voxels, HEAD.voxels)
    np.testing.assert_allclose(volume.affine, HEAD.affine, atol=1e-6)


# Files that are small and claim to be large.


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """Name, file name and content."""
    for rows, columns in ((65535, 65535), (65535, 16), (20000, 20000)):
        for syntax in SYNTAXES:
            header = copy.deepcopy(base_slices(SYNTAXES[syntax])[0])
            header.Rows, header.Columns = rows, columns
            yield f"{rows} x {columns} {syntax}", "a.dcm", as_bytes(header)
    for frames in ("1000000", "2147483647", "99999999999999999999"):
        for syntax in SYNTAXES:
            plain = element("NumberOfFrames", "IS", b"1 ")
            header = copy.deepcopy(base_slices(SYNTAXES[syntax])[0])
            header.NumberOfFrames = 1
            claimed = element("NumberOfFrames", "IS", padded(frames.encode()))
            yield f"{frames} frames {syntax}", "a.dcm", as_bytes(header).replace(plain, claimed)
    yield "run lengths of zeros", "a.dcm", run_lengths(65535, 65535)
    yield "code stream of 65535 x 65535", "a.dcm", code_stream(65535)
    yield "code stream of 30000 x 30000", "a.dcm", code_stream(30000)
    yield "deflated zeros", "a.dcm", deflated_zeros(1 << 30)
    yield "deep sequences", "a.dcm", deep_sequences(20_000)
    yield "element of 4 GB", "a.dcm", element_of_4_gb()
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.dcm", "w", force_zip64=True) as f,
    ):
        f.write(FILES["plain"][0])
        for _ in range(1024):
            f.write(bytes(1 << 20))
    yield "zip of zeros", "a.zip", packed.getvalue()


def run_lengths(rows: int, columns: int) -> bytes:
    """A frame whose two segments of zeros are as long as they are said to be, at 64 to 1."""
    run = bytes([129, 0]) * (rows * columns // 128 // 64)  # a part of it: the file stays small
    starts = (2, 64, 64 + len(run), *[0] * 13)
    header = copy.deepcopy(base_slices(RLELossless)[0])
    header.Rows, header.Columns = rows, columns
    header.PixelData = encapsulate([np.array(starts, "<u4").tobytes() + run * 2])
    return as_bytes(header)


def code_stream(size: int) -> bytes:
    """A JPEG 2000 code stream and header that agree on a size which the bytes cannot hold."""
    header = copy.deepcopy(base_slices(JPEG2000Lossless)[0])
    (frame,) = pydicom.encaps.generate_frames(header.PixelData, number_of_frames=1)
    at = frame.index(b"\xff\x51") + 6
    wide = size.to_bytes(4, "big")
    changed = frame[:at] + wide * 2 + frame[at + 8 : at + 16] + wide * 2 + frame[at + 24 :]
    header.Rows = header.Columns = size
    header.PixelData = encapsulate([changed])
    return as_bytes(header)


def deflated_zeros(size: int) -> bytes:
    header = copy.deepcopy(PLAIN[0])
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.PixelData = b""
    whole = as_bytes(PLAIN[0])
    plain = whole[: whole.index(b"\xe0\x7f\x10\x00OW")]
    meta = as_bytes(header)
    start = 144 + int.from_bytes(meta[140:144], "little")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = plain[144 + int.from_bytes(plain[140:144], "little") :]
    parts = [squeeze.compress(body + b"\xe0\x7f\x10\x00OW\x00\x00" + size.to_bytes(4, "little"))]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return meta[:start] + b"".join(parts) + squeeze.flush()


def deep_sequences(depth: int) -> bytes:
    whole = as_bytes(PLAIN[0])
    at = whole.index(b"\x20\x00\x32\x00DS")
    opening = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    return whole[:at] + opening * depth + closing * depth + whole[at:]


def element_of_4_gb() -> bytes:
    whole = as_bytes(PLAIN[0])
    at = whole.index(b"\x20\x00\x32\x00DS")
    return whole[:at] + b"\x18\x00\x31\x10UT\x00\x00\xfe\xff\xff\xff" + whole[at:]


READER = """
import json, os, resource, signal, sys
from pathlib import Path
import numpy, openjpeg, pydicom  # in memory before the count begins
from careloop import InputError
from careloop.imaging.read.series import find_series, read_series, stacks_of

def read(path):
    try:
        shapes = [read_series(f, stack=k + 1).voxels.shape for f in find_series(path) for k in range(len(stacks_of(f)))]
        return f"read {shapes}"
    except InputError as error:
        return "InputError"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sorted(Path(sys.argv[1]).iterdir()):
    child = os.fork()
    if child == 0:
        signal.alarm(int(sys.argv[2]))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # so that a fault here is none for the machine
        (folder / "result").write_text(read(next(folder.glob("a.*"))))
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    result = (folder / "result").read_text() if status == 0 else f"died by signal {status & 127}"
    print(json.dumps({folder.name: [result, (used.ru_maxrss - before) >> 10]}), flush=True)
"""
MOST_MB, MOST_SECONDS = 300, 30


def test_files_that_claim_to_be_large_take_little_memory(tmp_path: Path) -> None:
    names = []
    for number, (name, file, content) in enumerate(bombs()):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        (folder / file).write_bytes(content)
        names.append(name)
        assert len(content) < 8 << 20, name
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path), str(MOST_SECONDS)], capture_output=True, text=True, check=False
    )
    results: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        results |= json.loads(line)
    told = {names[int(number)]: result for number, result in results.items()}
    assert done.returncode == 0, (done.stderr[-500:], list(told.items())[-1:], names[len(told) : len(told) + 1])
    small = str(HEAD.voxels[:1].shape)  # right where what is too much lies beyond the image
    right = {"InputError", f"read [{small}]"}
    assert not {name: result for name, result in told.items() if result[0] not in right or result[1] > MOST_MB}
