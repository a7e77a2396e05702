"""Series broken in eleven ways, made from real voxels, each with its known right answer.

The voxels are those of the head CT in Debian's package invesalius-examples (108 slices of 256 x 256 voxels); without
the package they are pieces of the one CT slice that pydicom brings. Every series is written as DICOM files whose header
is pydicom's CT slice with the elements changed that make the case; file names are in no order.
"""

from __future__ import annotations

import copy
import math
import plistlib
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

HEAD_CT = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")
TILT_DEG = 15.0
SIGN_BITS = 13
UID = "1.2.826.0.1.3680043.8.498.7."
CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """A right volume: values (slices, rows, columns) and the affine from (slice, row, column) to mm in LPS.

    A picture has no place in the patient (`placed` is False; its affine holds spacing only), and its values, turned
    round, are right up to one number added to all of them.
    """

    voxels: NDArray[np.float32]
    affine: Affine
    placed: bool = True


@dataclass(frozen=True)
class Case:
    """A broken series: `right` is `handled` (the truths are what must come out) or `refused`.

    The truths of a refused series say where its slices are in fact. `check` is the gate's name of the fault. For the
    cases of a wrong model, `model` has the modality and the body part that the model was made for.
    """

    name: str
    check: str
    right: str
    write: Callable[[Path], tuple[Truth, ...]] = field(repr=False)
    model: tuple[str, str] | None = None


@dataclass(frozen=True)
class Head:
    """Real voxels in HU (slices, rows, columns) on the upright grid of `affine`."""

    voxels: NDArray[np.int16]
    affine: Affine

    def every(self, start: int, step: int) -> Head:
        """Each step-th slice from `start` on."""
        affine = self.affine.copy()
        affine[:3, 3] += start * affine[:3, 0]
        affine[:3, 0] *= step
        return Head(self.voxels[start::step], affine)


def head_ct(*, slices: int = 108, thinned: int = 1) -> Head:
    """The middle `slices` of the head CT, every `thinned`-th voxel in plane; without the package, pydicom's slice."""
    voxels, spacing = _invesalius() if HEAD_CT.exists() else _pieces()
    start = (len(voxels) - slices) // 2 if slices < len(voxels) else 0
    voxels = np.ascontiguousarray(voxels[start : start + slices, ::thinned, ::thinned])
    affine = np.eye(4)
    affine[:3, 0] = (0.0, 0.0, spacing[0])
    affine[:3, 1] = (0.0, spacing[1] * thinned, 0.0)
    affine[:3, 2] = (spacing[2] * thinned, 0.0, 0.0)
    affine[:3, 3] = (-122.5, -118.25, -37.125)
    return Head(voxels, affine)


@cache
def _invesalius() -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    with tarfile.open(HEAD_CT) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        main, matrix = (archive.extractfile(members[name]) for name in ("main.plist", "matrix.dat"))
        assert main is not None
        assert matrix is not None
        said = plistlib.load(main)
        voxels = np.frombuffer(matrix.read(), dtype=np.int16).reshape(said["matrix"]["shape"])
    x, y, z = said["spacing"]
    return voxels, (z, y, x)


@cache
def _pieces() -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    header = _template()
    whole = header.pixel_array.astype(np.int16) + int(header.RescaleIntercept)
    return np.stack([whole[3 * k : 3 * k + 64, 2 * k : 2 * k + 64] for k in range(20)]), (1.5, 0.661468, 0.661468)


