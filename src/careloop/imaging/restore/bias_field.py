"""The slow change of brightness across an MR image, found and divided out (N4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_SHRUNK = 16  # voxels left along an axis: a shorter axis is not shrunk
ITERATIONS = (50, 50, 50, 50)  # a level; Tustison et al.
CONVERGED = 1e-3


@dataclass(frozen=True)
class BiasCorrection:
    """The corrected volume, float32, and the field that its voxels were divided by (slices, rows, columns)."""

    volume: Volume
    field: NDArray[np.float32]


def correct_bias_field(volume: Volume, *, mask: NDArray[np.bool_] | None = None, shrink: int = 4) -> BiasCorrection:
    """Divide an MR volume by its bias field (Tustison et al. 2010, N4ITK, IEEE TMI 29:1310; SimpleITK's filter).

    `mask` (slices, rows, columns) holds the tissue that the field is fitted in: voxels above Otsu's threshold where
    None. The field is fitted on every `shrink`-th voxel along axes that are long enough, and given on all of them.

    Raises:
        InputError: the volume is in colour or no MR, a mask of another shape or without voxels, a shrink below 1.
    """
    _check(volume, mask, shrink)
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError('Bias field correction needs SimpleITK: pip install "careloop[imaging]"') from error
    voxels = np.maximum(volume.voxels.astype(np.float32), 0)  # the model is a product, negative values are none
    flat = len(voxels) == 1
    image = _image(voxels[0] if flat else voxels, volume.spacing_mm, SimpleITK)
    tissue = _tissue(image, mask, SimpleITK)
    factors = [max(1, min(shrink, n // FEWEST_SHRUNK)) for n in image.GetSize()]
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(ITERATIONS))
    corrector.SetConvergenceThreshold(CONVERGED)
    corrector.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(tissue, factors))
    field = np.exp(SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))).reshape(voxels.shape)
    text = f"The slow change of brightness, {field.min():.2f} to {field.max():.2f} times, was divided out (N4)."
    corrected = replace(
        volume, voxels=voxels / field, findings=(*volume.findings, Finding("bias field", "handled", text))
    )
    return BiasCorrection(corrected, field.astype(np.float32))


def _check(volume: Volume, mask: NDArray[np.bool_] | None, shrink: int) -> None:
    if volume.voxels.ndim != 3 or volume.modality not in ("MR", ""):
        raise InputError(
            f"A bias field is corrected in one MR volume without colour, got modality '{volume.modality}' and shape "
            f"{volume.voxels.shape}"
        )
    if shrink < 1:
        raise InputError(f"A bias field needs a shrink of at least 1, got {shrink}")
    if mask is not None and (mask.shape != volume.voxels.shape or not mask.any()):
        raise InputError(
            f"A mask of tissue must have the volume's shape {volume.voxels.shape} and voxels in it, got {mask.shape}"
        )


def _image(voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float], itk: Any) -> Any:
    """As SimpleITK's image, in two dimensions where there is one slice."""
    image = itk.GetImageFromArray(voxels)
    image.SetSpacing(spacing_mm[::-1][: voxels.ndim])
    return image


def _tissue(image: Any, mask: NDArray[np.bool_] | None, itk: Any) -> Any:
    if mask is None:
        return itk.OtsuThreshold(image, 0, 1)
    tissue = itk.GetImageFromArray((mask[0] if image.GetDimension() == 2 else mask).astype(np.uint8))
    tissue.CopyInformation(image)
    return tissue
