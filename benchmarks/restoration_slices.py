"""Real CT and MR slices that no restoration weight was trained on, for restoration.py to measure on.

The head CT of Debian's `invesalius-examples`, the CT and MR files of pydicom's test data (`pip install pydicom-data`),
and, where a folder with them is given, MR of further people from the public repositories of `MORE_MR`, each cloned from
GitHub under its own name. Some of those may be looked at for research but not passed on; none is part of careloop. They
were chosen before anything was measured on them: each series of a living person from these repositories that is at
least 128 pixels wide, is anatomical (no diffusion, no parameter map) and is stored as the scanner made it (no template,
not resampled or stripped by software, no lossy compression), of a person in several positions the first. Of each series
the middle slice is taken.
"""

from __future__ import annotations

import plistlib
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut

Plane = np.ndarray[Any, np.dtype[np.float32]]
HEAD_CT = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")
CT_FILES = ("693_UNCR.dcm", "J2K_pixelrep_mismatch.dcm", "explicit_VR-UN.dcm", "bad_sequence.dcm", "CT_small.dcm")
MR_FILES = ("MR-SIEMENS-DICOM-WithOverlays.dcm", "MR2_UNCR.dcm", "MR_small.dcm", "emri_small.dcm")


@dataclass(frozen=True)
class Slice:
    """One held-out slice, 0 to 1, from one file or series of a person; `kind` is CT or MR."""

    kind: str
    file: str
    plane: Plane
    person: str
    source: str
    pixel_mm: float = 0.8


@dataclass(frozen=True)
class Series:
    """Files of one MR series in a public repository (`owner/name`, the commit that was used), and what is on it."""

    repository: str
    commit: str
    files: str
    what: str
    person: str = ""  # where a repository has several
    described: str = ""  # the series' description, where a folder holds several


_ORTHANC = ("orthanc-mirrors/orthanc-tests", "56fe710a6cd5dd29b0923f2a2f2e0a4f8f6d5501")
_SAMPLES = ("notZaki/DICOMSamples", "cc8b6fc9c0e8255edac2ad61191f3ddbe6c681ae")
_DWV = ("ivmartel/dwv", "ff7cfdab1a31ed253a484565123eac9b39d14698")
_FNNDSC = ("FNNDSC/data", "d2960f20b1df63f201265bf2b09d5a77ea0d6bab")
_UIH = ("neurolabusc/dcm_qa_uih", "d729bdd785d37ad5f1ed479c305a76f370d8011b")
_XA30 = ("neurolabusc/dcm_qa_xa30", "54a9f42222e2ebef6f24e01f9c618fe85ff63b2b")
_DECUBITUS = ("neurolabusc/dcm_qa_decubitus", "92cd635dc0a8f971d0e1d4e4ce69efff70fdc04e")
_SAG = ("FNNDSC/SAG-anon", "3d6e850b625e940aab02f0120cf5fb15977216bc")
MORE_MR = (
    Series(*_ORTHANC, "Database/Brainix/Epi/*.dcm", "brain T2 EPI", "Brainix"),
    Series(*_ORTHANC, "Database/Brainix/Flair/*.dcm", "brain FLAIR", "Brainix"),
    Series(*_ORTHANC, "Database/Knix/Loc/*.dcm", "knee", "Knix"),
    Series(*_SAMPLES, "DICOMSamples/MR_Explicit_Little_MultiFrame.dcm", "heart", "heart"),
    Series(*_SAMPLES, "DICOMSamples/MR_Implicit_Little.dcm", "head FLAIR", "head"),
    Series(*_DWV, "tests/data/bbmri-*.dcm", "head MEMPRAGE", "bbmri"),
    Series(*_DWV, "tests/data/osirix-cerebrix.dcm", "brain T1, contrast", "Cerebrix"),
    Series(*_FNNDSC, "dicom/adi_brain/3*", "brain T2", described="AX FSE T2"),
    Series(*_FNNDSC, "dicom/adi_brain/3*", "head MEMPRAGE, isotropic", described="mocoMEMPRAGE_220FOV RMS"),
    Series(*_SAG, "*.dcm", "head MPRAGE of a child"),
    Series(*_UIH, "In/DTI_132225/t1_gre*/*.dcm", "head T1, first", "132225"),
    Series(*_UIH, "In/DTI_134434/t1_gre*/*.dcm", "head T1, second", "134434"),
    Series(*_DECUBITUS, "In/HFS/3_t1_fl2d_sag/*", "head T1, 2D"),
    Series(*_XA30, "In/5_anat-T1w_acq-tfl/*", "head T1, 128 pixels"),
)


