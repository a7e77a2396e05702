"""One DICOM file of an expected kind, other than images: segmentations, structure sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from careloop import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_NAMES = {SEGMENTATION: "a DICOM segmentation", LABEL_MAP: "a DICOM segmentation", STRUCTURE_SET: "an RT Structure Set"}


def read_object(path: Path, *, kinds: tuple[str, ...]) -> Dataset:
    """Read a DICOM file whose SOP class is one of `kinds`; raises InputError for anything else."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise InputError('DICOM needs pydicom: pip install "careloop[imaging]"') from error
    try:
        dataset = dcmread(path, force=True)  # also without the preamble of PS3.10, as treatment planning writes them
        kind = str(dataset.get("SOPClassUID", ""))
    except Exception as error:  # pydicom raises what a damaged file happens to lead to
        raise InputError(f"{path.name} cannot be read as DICOM ({type(error).__name__})") from error
    if not kind:
        raise InputError(f"{path.name} is no DICOM file, or a damaged one")
    if kind not in kinds:
        raise InputError(f"{path.name} must be {_NAMES[kinds[0]]}, got another kind of DICOM object")
    return dataset


@contextmanager
def damage_refused(path: Path) -> Iterator[None]:
    """Raise InputError for whatever reading a damaged file's elements leads to: pydicom converts them on access."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path.name} cannot be read: it is damaged or malformed ({type(error).__name__})") from error
