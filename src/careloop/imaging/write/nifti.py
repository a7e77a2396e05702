"""Volumes and label maps as NIfTI files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.finding import SIMULATED
from careloop.imaging.read.nifti import SAYS_SIMULATED, affine_from_ras
from careloop.imaging.volume import LabelMap, Volume, is_upright
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_nifti(image: Volume | LabelMap, path: Path) -> Path:
    """Write `image` to `path` (.nii or .nii.gz), whole or not at all; returns the path.

    A simulated image says so in its header. The affine goes into sform and qform (a sheared one into sform alone, which
    alone can hold it). A label map's names go into a file of the same name that ends in .json: `{"1": "heart", ...}`.
    """
    array = image.voxels if isinstance(image, Volume) else image.labels
    path.parent.mkdir(parents=True, exist_ok=True)
    simulated = isinstance(image, Volume) and SIMULATED in image.findings
    _save(array, affine_from_ras(image.affine), path, described=SAYS_SIMULATED if simulated else "")
    if isinstance(image, LabelMap):
        names = {str(segment.number): segment.name for segment in image.segments}
        _names_path(path).write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _names_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _save(array: NDArray[np.generic], affine: NDArray[np.float64], path: Path, *, described: str) -> None:
    import nibabel

    if array.ndim == 4:
        colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = np.ascontiguousarray(array, dtype=np.uint8).view(colours)[..., 0]
    made = nibabel.nifti1.Nifti1Image(array.transpose(2, 1, 0), affine, dtype=array.dtype)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = described
    made.set_sform(affine, code=1)
    made.set_qform(affine, code=1 if is_upright(affine) else 0, strip_shears=True)
    with whole_file(path) as draft:
        nibabel.save(made, draft)
