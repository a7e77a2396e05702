"""A simulated scan as a classic DICOM CT series, marked as simulated wherever a viewer looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError, __version__
from careloop.imaging.write.dicom_parts import derived_uid, save_whole

if TYPE_CHECKING:
    from pydicom import Dataset

    from careloop.imaging.volume import Volume

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT = -1024  # HU of a stored 0


def write_series(volume: Volume, folder: Path, *, name: str) -> list[Path]:
    """Write one file a slice, `0001.dcm` the lowest, to `folder`; `name` tells one simulated patient from another.

    PatientName is SIMULATED, PatientID and SeriesDescription begin with it, Quality Control Subject is YES (PS3.3
    C.7.1.1) and Image Type says DERIVED and SIMULATED (C.7.6.1.1.2). UIDs follow from the name and the voxels, so
    that writing the same scan twice gives the same series.

    Raises:
        InputError: voxels that are not a scan in Hounsfield units.
    """
    if volume.unit != "[hnsf'U]" or volume.voxels.ndim != 3:
        raise InputError(f"A CT series needs one volume in Hounsfield units, got unit '{volume.unit}'")
    series = derived_uid("simulated series", name, volume.voxels, volume.affine)
    paths = []
    for index in range(len(volume.voxels)):
        file = _header(volume, name, series)
        file.SOPInstanceUID, file.InstanceNumber = derived_uid(series, str(index)), index + 1
        _place(file, volume, index)
        _pixels(file, volume.voxels[index])
        paths.append(_save(file, folder / f"{index + 1:04d}.dcm"))
    return paths


def _header(volume: Volume, name: str, series: str) -> Dataset:
    """What all slices share."""
    from pydicom import Dataset

    file = Dataset()
    file.SpecificCharacterSet = "ISO_IR 192"
    file.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "SIMULATED"]
    file.SOPClassUID = CT_IMAGE_STORAGE
    file.StudyInstanceUID, file.SeriesInstanceUID = derived_uid(series, "study"), series
    file.FrameOfReferenceUID, file.PositionReferenceIndicator = derived_uid(series, "frame of reference"), ""
    file.StudyDate = file.StudyTime = file.ReferringPhysicianName = file.AccessionNumber = ""
    file.PatientName, file.PatientID = "SIMULATED", f"SIMULATED-{name}"[:64]
    file.PatientBirthDate = file.PatientSex = ""
    file.QualityControlSubject = "YES"
    file.StudyID, file.SeriesNumber, file.AcquisitionNumber = "1", 1, 1
    file.StudyDescription = "SIMULATED chest CT"
    file.SeriesDescription = f"SIMULATED chest, {name}"[:64]
    file.DerivationDescription = "; ".join(f.message for f in volume.findings)[:1024]
    file.Modality, file.BodyPartExamined, file.PatientPosition = "CT", volume.body_part or "CHEST", "HFS"
    file.Manufacturer, file.ManufacturerModelName, file.SoftwareVersions = "careloop", "SIMULATED", __version__
    file.KVP, file.BurnedInAnnotation = None, "NO"
    return file


def _place(file: Dataset, volume: Volume, index: int) -> None:
    """Where one slice lies (PS3.3 C.7.6.2)."""
    from pydicom.valuerep import format_number_as_ds

    slices, rows, columns = volume.spacing_mm
    axes = volume.affine[:3, :3] / np.array([slices, rows, columns])
    position = (volume.affine @ [index, 0, 0, 1])[:3]
    file.ImagePositionPatient = [format_number_as_ds(float(v)) for v in position]
    file.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in (*axes[:, 2], *axes[:, 1])]
    file.PixelSpacing = [format_number_as_ds(v) for v in (rows, columns)]
    file.SliceThickness = format_number_as_ds(slices)
    file.SliceLocation = format_number_as_ds(float(np.cross(axes[:, 2], axes[:, 1]) @ position))


def _pixels(file: Dataset, hu: np.ndarray) -> None:
    """One slice as 16 bits without sign (PS3.3 C.7.6.3)."""
    file.Rows, file.Columns = hu.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = INTERCEPT, 1, "HU"
    file.WindowCenter, file.WindowWidth = 40, 400
    stored = np.clip(np.rint(hu).astype(np.int32) - INTERCEPT, 0, 65535)
    file.add_new("PixelData", "OW", stored.astype("<u2").tobytes())


def _save(file: Dataset, path: Path) -> Path:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    return save_whole(file, path)
