"""Restored slices as a new DICOM series beside the original one, which says that it is derived, from what, and how."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import careloop
from careloop import InputError
from careloop.imaging.terms import Code
from careloop.imaging.volume import Volume, name_and_version
from careloop.imaging.write.dicom_parts import (
    LONG_STRING_LENGTH,
    NOT_CLINICAL,
    derived_uid,
    long_string,
    save_whole,
)
from careloop.imaging.write.source_headers import SourceHeaders, source_headers
from careloop.imaging.write.stored_values import StoredScale, decimal_string, scale_for, scale_through_zero

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

Derivation = Literal["noise reduction", "deblurring", "resolution", "bias field correction"]

SERIES_NUMBER = 9104
RESTORED = f"restored, {NOT_CLINICAL}"
# PS3.16 CID 7203 has no code for a learned restoration; these are what is nearest.
DERIVATIONS: dict[Derivation, Code] = {
    "noise reduction": ("DCM", "113087", "Smoothing"),
    "deblurring": ("DCM", "113086", "Edge enhancement"),
    "resolution": ("DCM", "113085", "Spatial resampling"),
    "bias field correction": ("DCM", "113046", "Pixel by pixel division"),
}
OVERLAYS = 0x6000  # the even groups from here to 0x60FE
SOURCE_IMAGE: Code = ("DCM", "121322", "Source image for image processing operation")  # CID 7202
PROCESSING: Code = ("DCM", "109102", "Processing Equipment")  # CID 7005
CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED = {CT + ".1", MR + ".1", "1.2.840.10008.5.1.4.1.1.130"}
# CR, DX and mammography, for presentation and for processing: values as stored, without a scale of their own.
UNSCALED = {"1.2.840.10008.5.1.4.1.1.1", *(f"1.2.840.10008.5.1.4.1.1.1.{n}" for n in ("1", "1.1", "2", "2.1"))}
WRITABLE = {CT, MR, PET, *ENHANCED, *UNSCALED}
FRAME_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")
# What was true of the stored values, bytes or files of the source alone.
LEFT_OUT = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "ModalityLUTSequence", "VOILUTSequence", "IconImageSequence", "PixelPaddingRangeLimit", "PixelDataProviderURL",
    "MACParametersSequence", "DigitalSignaturesSequence", "DataSetTrailingPadding", "FloatPixelPaddingValue",
    "SourceImageSequence", "DerivationImageSequence", "ConcatenationUID", "InConcatenationNumber",
    "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber", "SOPInstanceUIDOfConcatenationSource",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PresentationLUTSequence",
)  # fmt: skip


@dataclass(frozen=True)
class DerivationFacts:
    """What was done to the images: its kind, one sentence for the header, and what did it (name and version).

    `noise_sd` is the noise that is left, in the volume's unit: rounding stays below it. Where None the images are
    rounded as the originals are.
    """

    description: str
    made_by: str
    derivation: Derivation = "noise reduction"
    noise_sd: float | None = None


def write_derived_series(
    volume: Volume, original_files: Sequence[str], out: Path, *, what: DerivationFacts
) -> tuple[Path, ...]:
    """Write `volume` as a new series into the empty or new folder `out`; returns the paths in slice order.

    `original_files` are the DICOM files that the slices were made from, in slice order, as `Source.files` names them:
    single-frame CT, MR, PET, CR, DX and mammography give one file a slice, an enhanced multi-frame file gives one file,
    of the frames that the volume's source names. Patient, study, frame of reference and geometry are theirs; images of
    one frame may have more rows and columns (PixelSpacing and position follow the volume then). ImageType,
    DerivationDescription, DerivationCodeSequence, SourceImageSequence and ContributingEquipmentSequence say that and
    how the images are derived (PS3.3 C.7.6.1.1.2, C.12.4.1, C.7.5.1), and the series description ends in `restored, not
    for clinical use`. Private elements, overlays and signatures are left out. UIDs follow from content.

    Raises:
        InputError: the volume has no DICOM images behind it, or images of another kind or in colour; it is not on
            their grid; a value is not finite; `out` has files in it.
    """
    _check_folder(out)
    volume, found = _derivable(volume, original_files)
    scale = _scale(volume, found.headers, what)
    series = derived_uid(careloop.__version__, volume.source.series, repr(what), volume.voxels)
    several = len(found.headers) > 1 or not found.frames
    parts = volume.voxels if several else [volume.voxels]
    written = []
    with warnings.catch_warnings(action="ignore"):  # of pydicom, about what the source's own header says
        for index, (header, pixels) in enumerate(zip(found.headers, parts, strict=True)):
            made = _described(header, what, series)
            _name_sources(made, header, found.frames, what)
            _place(made, header, volume, index)
            _store(made, pixels, scale, volume.unit)
            made.SOPInstanceUID = derived_uid(series, str(header.SOPInstanceUID))
            made.InstanceNumber = header.get("InstanceNumber") or index + 1
            written.append(save_whole(_as_file(made), out / f"{index + 1:04d}.dcm"))
    return tuple(written)


def check_derivable(volume: Volume, original_files: Sequence[str]) -> None:
    """Raise InputError where `write_derived_series` could not make a series of a volume on the grid of this one."""
    _derivable(volume, original_files)


def _derivable(volume: Volume, original_files: Sequence[str]) -> tuple[Volume, SourceHeaders]:
    volume = replace(volume, source=replace(volume.source, files=tuple(original_files)))
    found = source_headers(volume, what="a derived series")
    _check_kind(volume, found)
    return volume, found


def _check_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"A derived series is written into a new or an empty folder, so that no image is overwritten; {out} is not"
        )


def _check_kind(volume: Volume, found: SourceHeaders) -> None:
    kinds = {header.SOPClassUID for header in found.headers}
    if kinds - WRITABLE or volume.voxels.ndim != 3:
        names = ", ".join(sorted(kind.name for kind in kinds))
        raise InputError(
            "A derived series can be written of CT, MR, PET, CR, DX and mammography images without colour, single or "
            f"enhanced; got {names} of shape {volume.voxels.shape}"
        )
    sizes = {(int(header.Rows), int(header.Columns)) for header in found.headers}
    if _is_enhanced(found.headers[0]) and sizes != {volume.voxels.shape[1:]}:
        raise InputError("A derived enhanced image must have the rows and columns of its source")


def _is_enhanced(header: Dataset) -> bool:
    return str(header.SOPClassUID) in ENHANCED


def _scale(volume: Volume, headers: Sequence[Dataset], what: DerivationFacts) -> StoredScale:
    """How all slices are stored: by the source's slope, intercept and bits where those are one and fine enough."""
    first = headers[0]
    bits, signed = int(first.BitsStored), bool(first.PixelRepresentation)
    if str(first.SOPClassUID) in UNSCALED:
        return StoredScale(1.0, 0.0, bits, signed)
    if str(first.SOPClassUID) == PET:
        return scale_through_zero(volume.voxels)
    stated = {(*_slope_and_intercept(header), int(header.BitsStored)) for header in headers}
    source = StoredScale(*stated.pop()[:2], bits, signed) if len(stated) == 1 else None
    return scale_for(volume.voxels, source, noise_sd=what.noise_sd)


