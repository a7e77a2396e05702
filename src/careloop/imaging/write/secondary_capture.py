"""A picture of a result, as a DICOM Secondary Capture in the study of the images that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import careloop
from careloop import InputError
from careloop.imaging.volume import Volume
from careloop.imaging.write.dicom_parts import NOT_CLINICAL, derived_uid, long_string, save_whole
from careloop.imaging.write.source_headers import source_headers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

SERIES_NUMBER = 9103


def write_secondary_capture(
    picture: NDArray[np.uint8], volume: Volume, path: Path, *, description: str = "Segmentation"
) -> Path:
    """Write `picture` (rows, columns, 3), red, green and blue, to `path`; returns the path.

    Secondary Capture Image Storage (DICOM PS3.3 A.8.1), uncompressed, marked as derived from the images of `volume`, in
    their study but in a series of its own that says `not for clinical use`. UIDs follow from picture and images.

    Raises InputError where the picture has another shape or type, or the volume has no DICOM images behind it.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        got = f"{picture.dtype} of shape {picture.shape}"
        raise InputError(f"a picture must be uint8 of shape (rows, columns, 3), got {got}")
    headers = source_headers(volume, what="a secondary capture").headers
    made = _capture(picture, headers[0], long_string(f"{description}, {NOT_CLINICAL}"))
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.DerivationDescription = f"Picture of a result computed by careloop {careloop.__version__}, {NOT_CLINICAL}"
    made.PatientOrientation, made.Laterality = "", ""  # type 2C; a montage may show several orientations
    made.SourceImageSequence = [_reference(header) for header in headers]
    return save_whole(made, path)


def _capture(picture: NDArray[np.uint8], header: Dataset, description: str) -> Dataset:
    try:
        import highdicom
    except ImportError as error:
        raise InputError('DICOM pictures need highdicom: pip install "careloop[imaging]"') from error
    from pydicom.uid import ExplicitVRLittleEndian

    uid = derived_uid(careloop.__version__, str(header.SOPInstanceUID), description, picture)
    return highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=derived_uid(uid, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="careloop",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=description,
        manufacturer_model_name="careloop",
        software_versions=careloop.__version__,
        specific_character_set="ISO_IR 192",
    )


def _reference(header: Dataset) -> Dataset:
    from pydicom import Dataset as New

    made = New()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return made