def held_out(slices: int, more: Path | None) -> list[Slice]:
    """`slices` of the head CT, one of each of pydicom's files, and of each series of `MORE_MR` in the folder `more`."""
    head = head_ct(slices) if HEAD_CT.exists() else []
    return [
        *(Slice("CT", "head CT", plane, "head CT", "Debian", 0.957) for plane in head),
        *(Slice("CT", name, plane, name, "pydicom") for name, plane in _pydicom(CT_FILES, ct)),
        *(Slice("MR", name, plane, name, "pydicom") for name, plane in _pydicom(MR_FILES, mr)),
        *(_more_mr(more) if more is not None else []),
    ]


def head_ct(slices: int) -> list[Plane]:
    """Slices of the head at equal distances."""
    hu = head_hu()
    return [ct(hu[k]) for k in np.linspace(10, len(hu) - 10, slices).astype(int)]


def head_hu() -> np.ndarray:
    """The whole head CT, HU (slices, rows, columns)."""
    with tarfile.open(HEAD_CT) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        main, matrix = (archive.extractfile(members[name]) for name in ("main.plist", "matrix.dat"))
        assert main is not None
        assert matrix is not None
        return np.frombuffer(matrix.read(), dtype=np.int16).reshape(plistlib.load(main)["matrix"]["shape"])


def ct(header: Dataset | np.ndarray) -> Plane:
    """-1000 to 1000 HU as 0 to 1."""
    hu = _values(header) if isinstance(header, Dataset) else header
    return ((np.clip(hu, -1000, 1000) + 1000) / 2000).astype(np.float32)


def mr(header: Dataset) -> Plane:
    """0 to the 99.5th percentile as 0 to 1; what the scanner interpolated to twice its matrix is halved again."""
    values = _values(header)
    values = np.clip(values / np.percentile(values, 99.5), 0, 1)
    acquired = [n for n in header.get("AcquisitionMatrix") or () if n > 0]
    if len(values) == 1024 or (len(acquired) == 2 and [2 * n for n in acquired] == list(values.shape)):
        rows, columns = (n // 2 for n in values.shape)
        values = values.reshape(rows, 2, columns, 2).mean((1, 3))
    return values.astype(np.float32)


def _values(header: Dataset) -> np.ndarray:
    """Of a slice, or of the middle one of several."""
    values = np.asarray(apply_modality_lut(header.pixel_array, header), dtype=float)
    return values[len(values) // 2] if values.ndim == 3 else values


def _pydicom(names: Sequence[str], scaled: Callable[[Dataset], Plane]) -> Iterator[tuple[str, Plane]]:
    for name in names:
        path = get_testdata_file(name, download=False)
        if path is None:
            print(f"left out: {name}, which comes with pydicom-data", file=sys.stderr)
            continue
        yield name, scaled(dcmread(path))


def _more_mr(folder: Path) -> Iterator[Slice]:
    for series in MORE_MR:
        owner, name = series.repository.split("/")
        headers = [(dcmread(file, stop_before_pixels=True), file) for file in (folder / name).glob(series.files)]
        if series.described:
            headers = [(header, file) for header, file in headers if header.SeriesDescription == series.described]
        if not headers:
            print(f"left out: {series.what}; clone {series.repository} of {owner} into {folder}", file=sys.stderr)
            continue
        headers.sort(key=lambda found: (int(found[0].get("InstanceNumber") or 0), found[1].name))
        plane = mr(dcmread(headers[len(headers) // 2][1]))
        yield Slice("MR", f"{name} {series.what}", plane, f"{name} {series.person}".strip(), "other repositories")
