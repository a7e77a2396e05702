"""The slices of a multi-frame file: functional groups, a nuclear tomogram, a dose grid, or frames without a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.finding import Finding
from careloop.imaging.read.elements import decimals, raw_text, whole
from careloop.imaging.read.files import UnreadableError
from careloop.imaging.slices import SliceHeader, Vector
from careloop.ingest.dicom.header import items

if TYPE_CHECKING:
    from pydicom import Dataset

OVER_LONG = "over-long decimal string"
_AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
_FRAME_TYPES = (
    "CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence", "MRSpectroscopyFrameTypeSequence",
    "XRay3DFrameTypeSequence",
)  # fmt: skip
# Macro (sequence), element in it, and its name among the values that tell volumes apart (PS3.3 C.7.6.16.2, C.8.13.5).
_STACK_ELEMENTS = (
    ("FrameContentSequence", "StackID", "StackID"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIndex"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "b-value"),
    ("MRDiffusionSequence", "DiffusionDirectionality", "DiffusionDirectionality"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "NominalCardiacTriggerDelayTime"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", "CardiacPhase"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", "RespiratoryPhase"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle", "FlipAngle"),
    ("CTXRayDetailsSequence", "KVP", "KVP"),
    ("CTReconstructionSequence", "ConvolutionKernel", "ConvolutionKernel"),
    ("PETFrameAcquisitionSequence", "FrameReferenceTime", "FrameReferenceTime"),
)


def frame_slices(header: Dataset, first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    """Return one slice a frame; `first` is what the elements outside of functional groups say.

    Raises:
        UnreadableError: the frames described are not as many as the frames there are, or an element is malformed.
        BadValueError: an element that must hold numbers does not.
    """
    groups = list(items(header, "PerFrameFunctionalGroupsSequence"))
    if groups:
        return _grouped(header, groups, first, frames)
    if "GridFrameOffsetVector" in header:
        return _dose_grid(header, first, frames)
    if "SliceVector" in header and "DetectorInformationSequence" in header:
        return _nuclear(header, first, frames)
    if frames == 1:
        return (first,)
    message = f"{frames} frames without a place each (a film or a sequence of pictures): they stay in their order"
    plain = replace(first, position=None, orientation=None, findings=(*first.findings, Finding("cine", "noted", message)))
    return tuple(replace(plain, frame=frame) for frame in range(frames))


def _grouped(header: Dataset, groups: Sequence[Dataset], first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    if len(groups) != frames:
        raise UnreadableError(f"its header describes {len(groups)} frames and states {frames}")
    shared = next(iter(items(header, "SharedFunctionalGroupsSequence")), None)
    common = {} if shared is None else _macros(shared)
    return tuple(_frame(first, frame, common | _macros(group)) for frame, group in enumerate(groups))


def _macros(group: Dataset) -> dict[str, Dataset]:
    """The first item of each functional group macro, by the sequence's keyword."""
    return {keyword: item for keyword in _used_macros() if (item := next(iter(items(group, keyword)), None)) is not None}


def _used_macros() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_PLACES, *_FRAME_TYPES, *(macro for macro, _, _ in _STACK_ELEMENTS))))


_PLACES = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
    "CTAcquisitionDetailsSequence",
)  # fmt: skip


