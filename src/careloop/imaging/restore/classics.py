"""The classical denoisers under one signature, `(image, sigma) -> image`, for white noise of `sigma` in image units.

Every parameter follows from `sigma` by a rule stated here; none was chosen on the images that results are shown on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

NLM_PATCH_PX, NLM_REACH_PX, NLM_STRENGTH = 5, 6, 0.8  # scikit-image's for its fast algorithm, strength in sigma
TV_WEIGHTS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)  # in sigma, from which the least estimated risk is taken
TV_STOP, TV_ITERATIONS = 1e-5, 300
PROBE = 0.1  # of sigma: the step of the numerical divergence


def non_local_means(image: Image, sigma: float) -> Image:
    """Non-local means (Buades, Coll and Morel 2005): patches of 5 x 5 pixels within 6 pixels, strength 0.8 sigma."""
    if sigma == 0:
        return image.astype(np.float32)
    found = _skimage().denoise_nl_means(
        image.astype(np.float64),
        patch_size=NLM_PATCH_PX,
        patch_distance=NLM_REACH_PX,
        h=NLM_STRENGTH * sigma,
        sigma=sigma,
        fast_mode=True,
        preserve_range=True,
    )
    return np.asarray(found, dtype=np.float32)


def total_variation(image: Image, sigma: float, *, weight: float | None = None) -> Image:
    """Total variation by Chambolle's algorithm (2004, J Math Imaging Vis 20:89).

    `weight`, in image units, is that of 0.35 to 2 sigma with the least Stein's unbiased risk estimate, whose divergence
    is taken along one random direction (Ramani, Blu and Unser 2008, IEEE TIP 17:1540): image and sigma decide, no clean
    image does. State it for noise that is not white, for which that estimate does not hold.
    """
    if sigma == 0:
        return image.astype(np.float32)
    noisy = image.astype(np.float64)
    chosen = _least_risk_weight(noisy, sigma) if weight is None else weight
    return np.asarray(_chambolle(noisy, chosen), dtype=np.float32)


def bm3d(image: Image, sigma: float) -> Image:
    """BM3D (Dabov et al. 2007, IEEE TIP 16:2080) by its authors' package, where the user has installed it himself."""
    try:
        import bm3d as package
    except ImportError as error:
        raise InputError(
            "BM3D is not part of careloop: the authors' package allows non-commercial use only; whoever may use it "
            "installs it with pip install bm3d"
        ) from error
    if sigma == 0:
        return image.astype(np.float32)
    low, span = float(image.min()), float(np.ptp(image)) or 1.0
    found = package.bm3d((image.astype(np.float64) - low) / span, sigma / span)
    return np.asarray(found * span + low, dtype=np.float32)


def _least_risk_weight(noisy: Image, sigma: float) -> float:
    """The weight with the least estimated squared error: |y - f(y)|² + 2 sigma² divergence of f."""
    probe = np.random.default_rng(0).choice([-1.0, 1.0], noisy.shape)
    step = PROBE * sigma
    risks = {}
    for part in TV_WEIGHTS:
        found, moved = (_chambolle(start, part * sigma) for start in (noisy, noisy + step * probe))
        divergence = float((probe * (moved - found)).sum()) / step
        risks[part * sigma] = float(((noisy - found) ** 2).sum()) + 2 * sigma**2 * divergence
    return min(risks, key=lambda weight: risks[weight])


def _chambolle(image: Image, weight: float) -> Image:
    found = _skimage().denoise_tv_chambolle(image, weight=weight, eps=TV_STOP, max_num_iter=TV_ITERATIONS)
    return np.asarray(found)


def _skimage() -> Any:
    try:
        import skimage.restoration as restoration
    except ImportError as error:
        raise InputError('Classical denoising needs scikit-image: pip install "careloop[imaging]"') from error
    return restoration
