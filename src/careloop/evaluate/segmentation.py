"""How well a segmentation agrees with the reference: overlap, surface distances and volume, a structure at a time.

Sources: Dice 1945; Nikolov et al. 2021, J Med Internet Res 23(7):e26151 (surface Dice at a tolerance, here over the
voxels of both surfaces, as MONAI computes it); Maier-Hein et al. 2024, Nature Methods 21:195 (which to report, and what
an absent structure means).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.evaluate.estimate import PERCENTILES, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_CASES = 5  # for an interval; a bootstrap of fewer says next to nothing
HAUSDORFF_PERCENTILE = 95.0


@dataclass(frozen=True)
class Agreement:
    """Of one structure in one image; None where a figure is not defined.

    All are None where the structure is in neither. Where it is in one only, `dice` and `surface_dice` are 0 and the
    distances are None. Volumes are in mL.
    """

    dice: float | None
    surface_dice: float | None
    hausdorff95_mm: float | None
    mean_surface_distance_mm: float | None
    reference_ml: float
    found_ml: float


def agreement(
    reference: NDArray[np.bool_],
    found: NDArray[np.bool_],
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> Agreement:
    """Compare two masks of one shape (2 or 3 axes) with voxels of `spacing_mm`.

    `surface_dice` is the part of both surfaces that lies within `tolerance_mm` of the other; `hausdorff95_mm` the
    larger of the 95th percentiles of the distances from one surface to the other, each way; and
    `mean_surface_distance_mm` the mean over all voxels of both surfaces.

    Raises:
        InputError: the shapes differ.
    """
    if reference.shape != found.shape:
        raise InputError(f"masks to compare must have one shape, got {reference.shape} and {found.shape}")
    voxel_ml = math.prod(spacing_mm) / 1000
    volumes = float(reference.sum() * voxel_ml), float(found.sum() * voxel_ml)
    if not any(volumes):
        return Agreement(None, None, None, None, *volumes)
    if not all(volumes):
        return Agreement(0.0, 0.0, None, None, *volumes)
    box = _box(reference | found)
    there, back = surface_distances_mm(reference[box], found[box], spacing_mm=spacing_mm)
    both = np.concatenate([there, back])
    return Agreement(
        dice=dice(reference, found),
        surface_dice=float((both <= tolerance_mm).mean()),
        hausdorff95_mm=float(max(np.percentile(way, HAUSDORFF_PERCENTILE) for way in (there, back))),
        mean_surface_distance_mm=float(both.mean()),
        reference_ml=volumes[0],
        found_ml=volumes[1],
    )


def dice(reference: NDArray[np.bool_], found: NDArray[np.bool_]) -> float | None:
    """Twice the common voxels over the voxels of both; None where both masks are empty."""
    total = int(reference.sum()) + int(found.sum())
    return 2.0 * int((reference & found).sum()) / total if total else None


def surface_distances_mm(
    reference: NDArray[np.bool_], found: NDArray[np.bool_], *, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance from each voxel of the reference's surface to the nearest of the other surface, and the way back.

    Both masks must have a voxel.
    """
    from scipy.ndimage import distance_transform_edt

    surfaces = surface(reference), surface(found)
    to_reference, to_found = (distance_transform_edt(~s, sampling=spacing_mm) for s in surfaces)
    return to_found[surfaces[0]], to_reference[surfaces[1]]


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels of a mask that touch the outside by a face; what lies beyond the image counts as outside."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    whole = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for shift in (slice(None, -2), slice(2, None)):
            inner &= padded[(*whole[:axis], shift, *whole[axis + 1 :])]
    return mask & ~inner


def mean_by_case(values: Sequence[float | None], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean over cases that have a value, with the 95 % percentile interval of a bootstrap by case."""
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return Estimate(None, reason="no case has the structure")
    mean = float(known.mean())
    if len(known) < FEWEST_CASES:
        return Estimate(mean, reason=f"{len(known)} cases: an interval needs {FEWEST_CASES}")
    draws = np.random.default_rng(seed).integers(0, len(known), (resamples, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), PERCENTILES)
    return Estimate(mean, float(low), float(high))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around a mask that has a voxel; surfaces and distances inside it are those of the whole."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
