"""NIfTI files as volumes and label maps, in DICOM's axes; and the affine's way there and back."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.finding import SIMULATED, Finding, RefusedSeriesError
from careloop.imaging.read.limits import check_size
from careloop.imaging.volume import LabelMap, Segment, Source, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".nii", ".nii.gz")
SAYS_SIMULATED = "SIMULATED"  # begins the description in the header of images that careloop simulated
FORMS_AGREE_MM = 0.1  # sform and qform of one grid agree this well after rounding to float32 and quaternions
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOST_LABELS = 65_535
DAMAGED = (OSError, EOFError, ValueError, ArithmeticError, zlib.error)  # what nibabel raises over bytes that lie


def read_nifti(path: Path, *, modality: str = "") -> Volume:
    """One image of three axes (or four, the last of length 1) as a volume; scaled by scl_slope and scl_inter.

    NIfTI does not say what made the picture: give `modality` (DICOM's) if it is known; `CT` has Hounsfield units then.
    Integer data without scaling keep their type, others become float32. Where sform and qform are both given, sform
    counts (NIfTI-1 standard, "method 3").

    Raises:
        InputError: the file cannot be read as NIfTI, or is larger than the limit.
        RefusedSeriesError: its affine is singular, or it holds several volumes or complex numbers.
    """
    image = _open(path)
    affine, placed, findings = _affine_of(image, path)
    voxels = _scaled(image, path)
    findings += _of_values(voxels, modality)
    if image.header["descrip"].item().startswith(SAYS_SIMULATED.encode()):
        findings.append(SIMULATED)
    return Volume(
        voxels=voxels,
        affine=affine,
        modality=modality,
        unit="[hnsf'U]" if modality == "CT" else "",
        placed=placed,
        source=Source(files=(str(path),)),
        findings=tuple(findings),
    )


def read_nifti_labels(path: Path, *, names: dict[int, str] | None = None) -> LabelMap:
    """A label map from NIfTI: whole numbers from 0; structures are called `label N` where `names` does not say.

    Raises:
        InputError: as `read_nifti`, or values that are no whole numbers from 0 to 65,535.
    """
    image = _open(path)
    affine, _, _ = _affine_of(image, path)
    values = _scaled(image, path)
    if values.ndim != 3:
        raise InputError(f"{path}: labels must be plain numbers, got colours")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= MOST_LABELS) or (values.dtype.kind == "f" and np.any(values % 1 != 0)):
        raise InputError(f"{path}: labels must be whole numbers from 0 to {MOST_LABELS}, got {low:g} to {high:g}")
    labels: NDArray[np.unsignedinteger] = values.astype(np.uint8 if high < 256 else np.uint16)
    present = np.flatnonzero(np.bincount(labels.ravel()))
    known = names if names is not None else {}
    numbers = sorted({int(n) for n in present if n} | set(known))
    segments = tuple(Segment(n, known.get(n, f"label {n}")) for n in numbers if n)
    return LabelMap(labels, affine, segments, made_by=path.name, source=Source(files=(str(path),)))


def affine_from_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """NIfTI's affine of (i, j, k) to RAS as ours of (slice, row, column) = (k, j, i) to LPS; its own inverse."""
    turned = LPS_FROM_RAS @ affine
    return np.column_stack([turned[:, 2], turned[:, 1], turned[:, 0], turned[:, 3]])


def _open(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise InputError('NIfTI files need nibabel: pip install "careloop[imaging]"') from error
    try:
        image: Any = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read as NIfTI: {error}") from error
    if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
        raise InputError(f"{path}: expected NIfTI-1 or NIfTI-2, got {type(image).__name__}")
    return image


def _affine_of(image: Any, path: Path) -> tuple[NDArray[np.float64], bool, list[Finding]]:
    """Our affine, whether the file places the image at all, and what was found on the way."""
    findings = []
    sform, sform_code = image.header.get_sform(coded=True)
    try:
        qform, qform_code = image.header.get_qform(coded=True)
    except (ValueError, ArithmeticError):  # a quaternion that is none
        qform, qform_code = None, 0
    if sform_code > 0 and qform_code > 0 and qform is not None:
        corner = np.array([*np.subtract(image.shape[:3], 1), 1.0])
        apart = max(np.abs((sform - qform)[:3, 3]).max(), np.abs((sform - qform) @ corner)[:3].max())
        if apart > FORMS_AGREE_MM:
            findings.append(
                Finding(
                    "two placements",
                    "noted",
                    f"sform and qform place the image up to {apart:.1f} mm apart; sform is used",
                )
            )
    placed = sform_code > 0 or (qform_code > 0 and qform is not None)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not placed:
        findings.append(
            Finding("no placement", "noted", "neither sform nor qform is set, so only the spacing is known")
        )
        affine = np.diag([*(abs(float(zoom)) or 1.0 for zoom in image.header.get_zooms()[:3]), 1.0])
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise RefusedSeriesError(
            str(path), [Finding("geometry", "refused", "its affine is singular; export the image again")]
        )
    return affine_from_ras(affine), placed, findings


def _scaled(image: Any, path: Path) -> NDArray[np.generic]:
    """Voxels as (slices, rows, columns) or (..., 3), in the leanest type that holds them exactly."""
    shape = image.shape
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        message = f"it holds {int(np.prod(shape[3:]))} volumes ({' x '.join(map(str, shape))}); give one a file"
        raise RefusedSeriesError(str(path), [Finding("several volumes", "refused", message)])
    dtype = image.get_data_dtype()
    if dtype.kind == "c":
        raise RefusedSeriesError(str(path), [Finding("complex numbers", "refused", "give magnitude or phase")])
    check_size(str(path), int(np.prod(shape)) * dtype.itemsize)
    try:
        if dtype.fields is not None:  # RGB and RGBA
            raw = np.asarray(image.dataobj)
            values = np.stack([raw[name] for name in ("R", "G", "B")], axis=-1).reshape(*_three(shape), 3)
            return np.ascontiguousarray(values.transpose(2, 1, 0, 3))
        if image.dataobj.slope == 1 and image.dataobj.inter == 0 and dtype.kind in "iu" and dtype.itemsize <= 2:
            values = np.asanyarray(image.dataobj.get_unscaled())
        else:
            values = np.asanyarray(image.dataobj, dtype=np.float32)
    except DAMAGED as error:
        raise InputError(f"{path}: its voxels cannot be read ({error}); the file may be cut short") from error
    native = values.dtype.newbyteorder("=")
    return np.ascontiguousarray(values.reshape(_three(shape)).transpose(2, 1, 0), dtype=native)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = (*shape, 1, 1)[:3]
    return i, j, k


def _of_values(voxels: NDArray[np.generic], modality: str) -> list[Finding]:
    findings = []
    if not modality:
        findings.append(Finding("modality", "noted", "NIfTI does not say what made the image; give it with --modality"))
    if voxels.dtype.kind == "f":
        missing = int(np.count_nonzero(~np.isfinite(voxels)))
        if missing:
            np.nan_to_num(voxels, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            message = f"{missing} voxels that are no finite numbers became 0"
            findings.append(Finding("not a number", "handled", message))
    return findings
