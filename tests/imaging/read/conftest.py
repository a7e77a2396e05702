"""DICOM slices made from pydicom's CT and MR, written one by one, in any transfer syntax, or as one enhanced file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Slices = list[Dataset]


def made_slices(count: int = 6, spacing_mm: float = 2.5, shape: tuple[int, int] = (32, 40)) -> Slices:
    """CT slices with simulated values, all different, -1024 to 2000 HU, at z = 0, 2.5, ..."""
    random = np.random.default_rng(count)
    made = []
    for number in range(count):
        file = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        file.Rows, file.Columns = shape
        del file[0xFFFCFFFC]  # padding behind the pixels
        file.PixelData = random.integers(0, 3000, shape, dtype=np.int16).tobytes()
        file.ImagePositionPatient, file.SliceThickness = ["-100", "-90.5", f"{number * spacing_mm}"], f"{spacing_mm}"
        file.PixelSpacing, file.InstanceNumber = ["0.5", "0.75"], number + 1
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        made.append(file)
    return made


def stored(file: Dataset) -> NDArray[Any]:
    """What pydicom reads from a file that is not compressed."""
    return file.pixel_array


def write(folder: Path, files: Sequence[Dataset]) -> Path:
    """Write each as its own file."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        file.save_as(folder / f"{number:03}.dcm")
    return folder


def compressed(file: Dataset, syntax: str) -> Dataset:
    """Compress in place: JPEG 2000 by openjpeg, others by pydicom's encoders."""
    if syntax == pydicom.uid.JPEG2000Lossless:
        from openjpeg.utils import encode_array

        stream = encode_array(file.pixel_array, photometric_interpretation=2, use_mct=False)
        file.PixelData = encapsulate([stream])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = syntax
    else:
        file.compress(syntax, generate_instance_uid=False)
    return file


def enhanced(files: Sequence[Dataset]) -> Dataset:
    """The same slices as one enhanced multi-frame CT, in the same order."""
    file = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(file, keyword)
    del file.RescaleSlope, file.RescaleIntercept
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(files[0], "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_item(files[0], "ImageOrientationPatient")]
    file.SharedFunctionalGroupsSequence = [shared]
    file.PerFrameFunctionalGroupsSequence = []
    for number, one in enumerate(files, start=1):
        group = Dataset()
        group.PlanePositionSequence = [_item(one, "ImagePositionPatient")]
        group.PixelValueTransformationSequence = [_item(one, "RescaleSlope", "RescaleIntercept")]
        group.PixelValueTransformationSequence[0].RescaleType = "HU"
        group.FrameContentSequence = [Dataset()]
        group.FrameContentSequence[0].StackID = "1"
        group.FrameContentSequence[0].InStackPositionNumber = number
        file.PerFrameFunctionalGroupsSequence.append(group)
    file.NumberOfFrames, file.Rows, file.Columns = len(files), files[0].Rows, files[0].Columns
    file.PixelData = b"".join(one.PixelData for one in files)
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return file


def _item(file: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = file[keyword]
    return item


class Made:
    """The functions above, for tests that cannot import this file."""

    slices = staticmethod(made_slices)
    stored = staticmethod(stored)
    write = staticmethod(write)
    compressed = staticmethod(compressed)
    enhanced = staticmethod(enhanced)


@pytest.fixture
def made() -> type[Made]:
    """How test series are made and written."""
    return Made
