"""Whether what a denoiser took out looks like the noise it was trained on; if not, its result is not to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

# Bounds that white Gaussian noise of the stated level keeps, with room for what a network leaves in.
SPREAD = (0.6, 1.4)  # of what was taken out, over the stated level
CORRELATION = 0.25  # between neighbouring pixels of it
STRUCTURE = 0.35  # its correlation with the restored image's edges: what follows outlines is image, not noise
WITH_SIGNAL = 0.05  # restored values from 0 to 1; darker is background, where MR noise is not Gaussian, CT clipped


@dataclass(frozen=True)
class Grain:
    """What was taken out: its standard deviation over the stated level, correlation of neighbours and with edges."""

    spread: float
    correlation: float
    structure: float


def grain_of(noisy: Plane, restored: Plane, level: float) -> Grain | None:
    """The figures of one plane of about 0 to 1; `level` above 0."""
    from scipy.ndimage import gaussian_gradient_magnitude

    shown = restored > WITH_SIGNAL
    both_rows, both_columns = shown[1:] & shown[:-1], shown[:, 1:] & shown[:, :-1]
    if min(both_rows.sum(), both_columns.sum()) < 500:
        return None
    taken = noisy.astype(np.float64) - restored
    edges = gaussian_gradient_magnitude(restored.astype(np.float64), 1.0)
    return Grain(
        spread=float(1.4826 * np.median(np.abs(taken[shown])) / level),
        correlation=float(
            np.mean(
                [
                    _correlation(taken[1:][both_rows], taken[:-1][both_rows]),
                    _correlation(taken[:, 1:][both_columns], taken[:, :-1][both_columns]),
                ]
            )
        ),
        structure=_correlation(np.abs(taken)[shown], edges[shown]),
    )


def check_grain(grains: list[Grain]) -> list[Finding]:
    """Refusals where the planes' median figures are outside what the noise of training gives."""
    if not grains:
        return []
    spread, correlation, structure = (
        float(np.median([getattr(grain, name) for grain in grains])) for name in ("spread", "correlation", "structure")
    )
    found = []
    if not SPREAD[0] <= spread <= SPREAD[1]:
        found.append(
            f"what was taken out is {spread:.2f} times as strong as the noise level that was stated or estimated"
        )
    if abs(correlation) > CORRELATION:
        found.append(
            f"what was taken out is correlated between neighbouring pixels ({correlation:.2f}), as noise of "
            "reconstructed CT, of interpolated or of compressed images is; for CT use --task low-dose"
        )
    if structure > STRUCTURE:
        found.append(f"what was taken out follows the outlines in the image ({structure:.2f})")
    return [Finding("noise unlike training", "refused", message) for message in found]


def _correlation(a: Plane, b: Plane) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