def _slope_and_intercept(header: Dataset) -> tuple[float, float]:
    """Of the image, or of the first frame of an enhanced one."""
    groups = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups += [t for group in header.get(name, [])[:1] for t in group.get("PixelValueTransformationSequence", [])]
    stated = [group for group in groups if "RescaleSlope" in group]
    return (float(stated[-1].RescaleSlope), float(stated[-1].RescaleIntercept)) if stated else (1.0, 0.0)


def _described(header: Dataset, what: DerivationFacts, series: str) -> Dataset:
    """The source's header without what was true of its pixels alone, and with what says that it is derived."""
    from pydicom import Dataset as New

    tags = [tag for tag in header.keys() if not tag.is_private and tag.group & 0xFF01 != OVERLAYS]  # noqa: SIM118
    made = New({tag: copy.deepcopy(header[tag]) for tag in tags})
    made.remove_private_tags()  # those within sequences
    for keyword in LEFT_OUT:
        if keyword in made:
            delattr(made, keyword)
    now = datetime.now()
    for kind in ("InstanceCreation", "Series", "Content"):
        setattr(made, f"{kind}Date", f"{now:%Y%m%d}")
        setattr(made, f"{kind}Time", f"{now:%H%M%S}")
    made.SeriesInstanceUID, made.SeriesNumber = series, SERIES_NUMBER
    made.SeriesDescription = _series_description(str(header.get("SeriesDescription") or ""))
    made.ImageType = _image_type(made.get("ImageType"), enhanced=_is_enhanced(header))
    made.DerivationDescription = _ascii(f"{what.description}; {what.made_by}; {NOT_CLINICAL}")[:1024]
    made.DerivationCodeSequence = [_code(DERIVATIONS[what.derivation])]
    equipment = list(made.get("ContributingEquipmentSequence") or [])
    made.ContributingEquipmentSequence = [*equipment, _equipment(what, now)]
    return made


def _series_description(source: str) -> str:
    """The source's description, cut so that what the series is stays readable."""
    room = LONG_STRING_LENGTH - len(RESTORED) - 2
    return f"{source[:room].strip()}, {RESTORED}" if source.strip() else RESTORED


def _image_type(stated: Any, *, enhanced: bool) -> list[str]:
    """DERIVED, SECONDARY and the rest of the source's; the second value of enhanced images is always PRIMARY."""
    rest = [str(value) for value in stated or []][2:]
    return ["DERIVED", "PRIMARY" if enhanced else "SECONDARY", *(rest or ["OTHER"])]


def _equipment(what: DerivationFacts, now: datetime) -> Dataset:
    from pydicom import Dataset as New

    name, version = name_and_version(what.made_by)
    made = New()
    made.PurposeOfReferenceCodeSequence = [_code(PROCESSING)]
    made.Manufacturer, made.ManufacturerModelName = "careloop", long_string(_ascii(name or "careloop"))
    made.SoftwareVersions = [careloop.__version__, *([long_string(_ascii(version))] if version else [])]
    made.ContributionDateTime = f"{now:%Y%m%d%H%M%S}"
    made.ContributionDescription = _ascii(what.description)[:1024]
    return made


