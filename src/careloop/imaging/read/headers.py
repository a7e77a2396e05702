"""What the header of one DICOM file says: its series, its slices and their places, and how its pixels are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from careloop.imaging.finding import Finding
from careloop.imaging.read.described import SeriesText, acquired_at, series_text
from careloop.imaging.read.elements import (
    BadValueError,
    code_string,
    decimals,
    directions,
    over_long_findings,
    pair,
    private_text,
    raw_text,
    tag_of,
    titled,
    vector,
    whole,
)
from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.read.frames import frame_slices
from careloop.imaging.read.layout import PixelLayout, read_layout
from careloop.imaging.read.parsing import Parsed, parse_file
from careloop.imaging.read.suv import PRIVATE_TAGS, PetFacts, read_pet_facts
from careloop.imaging.slices import SliceHeader
from careloop.ingest.dicom.header import items, number

if TYPE_CHECKING:
    from pydicom import Dataset

Kind = Literal["image", "segmentation", "contours", "other"]
SeriesKey = tuple[str, str, str]  # patient, study and series, as their bytes stand: what files of one series share
_KIND_OF_CLASS: dict[str, Kind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.481.3": "contours",  # RT Structure Set
    "1.2.840.10008.5.1.4.1.1.77.1.6": "other",  # whole slide microscopy: frames are tiles, not slices
}
# What one series may hold several volumes by; (0018,9087) is standard, the vendors' elements are read beside it.
STACK_KEYWORDS = {
    "EchoTime": "EchoTime", "InversionTime": "InversionTime", "FlipAngle": "FlipAngle", "KVP": "KVP",
    "AcquisitionNumber": "AcquisitionNumber", "TemporalPositionIdentifier": "TemporalPositionIdentifier",
    "TriggerTime": "TriggerTime", "NominalPercentageOfCardiacPhase": "CardiacPhase",
    "DiffusionBValue": "b-value", "DiffusionGradientOrientation": "gradient direction",
    "FrameReferenceTime": "FrameReferenceTime", "ConvolutionKernel": "ConvolutionKernel",
    "ContrastBolusAgent": "ContrastBolusAgent", "FrameOfReferenceUID": "FrameOfReferenceUID", "ImageType": "ImageType",
}  # fmt: skip
_SIEMENS_B, _SIEMENS_OWNER = 0x0019100C, 0x00190010
_GE_B, _GE_OWNER = 0x00431039, 0x00430010
_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName", "Modality",
    "BodyPartExamined", "AnatomicRegionSequence", "SeriesDescription", "TimezoneOffsetFromUTC", "AcquisitionDateTime",
    "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime", "StudyDate",
    "StudyTime", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions", "SliceThickness",
    "SpacingBetweenSlices", "GantryDetectorTilt", "RescaleSlope", "RescaleIntercept", "RescaleType", "NumberOfFrames",
    "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation", "PixelPaddingValue", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DetectorInformationSequence",
    "SliceVector", "GridFrameOffsetVector", "DoseGridScaling", "DoseUnits", "Units", "DecayCorrection",
    "CorrectedImage", "SUVType", "PatientWeight",
    "RadiopharmaceuticalInformationSequence", "DirectoryRecordSequence", "SeriesType", "NumberOfSlices",
    *STACK_KEYWORDS,
)  # fmt: skip
_DECIMALS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt",
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
_PRIVATE = (_SIEMENS_B, _SIEMENS_OWNER, _GE_B, _GE_OWNER)


@dataclass(frozen=True, slots=True)
class FileHeader:
    """One readable DICOM file. `slices` and `layout` are empty and None for what holds no image (`kind` says what).

    `key` has its patient, study and series; `acquired` is as in `Source`.
    """

    file: str
    kind: Kind
    modality: str
    key: SeriesKey
    text: SeriesText
    frame_of_reference: str = ""
    acquired: datetime | None = None
    slices: tuple[SliceHeader, ...] = ()
    layout: PixelLayout | None = None
    pet: PetFacts | None = None
    dose_unit: str = ""


class UnreadableSliceError(UnreadableError):
    """A file whose series is known, but whose image cannot be used."""

    def __init__(self, key: SeriesKey, reason: str) -> None:
        super().__init__(reason)
        self.key = key


@cache
def _tags() -> tuple[int, ...]:
    return (*(tag_of(keyword) for keyword in _KEYWORDS), *_PRIVATE, *PRIVATE_TAGS)


def read_header(name: str, files: Files, texts: dict[SeriesKey, SeriesText]) -> FileHeader | None:
    """Return what one file's header says, or None where it is no DICOM file (or an index of other files).

    `texts` holds the text of series met before, which is not read again, and takes that of new ones.

    Raises:
        UnreadableSliceError: an image whose series is known has a header that cannot be used, or too few bytes.
        UnreadableError: the file cannot be opened or parsed, or does not say to which series it belongs.
    """
    parsed = parse_file(name, files, _tags())
    if parsed is None:
        return None
    header = parsed.header
    study, series = raw_text(header, "StudyInstanceUID"), raw_text(header, "SeriesInstanceUID")
    sop_class = raw_text(header, "SOPClassUID")
    if not sop_class and not series and parsed.place is None:
        raise UnreadableError("it says neither what it is nor to which series it belongs")
    kind = _kind(header, sop_class, parsed)
    key = (raw_text(header, "PatientID"), study, series)
    if key not in texts:
        texts[key] = series_text(header)
    plain = FileHeader(
        name, kind, code_string(header, "Modality"), key, texts[key],
        acquired=acquired_at(header), frame_of_reference=raw_text(header, "FrameOfReferenceUID"),
    )  # fmt: skip
    if kind != "image":
        return plain
    try:
        return _with_image(plain, parsed)
    except (BadValueError, UnreadableError) as error:
        raise UnreadableSliceError(key, str(error)) from None


def _kind(header: Dataset, sop_class: str, parsed: Parsed) -> Kind:
    if sop_class in _KIND_OF_CLASS:
        return _KIND_OF_CLASS[sop_class]
    if code_string(header, "Modality") == "SEG":
        return "segmentation"
    return "image" if parsed.place is not None or whole(header, "Rows") else "other"


def _with_image(plain: FileHeader, parsed: Parsed) -> FileHeader:
    if parsed.place is None:
        raise UnreadableError("it ends before its pixel data")
    layout = read_layout(parsed.header, parsed.place, parsed.transfer_syntax, parsed.file_bytes)
    first = _first_slice(plain, parsed.header, layout)
    return replace(
        plain,
        layout=layout,
        slices=frame_slices(parsed.header, first, layout.frames),
        pet=read_pet_facts(parsed.header) if plain.modality == "PT" else None,
        dose_unit=raw_text(parsed.header, "DoseUnits"),
    )


def _first_slice(plain: FileHeader, header: Dataset, layout: PixelLayout) -> SliceHeader:
    """The slice that the elements outside of functional groups describe."""
    over_long: list[str] = []
    numbers = {name: decimals(header, name, over_long) for name in _DECIMALS}
    spacing, spacing_findings = _pixel_spacing(header, numbers["PixelSpacing"], over_long)
    slope, intercept = numbers["RescaleSlope"], numbers["RescaleIntercept"]
    if plain.modality == "RTDOSE":
        slope, intercept = decimals(header, "DoseGridScaling", over_long), None
    return SliceHeader(
        file=plain.file,
        frame=0,
        instance=raw_text(header, "SOPInstanceUID"),
        rows=layout.rows,
        columns=layout.columns,
        position=vector(numbers["ImagePositionPatient"], "ImagePositionPatient"),
        orientation=directions(numbers["ImageOrientationPatient"]),
        pixel_spacing_mm=spacing,
        slice_thickness_mm=_only(numbers["SliceThickness"]),
        gantry_tilt_deg=_only(numbers["GantryDetectorTilt"]),
        instance_number=whole(header, "InstanceNumber"),
        slope=1.0 if slope is None else slope[0],
        intercept=0.0 if intercept is None else intercept[0],
        rescale_type=titled(raw_text(header, "RescaleType")),
        signed=layout.signed,
        bits_stored=layout.bits_stored,
        photometric=layout.photometric,
        transfer_syntax=layout.transfer_syntax,
        image_type=tuple(filter(None, map(titled, raw_text(header, "ImageType").split("\\")))),
        stacks=_stacks(header, plain.modality),
        slices_in_volume=whole(header, "NumberOfSlices") if plain.modality == "PT" else None,
        findings=(*over_long_findings(over_long), *spacing_findings),
    )


def _only(values: tuple[float, ...] | None) -> float | None:
    return values[0] if values else None


def _stacks(header: Dataset, modality: str) -> dict[str, str]:
    stacks = {name: titled(raw_text(header, keyword)) for keyword, name in STACK_KEYWORDS.items()}
    if modality == "PT" and raw_text(header, "SeriesType").startswith(("STATIC", "WHOLE BODY")):
        stacks["FrameReferenceTime"] = ""  # that of each bed position, which are one volume
    if not stacks["b-value"]:
        stacks["b-value"] = _vendor_b_value(header)
    return {name: value for name, value in stacks.items() if value}


def _vendor_b_value(header: Dataset) -> str:
    """The b-value in s/mm2 that Siemens and GE write into private elements of classic MR files."""
    if private_text(header, _SIEMENS_OWNER) == "SIEMENS MR HEADER":
        return private_text(header, _SIEMENS_B)
    if private_text(header, _GE_OWNER) == "GEMS_PARM_01":
        value = private_text(header, _GE_B).split("\\")[0]
        return str(int(value) % 100_000) if value.isdecimal() else ""  # GE adds a flag of 1e9
    return ""


def _pixel_spacing(
    header: Dataset, stated: tuple[float, ...] | None, over_long: list[str]
) -> tuple[tuple[float, float] | None, list[Finding]]:
    """Spacing in the patient; else at the detector, on the scanned film or in the ultrasound image, which is noted."""
    if stated is not None:
        return pair(stated, "PixelSpacing"), []
    for keyword, place in (("ImagerPixelSpacing", "at the detector"), ("NominalScannedPixelSpacing", "on the film")):
        spacing = decimals(header, keyword, over_long)
        if spacing is not None:
            message = f"the spacing is that {place}, not in the patient: lengths are not calibrated"
            return pair(spacing, keyword), [Finding("spacing", "noted", message)]
    regions = list(items(header, "SequenceOfUltrasoundRegions"))
    if len(regions) != 1 or not _is_in_cm(regions[0]):
        return None, []
    y, x = number(regions[0], "PhysicalDeltaY"), number(regions[0], "PhysicalDeltaX")
    if not y or not x:
        return None, []
    found = Finding("spacing", "noted", "the spacing is that of the one calibrated ultrasound region")
    return (abs(y) * 10.0, abs(x) * 10.0), [found]


def _is_in_cm(region: Dataset) -> bool:
    units = (whole(region, "PhysicalUnitsXDirection"), whole(region, "PhysicalUnitsYDirection"))
    return units == (3, 3) and whole(region, "RegionSpatialFormat") == 1