@cache
def _template() -> Dataset:
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    header.remove_private_tags()
    for keyword in ("DataSetTrailingPadding", "PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        header.pop(keyword, None)
    return header


def cases(head: Head) -> tuple[Case, ...]:
    """The eleven cases; duplicate positions once as copies and once as different slices."""

    def case(
        name: str,
        check: str,
        right: str,
        write: Callable[[Head, Path], tuple[Truth, ...]],
        model: tuple[str, str] | None = None,
    ) -> Case:
        return Case(name, check, right, lambda folder: write(head, folder), model)

    return (
        case("missing slices", "missing slices", "refused", _missing_slices),
        case("gantry tilt", "gantry tilt", "handled", _gantry_tilt),
        case("interleaved series", "interleaved series", "handled", _interleaved),
        case("duplicate positions, copies", "duplicate positions", "handled", _copies),
        case("duplicate positions, different slices", "duplicate positions", "refused", _two_at_one_place),
        case("changing spacing", "changing spacing", "refused", _changing_spacing),
        case("MONOCHROME1", "MONOCHROME1", "handled", _monochrome1),
        case("per-slice rescale (PET)", "per-slice rescale", "handled", _per_slice_rescale),
        case("sign mismatch in JPEG 2000", "sign mismatch in JPEG 2000", "handled", _sign_mismatch),
        case("over-long decimal strings", "over-long decimal string", "handled", _over_long),
        case("wrong body part", "wrong body part", "refused", _plain, ("CT", "CHEST")),
        case("wrong modality", "wrong modality", "refused", _as_mr, ("CT", "HEAD")),
    )


def plain_series(head: Head, folder: Path) -> tuple[Truth, ...]:
    """The head as a series with nothing wrong."""
    return _plain(head, folder)


def _plain(head: Head, folder: Path) -> tuple[Truth, ...]:
    write_slices(folder, head)
    return (_truth(head),)


def _truth(head: Head) -> Truth:
    return Truth(head.voxels.astype(np.float32), head.affine)


def _missing_slices(head: Head, folder: Path) -> tuple[Truth, ...]:
    n = len(head.voxels)
    gone = {n // 4, n // 2, n // 2 + 1}
    write_slices(folder, head, only=[k for k in range(n) if k not in gone])
    return (_truth(head),)


def _gantry_tilt(head: Head, folder: Path) -> tuple[Truth, ...]:
    """The same head as a gantry tilted about x would see it: planes are tilted, the table still moves along z."""
    tilted = tilted_head(head, TILT_DEG)
    write_slices(folder, tilted, {"GantryDetectorTilt": TILT_DEG})
    return (_truth(tilted),)


def tilted_head(head: Head, tilt_deg: float) -> Head:
    """The head resampled (linearly) on planes tilted about x, one under the other along z; air outside."""
    from scipy.ndimage import affine_transform

    tilt = math.radians(tilt_deg)
    affine = head.affine.copy()
    affine[:3, 1] = np.linalg.norm(affine[:3, 1]) * np.array([0.0, math.cos(tilt), math.sin(tilt)])
    affine[2, 3] -= 0.5 * head.voxels.shape[1] * affine[2, 1]  # turned about the middle row
    inverse = np.linalg.inv(head.affine) @ affine
    values = affine_transform(
        head.voxels.astype(np.float32), inverse[:3, :3], inverse[:3, 3], order=1, mode="constant", cval=-1024.0
    )
    return Head(np.rint(values).astype(np.int16), affine)


def _interleaved(head: Head, folder: Path) -> tuple[Truth, ...]:
    """Two reconstructions in one series, the slices of one between those of the other."""
    from scipy.ndimage import gaussian_filter

    bone, soft = head.every(0, 2), head.every(1, 2)
    soft = Head(gaussian_filter(soft.voxels, (0, 2, 2)), soft.affine)
    write_slices(folder, bone, {"ConvolutionKernel": "BONE"}, series_part=1)
    write_slices(folder, soft, {"ConvolutionKernel": "SOFT"}, series_part=2)
    return _truth(bone), _truth(soft)


def _copies(head: Head, folder: Path) -> tuple[Truth, ...]:
    write_slices(folder, head)
    sent_again = sorted(folder.iterdir())[:: max(1, len(head.voxels) // 5)]
    for path in sent_again:
        (folder / f"copy_{path.name}").write_bytes(path.read_bytes())
    return (_truth(head),)


def _two_at_one_place(head: Head, folder: Path) -> tuple[Truth, ...]:
    """Two time points whose times were removed: two different slices everywhere."""
    later = Head(np.where(head.voxels > 100, head.voxels + 60, head.voxels).astype(np.int16), head.affine)
    write_slices(folder, head, series_part=1)
    write_slices(folder, later, series_part=2)
    return _truth(head), _truth(later)


def _changing_spacing(head: Head, folder: Path) -> tuple[Truth, ...]:
    """Thin slices of the base of the skull and twice as thick ones of the vertex, as head protocols have them."""
    half = len(head.voxels) // 2
    write_slices(folder, head, only=[*range(half), *range(half, len(head.voxels), 2)])
    return (_truth(head),)


def _monochrome1(head: Head, folder: Path) -> tuple[Truth, ...]:
    """A frontal projection of the head through its voxels, stored the other way round."""
    grey = np.clip(head.voxels.astype(np.float32) + 1024, 0, None).mean(axis=1)[::-1]
    grey = np.rint(4095 * grey / grey.max()).astype(np.int32)
    spacing = [float(np.linalg.norm(head.affine[:3, axis])) for axis in (0, 2)]
    header = _header("CR", {"PixelSpacing": spacing, "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12})
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "GantryDetectorTilt"):
        header.pop(keyword, None)
    header.HighBit, header.PixelRepresentation = 11, 0
    header.RescaleSlope, header.RescaleIntercept, header.InstanceNumber = 1, 0, 1
    header.SOPInstanceUID = UID + "99"
    _save(header, (4095 - grey).astype("<u2"), folder / "picture")
    return (Truth(grey[None].astype(np.float32), np.diag([1.0, *spacing, 1.0]), placed=False),)


def _per_slice_rescale(head: Head, folder: Path) -> tuple[Truth, ...]:
    """Activity made from the CT's numbers, each slice stored with its own slope as PET is."""
    activity = (
        np.clip(head.voxels.astype(np.float64) + 1024, 0, None) * np.linspace(3.0, 9.0, len(head.voxels))[:, None, None]
    )
    slopes = np.maximum(activity.max(axis=(1, 2)), 1.0) / 32767
    slopes = np.array([float(f"{slope:.9g}") for slope in slopes])
    stored = np.rint(activity / slopes[:, None, None]).astype(np.int16)
    values = stored * slopes[:, None, None]
    each = [{"RescaleSlope": float(slope), "RescaleIntercept": 0.0} for slope in slopes]
    more = {"Units": "BQML", "NumberOfSlices": len(stored), "CorrectedImage": ["DECY", "ATTN"]}
    write_slices(folder, Head(stored, head.affine), more, each=each, modality="PT")
    return (Truth(values.astype(np.float32), head.affine),)


def _sign_mismatch(head: Head, folder: Path) -> tuple[Truth, ...]:
    """The header says signed, the code stream says unsigned, and the bits are those of signed numbers of 13 bits.

    As in pydicom's J2K_pixelrep_mismatch.dcm, which is a real CT.
    """
    low, high = -(2 ** (SIGN_BITS - 1)), 2 ** (SIGN_BITS - 1) - 1
    head = Head(np.clip(head.voxels, low, high), head.affine)
    write_slices(folder, head, {"BitsStored": SIGN_BITS, "HighBit": SIGN_BITS - 1}, encode=_jpeg2000_unsigned)
    return (_truth(head),)


def _jpeg2000_unsigned(plane: NDArray[np.int16]) -> bytes:
    from openjpeg.utils import encode_array

    unsigned = plane.view(np.uint16) & np.uint16(2**SIGN_BITS - 1)
    stream: bytes = encode_array(unsigned, bits_stored=SIGN_BITS, photometric_interpretation=2, codec_format=0)
    return stream


def _over_long(head: Head, folder: Path) -> tuple[Truth, ...]:
    """Positions, orientation and spacing with twenty digits after the point: DS has 16 characters (PS3.5 6.2)."""
    write_slices(folder, head, number="{:.20f}".format)
    return (_truth(head),)


def _as_mr(head: Head, folder: Path) -> tuple[Truth, ...]:
    shifted = Head((head.voxels + 1024).astype(np.int16), head.affine)
    write_slices(folder, shifted, {"RescaleIntercept": 0, "RescaleSlope": 1}, modality="MR")
    return (_truth(shifted),)


def write_slices(
    folder: Path,
    head: Head,
    elements: dict[str, Any] | None = None,
    *,
    only: Iterable[int] | None = None,
    each: list[dict[str, Any]] | None = None,
    modality: str = "CT",
    series_part: int = 1,
    encode: Callable[[NDArray[np.int16]], bytes] | None = None,
    number: Callable[[float], str] = "{:.10g}".format,
) -> list[Path]:
    """Write slices of a volume as files named in no order; signed 16 bits, values as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(series_part).permutation(len(head.voxels))
    paths = []
    for k in range(len(head.voxels)) if only is None else only:
        header = _header(modality, {**(elements or {}), **(each[k] if each else {})})
        header.SOPInstanceUID = f"{UID}{series_part}.{k + 1}"
        header.InstanceNumber = k + 1 + 1000 * (series_part - 1)
        _set_place(header, head.affine, k, number)
        paths.append(folder / f"{names[k]:04d}_{series_part}")
        _save(header, head.voxels[k], paths[-1], encode)
    return paths


def _header(modality: str, elements: dict[str, Any]) -> Dataset:
    header = copy.deepcopy(_template())
    header.SOPClassUID, header.Modality = CLASSES[modality], modality
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (UID + end for end in "890")
    header.BodyPartExamined, header.PatientName, header.PatientID = "HEAD", "Head^CT", "head"
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 1
    if modality != "CT":
        header.pop("GantryDetectorTilt", None)
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header


def _set_place(header: Dataset, affine: Affine, k: int, number: Callable[[float], str]) -> None:
    step, down, across, origin = affine[:3].T
    spacing = np.linalg.norm(down), np.linalg.norm(across)
    thickness = abs(step @ np.cross(across / spacing[1], down / spacing[0]))
    header.ImagePositionPatient = [_text(x, number) for x in origin + k * step]
    header.ImageOrientationPatient = [_text(x, number) for x in (*(across / spacing[1]), *(down / spacing[0]))]
    header.PixelSpacing = [_text(x, number) for x in spacing]
    header.SliceThickness = _text(thickness, number)
    header.pop("SpacingBetweenSlices", None)
    header.pop("SliceLocation", None)


def _text(value: float, number: Callable[[float], str]) -> Any:
    """A decimal string as it is written, even where it is longer than the standard allows."""
    from pydicom.valuerep import DSfloat

    return DSfloat(number(float(value) + 0.0), validation_mode=pydicom.config.IGNORE)


def _save(
    header: Dataset,
    plane: NDArray[Any],
    path: Path,
    encode: Callable[[NDArray[np.int16]], bytes] | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header.Rows, header.Columns = plane.shape
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless if encode else ExplicitVRLittleEndian
    header.PixelData = encapsulate([encode(plane)]) if encode else np.ascontiguousarray(plane).tobytes()
    header["PixelData"].VR = "OB" if encode else "OW"
    header["PixelData"].is_undefined_length = encode is not None
    header.save_as(path, enforce_file_format=True)
