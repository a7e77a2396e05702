"""Real CT and MR slices to train the shipped restoration weights on, from public repositories whose licences allow it.

Clone each of `SOURCES` from GitHub into one folder, under the repository's own name; only files below 4 MiB are used.
What the repositories cite: Lesjak et al. 2017 (doi 10.1007/s12021-017-9348-7) and Lesjak et al. 2016
(doi 10.1007/s12021-015-9282-3) for open_ms_data; Saltz et al. 2021 (doi 10.7937/TCIA.BBAG-2923) for the people of The
Cancer Imaging Archive in Image-Registration; Wasserthal et al. 2023 (doi 10.1148/ryai.230024) for TotalSegmentator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from restoration_planes import Group, Plane, nifti, scaled_ct, scaled_mr


@dataclass(frozen=True)
class Source:
    """A public repository: `owner/name`, the commit that was used, and the licence of what is read of it."""

    repository: str
    commit: str
    licence: str


SOURCES = (
    Source("muschellij2/open_ms_data", "65704901f60650824565aa5a4818611aa89716f4", "CC BY, Lesjak et al. 2016, 2017"),
    Source("CIBC-Internal/Seg3DData", "cbe9eeabbfaeebdd6d05521ff31464e929491966", "MIT"),
    Source("SaltyJoke/Image-Registration", "63090abd58c1ca0f6b1d7ea414943ac5e94fa62c", "CC BY 4.0, Saltz et al. 2021"),
    Source("neurolabusc/dcm_qa_ct", "d03e30e4c5c8ad07bf16422b96efc3e91e233dc5", "BSD-2-Clause"),
    Source("wasserth/TotalSegmentator", "0e65a448d557382b1e925276212b3bec7f5aff83", "Apache-2.0"),
)
LARGEST_FILE = 4 * 2**20
HELD = ("patient19", "patient20", "A067967", "A098752", "pulmonary")  # people whose slices watch the training
CROPS = (
    "tests/reference_files/aorta_report/test_result/models/ct_cropped.nii.gz",
    "tests/reference_files/example_ct.nii.gz",
    "tests/reference_files/pulmonary_report/models/ct_cropped.nii.gz",
)
MR_CROP = "tests/reference_files/example_mr_sm.nii.gz"
PHANTOM_SERIES = ("S21570/S2010", "S21570/S2020", "S21570/S2030", "S21610/S2010", "S21610/S3010")
SPARED = 0.15  # of a stack at either end, where there is little to see
FILLED = 0.1  # least part of a slice that is not empty
LARGE = 384  # pixels: slices of this edge are there at half their size as well


def scans(folder: Path) -> list[Group]:
    """Slices of every kind, one group each; their shares add up to 0.64."""
    ms, trunks, crops = folder / "open_ms_data", folder / "Image-Registration/data-sample", folder / "TotalSegmentator"
    raw = sorted(file for kind in ("*W", "*FLAIR") for file in ms.glob(f"longitudinal/raw/*/{kind}.nii.gz"))
    resampled = sorted(ms.glob("cross_sectional/MNI/*/*_N4_*.nii.gz"))
    chest = sorted((folder / "Seg3DData/example_dicom").glob("*.dcm"))
    head = folder / "dcm_qa_ct/In"
    plastic = [file for series in PHANTOM_SERIES for file in sorted((head / "Philips" / series).glob("I*"))[::6]]
    return [
        _group("MR of brains, 2D (real)", 0.2, _stacks(raw, step=2)),
        _group("MR of brains, resampled (real)", 0.03, _stacks(resampled, step=8)),
        _group("MR of a trunk (real)", 0.1, _slices(chest, _mr_slice)),
        _group("MR of a trunk, resampled (real)", 0.03, _stacks([crops / MR_CROP], step=1)),
        _group("CT of trunks (real)", 0.16, _slices(sorted(trunks.rglob("*.dcm")), _ct_slice)),
        _group("CT of trunks, resampled (real)", 0.04, _crops([crops / name for name in CROPS])),
        _group("CT of a head (real)", 0.06, _slices(sorted((head / "GE").glob("*")), _ct_slice)),
        _group("CT of a plastic head (real)", 0.02, _slices(plastic, _ct_slice)),
    ]


def _group(name: str, share: float, slices: Iterable[tuple[Path, Plane]]) -> Group:
    """A group of slices, also at half their size where they are large; those of the people held apart watch."""
    planes: list[Plane] = []
    held: list[int] = []
    for file, plane in slices:
        sizes = [plane] + ([_halved(plane)] if min(plane.shape) >= LARGE else [])
        if any(person in str(file) for person in HELD):
            held += range(len(planes), len(planes) + len(sizes))
        planes += sizes
    if not planes:
        raise SystemExit(f"There is nothing for '{name}': clone what SOURCES in {__file__} names into the folder")
    return Group(name, planes, share, tuple(held))


def _halved(plane: Plane) -> Plane:
    rows, columns = (n // 2 for n in plane.shape)
    return np.ascontiguousarray(plane[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3)))


def _stacks(files: list[Path], step: int) -> Iterator[tuple[Path, Plane]]:
    """Every `step`th slice of MR volumes, across the last axis."""
    for file in files:
        if "GOLD" in file.name or file.stat().st_size >= LARGEST_FILE:
            continue
        volume = nifti(file)
        first = int(SPARED * volume.shape[2])
        for k in range(first, volume.shape[2] - first, step):
            if (volume[:, :, k] > 0).mean() > FILLED:
                yield file, scaled_mr(np.ascontiguousarray(volume[:, :, k]))


def _crops(files: list[Path]) -> Iterator[tuple[Path, Plane]]:
    """Every fourth plane of small CT volumes in three directions."""
    for file in files:
        volume = scaled_ct(nifti(file))
        for axis in range(3):
            for plane in np.moveaxis(volume, axis, 0)[4:-4:4]:
                yield file, np.ascontiguousarray(plane)


def _slices(files: Iterable[Path], read: Callable[[Path], Plane]) -> Iterator[tuple[Path, Plane]]:
    return ((file, read(file)) for file in files if file.stat().st_size < LARGEST_FILE)


def _ct_slice(file: Path) -> Plane:
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    header = dcmread(file)
    return scaled_ct(np.asarray(apply_modality_lut(header.pixel_array, header), dtype=np.float32))


def _mr_slice(file: Path) -> Plane:
    from pydicom import dcmread

    return scaled_mr(dcmread(file).pixel_array.astype(np.float32))