def _frame(first: SliceHeader, frame: int, macros: dict[str, Dataset]) -> SliceHeader:
    over_long: list[str] = []

    def values(macro: str, keyword: str) -> tuple[float, ...] | None:
        return decimals(macros[macro], keyword, over_long) if macro in macros else None

    position = values("PlanePositionSequence", "ImagePositionPatient")
    orientation = values("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = values("PixelMeasuresSequence", "PixelSpacing")
    thickness = values("PixelMeasuresSequence", "SliceThickness")
    tilt = values("CTAcquisitionDetailsSequence", "GantryDetectorTilt")
    slope = values("PixelValueTransformationSequence", "RescaleSlope")
    intercept = values("PixelValueTransformationSequence", "RescaleIntercept")
    rescaled = macros.get("PixelValueTransformationSequence")
    content = macros.get("FrameContentSequence")
    return replace(
        first,
        frame=frame,
        position=first.position if position is None else vector(position, "ImagePositionPatient"),
        orientation=first.orientation if orientation is None else directions(orientation),
        pixel_spacing_mm=first.pixel_spacing_mm if spacing is None else pair(spacing, "PixelSpacing"),
        slice_thickness_mm=first.slice_thickness_mm if thickness is None else thickness[0],
        gantry_tilt_deg=first.gantry_tilt_deg if tilt is None else tilt[0],
        instance_number=None,
        slope=first.slope if slope is None else slope[0],
        intercept=first.intercept if intercept is None else intercept[0],
        rescale_type=first.rescale_type if rescaled is None else raw_text(rescaled, "RescaleType"),
        image_type=_frame_type(macros) or first.image_type,
        stacks=first.stacks | _stack_values(macros),
        in_stack_position=None if content is None else whole(content, "InStackPositionNumber"),
        findings=(*first.findings, *over_long_findings(over_long)),
    )


def _frame_type(macros: dict[str, Dataset]) -> tuple[str, ...]:
    for keyword in _FRAME_TYPES:
        if keyword in macros and (stated := raw_text(macros[keyword], "FrameType")):
            return tuple(stated.split("\\"))
    return ()


def _stack_values(macros: dict[str, Dataset]) -> dict[str, str]:
    stacks = {name: raw_text(macros[macro], element) for macro, element, name in _STACK_ELEMENTS if macro in macros}
    diffusion = macros.get("MRDiffusionSequence")
    direction = next(iter(items(diffusion, "DiffusionGradientDirectionSequence")), None) if diffusion else None
    if direction is not None:
        stacks["gradient direction"] = raw_text(direction, "DiffusionGradientOrientation")
    frame_type = _frame_type(macros)
    if frame_type:
        stacks["ImageType"] = "\\".join(frame_type)
    return {name: value for name, value in stacks.items() if value}


def _dose_grid(header: Dataset, first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    """RT Dose (PS3.3 C.8.8.3.2): offsets along the normal from the first plane, or z of each plane of an axial grid."""
    over_long: list[str] = []
    offsets = decimals(header, "GridFrameOffsetVector", over_long) or ()
    if len(offsets) != frames or first.position is None or first.orientation is None:
        raise UnreadableError(f"its dose grid has {len(offsets)} offsets for {frames} frames, or no position")
    if offsets[0] != 0:
        if first.orientation != _AXIAL or offsets[0] != first.position[2]:
            raise UnreadableError("its dose grid states planes by z, but is not axial or begins elsewhere")
        offsets = tuple(z - offsets[0] for z in offsets)
    found = (*first.findings, *over_long_findings(over_long))
    return tuple(_moved(replace(first, findings=found), frame, offset) for frame, offset in enumerate(offsets))


def _nuclear(header: Dataset, first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    """A nuclear tomogram (PS3.3 C.8.4.9 and C.8.4.15): slices at a signed spacing along the normal of the first."""
    over_long: list[str] = []
    detector = next(iter(items(header, "DetectorInformationSequence")), None)
    vector_of_slices = _whole_numbers(raw_text(header, "SliceVector") or "", header)
    spacing = decimals(header, "SpacingBetweenSlices", over_long)
    position = None if detector is None else decimals(detector, "ImagePositionPatient", over_long)
    orientation = None if detector is None else decimals(detector, "ImageOrientationPatient", over_long)
    if len(vector_of_slices) != frames or spacing is None or position is None or orientation is None:
        raise UnreadableError("its tomogram does not say the place of its first slice or the spacing of the others")
    placed = replace(
        first,
        position=vector(position, "ImagePositionPatient"),
        orientation=directions(orientation),
        instance_number=None,
        findings=(*first.findings, *over_long_findings(over_long)),
    )
    start = vector_of_slices[0]
    return tuple(_moved(placed, frame, (at - start) * spacing[0]) for frame, at in enumerate(vector_of_slices))


def _whole_numbers(text: str, header: Dataset) -> list[int]:
    if text.replace("\\", "").isdecimal():
        return [int(part) for part in text.split("\\")]
    try:
        value = header.SliceVector
        return [int(v) for v in (value if hasattr(value, "__len__") else [value])]
    except Exception:  # pydicom converts on access, and raises whatever a malformed value leads to
        return []


def _moved(first: SliceHeader, frame: int, offset_mm: float) -> SliceHeader:
    """The slice `offset_mm` behind the first along the normal."""
    assert first.position is not None and first.orientation is not None
    place = np.array(first.position) + offset_mm * np.cross(*first.orientation)
    x, y, z = (float(c) for c in place)
    return replace(first, frame=frame, position=(x, y, z))


def over_long_findings(keywords: Sequence[str]) -> Iterator[Finding]:
    """One finding an element whose decimal strings are longer than 16 characters."""
    for keyword in dict.fromkeys(keywords):
        message = f"{keyword} has more than the 16 characters a decimal string may have; it is read in full"
        yield Finding(OVER_LONG, "handled", message)


def vector(values: tuple[float, ...] | None, keyword: str) -> Vector | None:
    """Three numbers, or None where there are none; UnreadableError for another count."""
    if values is None:
        return None
    if len(values) != 3:
        raise UnreadableError(f"{keyword} must have 3 values, got {len(values)}")
    return values[0], values[1], values[2]


def directions(values: tuple[float, ...] | None) -> tuple[Vector, Vector] | None:
    """ImageOrientationPatient as the directions of a row and a column, or None; UnreadableError for another count."""
    if values is None:
        return None
    if len(values) != 6:
        raise UnreadableError(f"ImageOrientationPatient must have 6 values, got {len(values)}")
    return (values[0], values[1], values[2]), (values[3], values[4], values[5])


def pair(values: tuple[float, ...], keyword: str) -> tuple[float, float]:
    """Two numbers; UnreadableError for another count."""
    if len(values) != 2:
        raise UnreadableError(f"{keyword} must have 2 values, got {len(values)}")
    return values[0], values[1]
