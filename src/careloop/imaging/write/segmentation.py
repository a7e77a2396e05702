"""A label map as a DICOM segmentation beside the images it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import careloop
from careloop import InputError
from careloop.imaging.terms import STRUCTURE, described
from careloop.imaging.volume import LabelMap, Segment, Volume, check_same_grid
from careloop.imaging.write.dicom_parts import (
    NOT_CLINICAL,
    concept,
    derived_uid,
    long_string,
    named_algorithm,
    save_whole,
)
from careloop.imaging.write.source_headers import SourceHeaders, source_headers

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

Encoding = Literal["labelmap", "binary"]
Compression = Literal["rle", "jpeg-ls", "none"]
SERIES_NUMBER = 9101


def write_segmentation(
    label_map: LabelMap,
    volume: Volume,
    path: Path,
    *,
    encoding: Encoding = "labelmap",
    compression: Compression = "rle",
) -> Path:
    """Write `label_map` to `path` as a DICOM Segmentation of the images that `volume` was read from; returns the path.

    `labelmap` writes Label Map Segmentation Storage (PS3.3 A.51 and C.8.20.2, SegmentationType LABELMAP), a frame a
    slice, losslessly compressed; `binary` the older Segmentation Storage with a frame a slice and segment, for
    archives and viewers that do not know label maps yet: there segments are numbered 1, 2, ... in the order of
    `segments`, empty frames are left out, and nothing is compressed. Positions are those of the images, also of a
    tilted gantry. UIDs follow from labels, images and segments: writing the same again gives the same UIDs. Segments
    without codes or colours get those of `careloop.imaging.terms`.

    Raises InputError where the volume has no DICOM images behind it, where the two are not on one grid, or where a
    voxel has a label that no segment describes.
    """
    check_same_grid(label_map, volume, what="a segmentation and the images it was made from")
    segments = described(sorted(label_map.segments, key=lambda segment: segment.number))
    _check_labels(label_map.labels, segments)
    if volume.voxels.shape[0] > 1 and not volume.placed:
        raise InputError("a DICOM segmentation of several slices needs their place in the patient, which is unknown")
    sources = source_headers(volume, what="a DICOM segmentation")
    made = _built(label_map, segments, sources, encoding=encoding, compression=compression)
    _refer_to_frames(made, sources)
    _say_distance(made, volume)
    return save_whole(made, path)


def _check_labels(labels: np.ndarray, segments: tuple[Segment, ...]) -> None:
    numbers = [segment.number for segment in segments]
    if not numbers:
        raise InputError("a DICOM segmentation needs at least one segment, got none")
    if len(set(numbers)) < len(numbers) or min(numbers) < 1 or max(numbers) > 65535:
        raise InputError(f"segments must have different numbers from 1 to 65535, got {numbers}")
    unknown = sorted(set(np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist()) - {0, *numbers})
    if unknown:
        raise InputError(f"every label must be described by a segment, got labels {unknown[:5]} without one")


def _built(
    label_map: LabelMap,
    segments: tuple[Segment, ...],
    sources: SourceHeaders,
    *,
    encoding: Encoding,
    compression: Compression,
) -> highdicom.seg.Segmentation:
    try:
        import highdicom
    except ImportError as error:
        raise InputError('DICOM segmentations need highdicom: pip install "careloop[imaging]"') from error
    from pydicom.uid import ExplicitVRLittleEndian

    instances = [str(header.SOPInstanceUID) for header in sources.headers] + [str(n) for n in sources.frames]
    uid = derived_uid(
        encoding, compression, careloop.__version__, label_map.made_by, repr(segments), *instances, label_map.labels
    )
    labels = label_map.labels if encoding == "labelmap" else _numbered_from_one(label_map.labels, segments)
    numbers = [s.number for s in segments] if encoding == "labelmap" else list(range(1, len(segments) + 1))
    made = highdicom.seg.Segmentation(
        source_images=list(sources.headers),
        pixel_array=labels,
        segmentation_type="LABELMAP" if encoding == "labelmap" else "BINARY",
        segment_descriptions=[
            _description(segment, number, uid, label_map.made_by)
            for segment, number in zip(segments, numbers, strict=True)
        ],
        series_instance_uid=derived_uid(uid, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="careloop",
        manufacturer_model_name="careloop",
        software_versions=careloop.__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=long_string(f"{label_map.made_by or 'labels'}, {NOT_CLINICAL}"),
        series_description=long_string(f"Segmentation, {NOT_CLINICAL}"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=encoding == "binary",
        specific_character_set="ISO_IR 192",
    )
    _name_dimensions(made, derived_uid(uid, "dimensions"))
    if encoding == "labelmap" and compression != "none":
        _compress(made, compression)
    return made


def _compress(made: Dataset, compression: Compression) -> None:
    """Compress the frames by a chosen encoder: GDCM's, which pydicom takes for RLE, aborts on small odd images."""
    from pydicom.uid import JPEGLSLossless

    try:
        if compression == "rle":
            _compress_rle(made)
        else:
            made.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    except ImportError as error:
        raise InputError('compressing labels needs codecs: pip install "careloop[imaging]"') from error
    except RuntimeError as error:
        raise InputError(f"labels cannot be compressed by {compression}; choose another compression") from error


