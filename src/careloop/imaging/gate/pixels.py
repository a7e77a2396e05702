"""What only the voxels show: values that cannot be, and slices without content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.slices import SliceHeader

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Stored as 16 bits with any intercept of use, HU lie within; extended CT scales (slope 10) end at 30,710.
HU_LIMITS = (-33_792.0, 32_767.0)
WRAPPED_ABOVE = 60_000.0  # a small negative number read as unsigned 16 bits
WRAPPED_EMPTY = 30_000.0  # and nothing stored between here and there


def check_pixels(
    voxels: NDArray[np.generic], slices: Sequence[SliceHeader], *, where: str, modality: str = ""
) -> tuple[Finding, ...]:
    """Findings of a volume's values: `voxels` (slices, rows, columns[, 3]) after rescaling, in its unit.

    Refused (RefusedSeriesError): numbers that are not finite, a CT outside of all Hounsfield units, empty slices
    between others of a CT. Noted: empty slices elsewhere, negative values that seem to be read as unsigned.
    """
    flat = voxels.reshape(len(voxels), -1)
    low = flat.min(axis=1).astype(np.float64)
    high = flat.max(axis=1).astype(np.float64)
    findings = [*_not_finite(low, high), *_empty(low, high, modality)]
    if not findings or np.isfinite(high).all():
        findings += _beyond(low, high, slices, modality) or _wrapped(flat, high, slices)
    if any(finding.verdict == "refused" for finding in findings):
        raise RefusedSeriesError(where, findings)
    return tuple(findings)


def _not_finite(low: NDArray[np.float64], high: NDArray[np.float64]) -> list[Finding]:
    bad = int((~np.isfinite(low) | ~np.isfinite(high)).sum())
    if not bad:
        return []
    return [Finding("values", "refused", f"{bad} of {len(low)} slices hold values that are no finite numbers")]


def _empty(low: NDArray[np.float64], high: NDArray[np.float64], modality: str) -> list[Finding]:
    empty = low == high
    if not empty.any():
        return []
    if empty.all():
        return [Finding("empty slices", "noted", "no slice holds more than one value")]
    full = np.flatnonzero(~empty)
    inner = int(empty[full[0] : full[-1]].sum())
    if inner and modality == "CT":
        message = f"{inner} slices between others hold one value only: their pixels were lost; fetch the series again"
        return [Finding("empty slices", "refused", message)]
    return [Finding("empty slices", "noted", f"{int(empty.sum())} of {len(low)} slices hold one value only")]


def _beyond(
    low: NDArray[np.float64], high: NDArray[np.float64], slices: Sequence[SliceHeader], modality: str
) -> list[Finding]:
    in_hounsfield = modality == "CT" and all(s.rescale_type in ("", "HU") for s in slices)
    if not in_hounsfield or (low.min() >= HU_LIMITS[0] and high.max() <= HU_LIMITS[1]):
        return []
    message = (
        f"values from {low.min():g} to {high.max():g} cannot be Hounsfield units: signed values were stored or read as "
        "unsigned, or the rescale intercept is wrong"
    )
    return [Finding("sign mismatch", "refused", message)]


def _wrapped(flat: NDArray[np.generic], high: NDArray[np.float64], slices: Sequence[SliceHeader]) -> list[Finding]:
    """Looks at the slices that reach the top of 16 bits, which are few or none."""
    for index in np.flatnonzero(high > 0).tolist():
        header = slices[index] if index < len(slices) else slices[-1]
        if header.bits_stored != 16 or (high[index] - header.intercept) / header.slope <= WRAPPED_ABOVE:
            continue
        stored = (flat[index].astype(np.float64) - header.intercept) / header.slope
        top = stored > WRAPPED_ABOVE
        if len(np.unique(stored[top])) > 1 and not ((stored > WRAPPED_EMPTY) & ~top).any():
            message = "some values lie just below 65536 and none between: negative values may be read as unsigned"
            return [Finding("sign mismatch", "noted", message)]
    return []


def has_air(voxels: NDArray[np.generic]) -> bool:
    """True where some voxel is below 0, as fat and air are in Hounsfield units."""
    return bool(voxels.min() < 0)
