"""CT series made from an array: one file a slice, or one enhanced file; and the head CT that Debian ships."""

from __future__ import annotations

import plistlib
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from careloop.imaging.volume import Source, Volume

HEAD_CT = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")  # Debian: invesalius-examples
NAME = "Müller^Anna"


def affine_of(
    spacing: tuple[float, float, float] = (2.5, 0.8, 0.7),
    origin: tuple[float, float, float] = (-90.0, -80.0, 40.0),
    turn_deg: float = 0.0,
    tilt_deg: float = 0.0,
) -> NDArray[np.float64]:
    """Transversal slices from feet to head; turned about the body's axis, or with a gantry tilted about the rows."""
    turn, tilt = np.deg2rad([turn_deg, tilt_deg])
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, spacing[0])
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = column * spacing[1], row * spacing[2], origin
    return affine


def write_series(folder: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    """One CT file a slice, named so that the order of names is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame_of_reference = (generate_uid(entropy_srcs=[str(folder), n]) for n in "abc")
    files, instances = [], []
    for index, pixels in enumerate(voxels):
        uid = generate_uid(entropy_srcs=[str(folder), str(index)])
        made = _common(CTImageStorage, uid, study, series, frame_of_reference)
        made.InstanceNumber = len(voxels) - index
        made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        made.ImagePositionPatient = _decimals(affine[:3, 3] + index * affine[:3, 0])
        made.ImageOrientationPatient = _decimals(_orientation(affine))
        made.PixelSpacing = _decimals(np.linalg.norm(affine[:3, 1:3], axis=0))
        made.SliceThickness = _decimals([np.linalg.norm(affine[:3, 0])])[0]
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = "0", "1", "HU"
        made.KVP, made.AcquisitionNumber = "120", "1"
        _pixels(made, pixels)
        file = folder / f"{(index * 37) % 1000:03d}_{index}.dcm"
        made.save_as(file, enforce_file_format=True)
        files.append(str(file))
        instances.append(uid)
    source = Source(tuple(files), study, series, frame_of_reference, tuple(instances), (1,) * len(files))
    return Volume(voxels, affine, modality="CT", unit="[hnsf'U]", source=source)


def write_enhanced(path: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64], *, echoes: int = 1) -> Volume:
    """One multi-frame file, frames from head to feet; of `echoes` stacks at the same places the last is the volume."""
    study, series, frame_of_reference, uid = (generate_uid(entropy_srcs=[str(path), n]) for n in "abcd")
    made = _common(EnhancedCTImageStorage, uid, study, series, frame_of_reference)
    made.InstanceNumber, made.ImageType = 1, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = _decimals(_orientation(affine))
    measures.PixelSpacing = _decimals(np.linalg.norm(affine[:3, 1:3], axis=0))
    measures.SliceThickness = _decimals([np.linalg.norm(affine[:3, 0])])[0]
    shared.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence = [shared]
    groups, frames = [], []
    for _ in range(echoes):
        for index in reversed(range(len(voxels))):
            group, position = Dataset(), Dataset()
            position.ImagePositionPatient = _decimals(affine[:3, 3] + index * affine[:3, 0])
            group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
            groups.append(group)
            frames.append(voxels[index])
    made.PerFrameFunctionalGroupsSequence = groups
    made.NumberOfFrames = len(groups)
    _pixels(made, np.stack(frames))
    made.save_as(path, enforce_file_format=True)
    numbers = tuple(len(voxels) * echoes - index for index in range(len(voxels)))
    source = Source((str(path),), study, series, frame_of_reference, (uid,) * len(voxels), numbers)
    return Volume(voxels, affine, modality="CT", unit="[hnsf'U]", source=source)


def head_ct() -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The CT of a head, 108 slices of 256 by 256; InVesalius keeps no place, so the origin is the corner."""
    with tarfile.open(HEAD_CT) as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive.getmembers()}
        about = plistlib.loads(files["main.plist"].read())  # type: ignore[union-attr]
        voxels = np.frombuffer(files["matrix.dat"].read(), dtype=np.int16)  # type: ignore[union-attr]
    column, row, slice_ = about["spacing"]
    return voxels.reshape(about["matrix"]["shape"]), affine_of((slice_, row, column), (0.0, 0.0, 0.0))


def _orientation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    along_row, along_column = affine[:3, 2], affine[:3, 1]
    return np.concatenate([along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)])


def _decimals(numbers: NDArray[np.float64] | list[float]) -> list[str]:
    return [f"{number:.10f}"[:16] for number in np.asarray(numbers, dtype=float).tolist()]


def _common(sop_class: str, uid: str, study: str, series: str, frame_of_reference: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = sop_class, uid, study, series
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = frame_of_reference, ""
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = NAME, "test-1", "19500101", "F"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240102", "101112", "1", ""
    made.SeriesDate, made.SeriesTime, made.SeriesNumber = "20240102", "101200", 2
    made.ContentDate, made.ContentTime, made.AcquisitionDate, made.AcquisitionTime = ("20240102", "101200") * 2
    made.ReferringPhysicianName, made.Manufacturer, made.Modality = "", "test", "CT"
    return made


def _pixels(made: Dataset, pixels: NDArray[np.int16]) -> None:
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.PixelData = pixels.astype("<i2").tobytes()