def _name_sources(made: Dataset, header: Dataset, frames: tuple[int, ...], what: DerivationFacts) -> None:
    """Refer to the source image; from an enhanced one frame by frame."""
    made.SourceImageSequence = [_reference(header)]
    if not _is_enhanced(header):
        return
    made.SourceImageEvidenceSequence = [_evidence(header)]
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.pop("DerivationImageSequence", None)
    groups = made.PerFrameFunctionalGroupsSequence
    for number, group in zip(frames or (1,), groups, strict=True):
        item = copy.deepcopy(made.DerivationCodeSequence[0])
        group.DerivationImageSequence = [_derivation(made.DerivationDescription, item, _reference(header, number))]
        for keyword in {"PlaneOrientationSequence", "PixelMeasuresSequence"} & {element.keyword for element in shared}:
            group.pop(keyword, None)  # those of one volume are alike, and `source_headers` has shared them
    for group in (shared, *groups):
        for keyword in FRAME_TYPES:
            for frame in group.get(keyword, []):
                frame.FrameType = _image_type(frame.get("FrameType"), enhanced=True)


def _derivation(description: str, code: Dataset, source: Dataset) -> Dataset:
    from pydicom import Dataset as New

    made = New()
    made.DerivationDescription, made.DerivationCodeSequence = description, [code]
    made.SourceImageSequence = [source]
    return made


def _reference(header: Dataset, frame: int | None = None) -> Dataset:
    from pydicom import Dataset as New

    made = New()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frame is not None:
        made.ReferencedFrameNumber = frame
    made.PurposeOfReferenceCodeSequence = [_code(SOURCE_IMAGE)]
    return made


def _evidence(header: Dataset) -> Dataset:
    """The source image by study and series (PS3.3 table 10-4)."""
    from pydicom import Dataset as New

    instance, series, study = New(), New(), New()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = header.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = header.StudyInstanceUID, [series]
    return study


def _place(made: Dataset, header: Dataset, volume: Volume, index: int) -> None:
    """Rows and columns; where they are not the source's, their spacing and the slice's position, too."""
    rows, columns = volume.voxels.shape[1:]
    if (rows, columns) == (int(header.Rows), int(header.Columns)):
        return
    made.Rows, made.Columns = rows, columns
    made.PixelSpacing = [decimal_string(mm) for mm in volume.spacing_mm[1:]]
    if volume.placed:
        corner = volume.affine @ [index, 0, 0, 1]
        made.ImagePositionPatient = [decimal_string(float(mm)) for mm in corner[:3]]


def _store(made: Dataset, values: NDArray[Any], scale: StoredScale, unit: str) -> None:
    """Pixels, what they are, and what brings them to the volume's unit."""
    inverted = made.get("PhotometricInterpretation") == "MONOCHROME1"
    if inverted:  # a volume has high values bright
        for keyword in ("WindowCenter", "WindowWidth"):
            made.pop(keyword, None)
        made.PresentationLUTShape = "IDENTITY"
    before = (int(made.BitsStored), int(made.PixelRepresentation), *_slope_and_intercept(made))
    if before != (scale.bits, int(scale.signed), scale.slope, scale.intercept) or inverted:
        made.pop("PixelPaddingValue", None)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, scale.bits, scale.bits - 1
    made.PixelRepresentation = int(scale.signed)
    if _is_enhanced(made):
        _store_scale_of_frames(made, scale, "HU" if unit == "[hnsf'U]" else "US")
    elif str(made.SOPClassUID) not in UNSCALED and (scale.slope, scale.intercept) != before[2:]:
        made.RescaleSlope, made.RescaleIntercept = decimal_string(scale.slope), decimal_string(scale.intercept)
    if unit == "g/mL" and str(made.SOPClassUID) == PET:
        made.Units, made.SUVType = "GML", "BW"
    made.add_new("PixelData", "OW", scale.stored(values).tobytes())


def _store_scale_of_frames(made: Dataset, scale: StoredScale, kind: str) -> None:
    """One scale for all frames."""
    from pydicom import Dataset as New

    item = New()
    item.RescaleSlope, item.RescaleIntercept = decimal_string(scale.slope), decimal_string(scale.intercept)
    item.RescaleType = kind
    for group in made.PerFrameFunctionalGroupsSequence:
        group.pop("PixelValueTransformationSequence", None)
    made.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [item]


def _as_file(made: Dataset) -> Dataset:
    """With the file meta information of uncompressed little endian."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import correct_ambiguous_vr
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta = meta
    return correct_ambiguous_vr(made, is_little_endian=True)  # values whose sign follows from the pixels'


def _code(code: Code) -> Dataset:
    from pydicom import Dataset as New

    made = New()
    made.CodingSchemeDesignator, made.CodeValue, made.CodeMeaning = code
    return made


def _ascii(text: str) -> str:
    """Text that every character set holds, without what separates values."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")
