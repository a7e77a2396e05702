"""What a DICOM segmentation says about its segments: numbers, names, codes, colours, and what made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from careloop import InputError
from careloop.imaging.volume import Segment

if TYPE_CHECKING:
    from pydicom import Dataset


def segments_of(dataset: Dataset) -> dict[int, Segment]:
    """The segments of a DICOM segmentation by number, without a label map's background.

    The background is the pixel padding value (PS3.3 C.8.20.2.4).
    """
    background = dataset.get("PixelPaddingValue", 0) if dataset.SegmentationType == "LABELMAP" else None
    found = {}
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number == background:
            continue
        if number == 0:
            raise InputError("a label map holds no label 0, got a segment of number 0 that is not the background")
        found[number] = Segment(
            number,
            str(item.get("SegmentLabel") or f"segment {number}"),
            category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
            type=_code(item, "SegmentedPropertyTypeCodeSequence"),
            colour=_colour(item),
            modifier=_modifier(item),
            region=_code(item, "AnatomicRegionSequence"),
        )
    return found


def _modifier(item: Dataset) -> tuple[str, str, str] | None:
    """What modifies the type, else what modifies the region (`careloop.imaging.volume.Segment` has one of them)."""
    kind, region = item.get("SegmentedPropertyTypeCodeSequence"), item.get("AnatomicRegionSequence")
    found = _code(kind[0], "SegmentedPropertyTypeModifierCodeSequence") if kind else None
    return found or (_code(region[0], "AnatomicRegionModifierSequence") if region else None)


def _code(item: Dataset, keyword: str) -> tuple[str, str, str] | None:
    sequence = item.get(keyword)
    if not sequence:
        return None
    code = sequence[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
    return str(code.get("CodingSchemeDesignator", "")), str(value), str(code.get("CodeMeaning", ""))


def _colour(item: Dataset) -> tuple[int, int, int] | None:
    """RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1: three 16-bit numbers, white point D50) as red, green, blue."""
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return None
    from highdicom.color import CIELabColor

    red, green, blue = CIELabColor.from_dicom_value(tuple(value)).to_rgb()
    return int(red), int(green), int(blue)


def made_by(dataset: Dataset) -> str:
    """Name and version of the algorithm that made a segmentation; empty where it does not say."""
    for item in dataset.SegmentSequence:
        for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or []:
            version = str(algorithm.get("AlgorithmVersion", ""))
            return f"{algorithm.get('AlgorithmName', '')} {version if version != 'unknown' else ''}".strip()
    return ""
