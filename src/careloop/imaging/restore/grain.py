"""Whether what a denoiser took out looks like the noise it was trained on; if not, its result is not to be trusted.

A good denoiser does not take out noise that it cannot tell from the image: the less noise, the smaller the part. What
it takes out, squared, and its expected squared error together make up the noise's variance, if that is what it was told
(Raphan and Simoncelli 2011, Least squares estimation without priors or supervision, Neural Computation 23:374, section
2, for the best estimate in white Gaussian noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.finding import Finding
from careloop.imaging.restore.run import RestoredPlane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.floating[Any]]

UNLIKE = "noise unlike training"  # the check

# Bounds that white Gaussian noise of the stated level keeps, with room for what a network leaves in.
MOST_TAKEN = 1.4  # standard deviation of what was taken out, over the noise level
LEAST_FOUND = 0.65  # that and the expected error together; half the level that was told comes to 0.55 to 0.8
SQUARED = np.pi / 2  # the mean square of Gaussian errors over the square of their mean size
CORRELATION = (-0.4, 0.25)  # between neighbouring pixels of it; of little noise the finest part is taken out first
STRUCTURE = 0.35  # its correlation with the restored image's edges: what follows outlines is image, not noise
# The same for low-dose CT. In simulated scans it lies at or below 0, as noise is strongest deep in a body, in most real
# CT below 0.1; where CT has edges but no noise, as after median filters of 9 x 9 pixels, above.
LOW_DOSE_STRUCTURE = 0.15
LEAST_SHOWN = 500  # pairs of neighbouring pixels that are no background
WITH_SIGNAL = 0.05  # restored values from 0 to 1; darker is background, where MR noise is not Gaussian, CT clipped


@dataclass(frozen=True)
class Grain:
    """What was taken out: its size over the noise level, correlation of neighbours and with edges.

    `found` is its size and that of the expected error together: about 1 where the noise is as strong as was told.
    """

    taken: float
    found: float
    correlation: float
    structure: float


def grain_of(noisy: Plane, found: RestoredPlane, level: float) -> Grain | None:
    """The figures of one plane of about 0 to 1, None where it is nearly all background; `level` above 0."""
    structure = structure_of(noisy, found)
    if structure is None:
        return None
    shown = found.plane > WITH_SIGNAL
    both_rows, both_columns = shown[1:] & shown[:-1], shown[:, 1:] & shown[:, :-1]
    taken = noisy.astype(np.float64) - found.plane
    return Grain(
        taken=float(np.sqrt(np.mean(taken[shown] ** 2))) / level,
        found=noise_found(noisy, found) / level,
        correlation=float(
            np.mean(
                [
                    _correlation(taken[1:][both_rows], taken[:-1][both_rows]),
                    _correlation(taken[:, 1:][both_columns], taken[:, :-1][both_columns]),
                ]
            )
        ),
        structure=structure,
    )


def noise_found(noisy: Plane, found: RestoredPlane) -> float:
    """Standard deviation of the noise outside the background: what was taken out, and the error that is expected."""
    shown = found.plane > WITH_SIGNAL
    if not shown.any():
        shown = np.ones_like(shown)
    taken = np.mean((noisy.astype(np.float64) - found.plane)[shown] ** 2)
    left = SQUARED * np.mean(found.expected_error[shown].astype(np.float64) ** 2)
    return float(np.sqrt(taken + left))


def structure_of(noisy: Plane, found: RestoredPlane) -> float | None:
    """How what was taken out of one plane follows its outlines, None where the plane is nearly all background."""
    from scipy.ndimage import gaussian_gradient_magnitude

    shown = found.plane > WITH_SIGNAL
    if min((shown[1:] & shown[:-1]).sum(), (shown[:, 1:] & shown[:, :-1]).sum()) < LEAST_SHOWN:
        return None
    edges = gaussian_gradient_magnitude(found.plane.astype(np.float64), 1.0)
    return _correlation(np.abs(noisy.astype(np.float64) - found.plane)[shown], edges[shown])


def check_grain(grains: list[Grain]) -> list[Finding]:
    """Refusals where the planes' median figures are outside what the noise of training gives."""
    if not grains:
        return []
    taken, together, correlation, structure = (
        float(np.median([getattr(grain, name) for grain in grains]))
        for name in ("taken", "found", "correlation", "structure")
    )
    found = []
    if taken > MOST_TAKEN:
        found.append(
            f"what was taken out is {taken:.2f} times as strong as the noise level that was stated or estimated; state "
            "a higher one (--level)"
        )
    if together < LEAST_FOUND:
        found.append(
            f"the noise is only {together:.2f} times as strong as was stated or estimated; state a lower level "
            "(--level)"
        )
    if not CORRELATION[0] <= correlation <= CORRELATION[1]:
        found.append(
            f"what was taken out is correlated between neighbouring pixels ({correlation:.2f}), as noise of "
            "reconstructed CT, of interpolated or of compressed images is; for CT use --task low-dose"
        )
    if structure > STRUCTURE:
        found.append(f"what was taken out follows the outlines in the image ({structure:.2f})")
    return [Finding(UNLIKE, "refused", message) for message in found]


def check_low_dose(structures: list[float]) -> list[Finding]:
    """A refusal where what was taken out of the planes of a CT was not noise alone, by the median of them."""
    if not structures or np.median(structures) <= LOW_DOSE_STRUCTURE:
        return []
    message = (
        f"what was taken out follows the outlines in the image ({np.median(structures):.2f}): its dose is not low, or "
        "it was reconstructed or filtered in another way than the images of training; use the original"
    )
    return [Finding(UNLIKE, "refused", message)]


def _correlation(a: Plane, b: Plane) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
