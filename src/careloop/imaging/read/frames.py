"""The slices of a multi-frame file: functional groups, a nuclear tomogram, a dose grid, or frames without a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.read.elements import (
    decimals,
    directions,
    over_long_findings,
    pair,
    raw_text,
    titled,
    vector,
    whole,
)
from careloop.imaging.read.files import UnreadableError
from careloop.imaging.slices import SliceHeader
from careloop.ingest.dicom.header import items

if TYPE_CHECKING:
    from pydicom import Dataset

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
_MACROS = tuple(dict.fromkeys((
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
    "CTAcquisitionDetailsSequence", *_FRAME_TYPES, *(macro for macro, _, _ in _STACK_ELEMENTS),
)))  # fmt: skip


def frame_slices(header: Dataset, first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    """Return one slice a frame; `first` is what the elements outside of functional groups say.

    Raises:
        UnreadableError: the frames described are not as many as the frames there are, or an element is malformed.
        BadValueError: an element that must hold numbers does not.
    """
    groups = list(items(header, "PerFrameFunctionalGroupsSequence"))
    if groups:
        return _grouped(header, groups, first, frames)
    if frames == 1:
        return (first,)
    if "GridFrameOffsetVector" in header:
        return _dose_grid(header, first, frames)
    if "SliceVector" in header and "DetectorInformationSequence" in header:
        return _nuclear(header, first, frames)
    plain = replace(first, position=None, orientation=None)  # a film or several pictures: no place says which is where
    return tuple(replace(plain, frame=frame) for frame in range(frames))


def _grouped(header: Dataset, groups: Sequence[Dataset], first: SliceHeader, frames: int) -> tuple[SliceHeader, ...]:
    if len(groups) != frames:
        raise UnreadableError(f"its header describes {len(groups)} frames and states {frames}")
    shared = _first_item(header, "SharedFunctionalGroupsSequence")
    common = {} if shared is None else _macros(shared)
    return tuple(_frame(first, frame, common | _macros(group)) for frame, group in enumerate(groups))


def _macros(group: Dataset) -> dict[str, Dataset]:
    """The first item of each functional group macro that is used here, by the sequence's keyword."""
    return {keyword: item for keyword in _MACROS if (item := _first_item(group, keyword)) is not None}


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    return next(iter(items(dataset, keyword)), None) if keyword in dataset else None


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
        rescale_type=first.rescale_type if rescaled is None else titled(raw_text(rescaled, "RescaleType")),
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
    stacks = {
        name: titled(raw_text(macros[macro], element)) for macro, element, name in _STACK_ELEMENTS if macro in macros
    }
    diffusion = macros.get("MRDiffusionSequence")
    direction = None if diffusion is None else _first_item(diffusion, "DiffusionGradientDirectionSequence")
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
    detector = _first_item(header, "DetectorInformationSequence")
    numbers = decimals(header, "SliceVector", over_long) or ()
    spacing = decimals(header, "SpacingBetweenSlices", over_long)
    position = None if detector is None else decimals(detector, "ImagePositionPatient", over_long)
    orientation = None if detector is None else decimals(detector, "ImageOrientationPatient", over_long)
    if len(numbers) != frames or spacing is None or position is None or orientation is None:
        raise UnreadableError("its tomogram does not say the place of its first slice or the spacing of the others")
    placed = replace(
        first,
        position=vector(position, "ImagePositionPatient"),
        orientation=directions(orientation),
        instance_number=None,
        findings=(*first.findings, *over_long_findings(over_long)),
    )
    return tuple(_moved(placed, frame, (number - numbers[0]) * spacing[0]) for frame, number in enumerate(numbers))


def _moved(first: SliceHeader, frame: int, offset_mm: float) -> SliceHeader:
    """The slice `offset_mm` behind the first along the normal."""
    place = np.array(first.position) + offset_mm * np.cross(*(first.orientation or _AXIAL))
    x, y, z = (float(c) for c in place)
    return replace(first, frame=frame, position=(x, y, z))
