"""Measurements of segments as a DICOM structured report (TID 1500) that points at the segments measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import careloop
from careloop import InputError
from careloop.imaging.read.dicom_object import LABEL_MAP, SEGMENTATION, read_object
from careloop.imaging.read.segment_descriptions import segments_of
from careloop.imaging.terms import SIDES, STRUCTURE, Code
from careloop.imaging.volume import Segment, Volume
from careloop.imaging.write.dicom_parts import (
    NOT_CLINICAL,
    concept,
    derived_uid,
    long_string,
    save_whole,
)
from careloop.imaging.write.source_headers import source_headers

if TYPE_CHECKING:
    import highdicom.sr
    import polars as pl
    from pydicom import Dataset

SERIES_NUMBER = 9102
Row = tuple[Code, float, str]  # concept, value, unit
COLUMNS = ("name", "quantity", "value", "unit", "concept")
PART = "component_"  # begins the quantities of one connected part, which are no measurement of the segment as a whole
IMAGING: Code = ("SCT", "363679005", "Imaging")  # CID 100: an imaging procedure, whatever its kind
UNITS = {
    "1": "no units", "mm": "millimeter", "cm2": "square centimeter", "mL": "milliliter", "bit": "bit",
    "[hnsf'U]": "Hounsfield unit", "g/mL": "standardized uptake value by body weight",
}  # fmt: skip


def write_structured_report(measured: pl.DataFrame, segmentation: Path, path: Path, *, volume: Volume) -> Path:
    """Write `measured` as a Measurement Report (DICOM PS3.16 TID 1500) to `path`; returns the path.

    `measured` is what `careloop.imaging.measure` gives: a row a number, with the segment's `name`, the `quantity`, its
    `value`, `unit` (UCUM) and `concept` (scheme, value, meaning: IBSI, SNOMED CT or private). Left out are rows without
    a finite value and those of single connected parts. Each segment becomes a group of measurements (TID 1411) that
    refers to it in the DICOM file `segmentation`, with its codes, side and tracking identifier. The report is complete
    but neither verified nor final. UIDs follow from the content.

    Raises InputError where a column is missing, where a row names no segment of the file, or where nothing is left.
    """
    missing = [name for name in COLUMNS if name not in measured.columns]
    if missing:
        raise InputError(f"measurements must have the columns {', '.join(COLUMNS)}, got a table without {missing}")
    file = read_object(segmentation, kinds=(LABEL_MAP, SEGMENTATION))
    rows = _by_segment(measured, segments_of(file), segmentation.name)
    headers = source_headers(volume, what="a structured report").headers
    uid = derived_uid(careloop.__version__, str(file.SOPInstanceUID), repr(measured.select(COLUMNS).rows()))
    return save_whole(_report(rows, file, [file, *headers], uid), path)


def _by_segment(measured: pl.DataFrame, segments: dict[int, Segment], name: str) -> dict[int, list[Row]]:
    """The rows of each segment by its number in the file, those without a finite value left out."""
    by_name = {segment.name: segment.number for segment in segments.values()}
    found: dict[int, list[Row]] = {}
    for segment, quantity, value, unit, coded in measured.select(COLUMNS).iter_rows():
        number = by_name.get(long_string(segment))
        if number is None:
            raise InputError(f"each measurement must name a segment of {name}, got '{segment}'; it has {list(by_name)}")
        if value is not None and math.isfinite(value) and not quantity.startswith(PART):
            code = (coded["scheme"], coded["value"], coded["meaning"])
            found.setdefault(number, []).append((code, float(value), unit or "1"))
    if not found:
        raise InputError("a structured report needs at least one measurement, got none with a finite value")
    return found


def _report(rows: dict[int, list[Row]], file: Dataset, evidence: list[Dataset], uid: str) -> highdicom.sr.EnhancedSR:
    try:
        from highdicom import sr
    except ImportError as error:
        raise InputError('DICOM reports need highdicom: pip install "careloop[imaging]"') from error
    from pydicom.sr.codedict import codes

    segments = segments_of(file)
    trackers = {int(item.SegmentNumber): item for item in file.SegmentSequence}
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("careloop", careloop.__version__),
        name="careloop",
        manufacturer_name="careloop",
        model_name=f"careloop {careloop.__version__}",
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=observer
            )
        ),
        procedure_reported=concept(IMAGING),
        imaging_measurements=[
            _group(segments[number], measured, file, trackers[number], uid) for number, measured in rows.items()
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.EnhancedSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=derived_uid(uid, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="careloop",
        is_complete=True,
        series_description=long_string(f"Measurements, {NOT_CLINICAL}"),
        manufacturer_model_name="careloop",
        software_versions=careloop.__version__,
        specific_character_set="ISO_IR 192",
    )


def _group(
    segment: Segment, measured: list[Row], file: Dataset, tracker: Dataset, uid: str
) -> highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    from highdicom import sr

    name, version = _algorithm(tracker)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=str(tracker.get("TrackingUID") or derived_uid(uid, f"segment {segment.number}")),
            identifier=str(tracker.get("TrackingID") or segment.name),
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=str(file.SOPClassUID),
            sop_instance_uid=str(file.SOPInstanceUID),
            segment_number=segment.number,
            source_series=sr.SourceSeriesForSegmentation(str(file.ReferencedSeriesSequence[0].SeriesInstanceUID)),
        ),
        finding_category=concept(segment.category or STRUCTURE),
        finding_type=concept(segment.type or STRUCTURE),
        finding_sites=_sites(segment),
        algorithm_id=sr.AlgorithmIdentification(name=name, version=version),
        measurements=[
            sr.Measurement(name=concept(code), value=value, unit=concept(("UCUM", unit, UNITS.get(unit, unit))))
            for code, value, unit in measured
        ],
    )


def _algorithm(tracker: Dataset) -> tuple[str, str]:
    for item in tracker.get("SegmentationAlgorithmIdentificationSequence") or []:
        return str(item.AlgorithmName), str(item.AlgorithmVersion)
    return str(tracker.get("SegmentAlgorithmName") or "unknown"), "unknown"


def _sites(segment: Segment) -> list[highdicom.sr.FindingSite]:
    """Where the segment lies: the organ of an abnormality, or the structure itself, with its side."""
    from highdicom import sr

    place = segment.region or (segment.type if segment.category == STRUCTURE else None)
    if place is None:
        return []
    side = concept(segment.modifier) if segment.modifier and segment.modifier in SIDES.values() else None
    return [sr.FindingSite(anatomic_location=concept(place), laterality=side)]