def _compress_rle(made: Dataset) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless
    from rle import encode_pixel_data

    frame = int(made.Rows) * int(made.Columns) * int(made.BitsAllocated) // 8
    image: dict[str, Any] = {
        "rows": int(made.Rows), "columns": int(made.Columns), "samples_per_pixel": 1,
        "bits_allocated": int(made.BitsAllocated), "byteorder": "<",
    }  # fmt: skip
    stored = memoryview(made.PixelData)
    starts = range(0, int(made.NumberOfFrames) * frame, frame)
    made.PixelData = encapsulate([encode_pixel_data(bytes(stored[at : at + frame]), **image) for at in starts])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.file_meta.TransferSyntaxUID = RLELossless


def _numbered_from_one(labels: np.ndarray, segments: tuple[Segment, ...]) -> np.ndarray:
    """The labels renumbered 1, 2, ... in the order of `segments`, as PS3.3 C.8.20.2.4 wants it of binary segments."""
    table = np.zeros(max(int(labels.max(initial=0)), segments[-1].number) + 1, dtype=np.uint16)
    for number, segment in enumerate(segments, start=1):
        table[segment.number] = number
    return table[labels]


def _description(segment: Segment, number: int, uid: str, made_by: str) -> highdicom.seg.SegmentDescription:
    import highdicom
    from pydicom.sr.codedict import codes

    name, version = named_algorithm(made_by)
    made = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.name),
        segmented_property_category=concept(segment.category or STRUCTURE),
        segmented_property_type=concept(segment.type or STRUCTURE),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=name, version=version, family=codes.DCM.ArtificialIntelligence, source="careloop"
        ),
        tracking_uid=derived_uid(uid, f"segment {number}"),
        tracking_id=long_string(segment.name),
        anatomic_regions=[concept(segment.region)] if segment.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*(segment.colour or (255, 255, 255))),
    )
    if segment.modifier and segment.region:
        made.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [concept(segment.modifier)]
    elif segment.modifier:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            concept(segment.modifier)
        ]
    return made


def _name_dimensions(made: Dataset, uid: str) -> None:
    for item in [*made.DimensionOrganizationSequence, *made.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid


def _refer_to_frames(made: Dataset, sources: SourceHeaders) -> None:
    """Put the numbers of the frames in the source file where highdicom counted those that it was shown."""
    if not sources.frames:
        return
    images = {
        id(image): image  # frames of several segments share one
        for group in made.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for image in derivation.SourceImageSequence
    }
    for image in images.values():
        image.ReferencedFrameNumber = sources.frames[int(image.ReferencedFrameNumber) - 1]


def _say_distance(made: Dataset, volume: Volume) -> None:
    """Distance of slices along their normal, without which a reader cannot tell empty slices from a coarser grid."""
    measures = made.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    if measures and volume.voxels.shape[0] > 1 and "SpacingBetweenSlices" not in measures[0]:
        along, column, row = volume.affine[:3, :3].T
        normal = np.cross(row, column) / np.linalg.norm(np.cross(row, column))
        measures[0].SpacingBetweenSlices = f"{abs(float(along @ normal)):.10g}"
