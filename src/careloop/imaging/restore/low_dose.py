"""Low-dose CT simulated from a slice: photon and electronic noise in its projections, and denoising of projections.

The scanner is that of `careloop.imaging.phantom.projections`: parallel beams, one photon energy, no scatter. What a
denoiser is held against is the same scanner's image without noise (`ProjectedSlices.full_dose`), so that the blur of
projecting and reconstructing is in both. Everything made here is simulated, also from a real slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from careloop import InputError
from careloop.imaging.phantom.projections import (
    LOWEST_COUNT,
    WATER_PER_MM,
    Kernel,
    Scanner,
    measure,
    reconstruct,
    sinogram,
)
from careloop.imaging.restore.noise import CountStabiliser, Denoiser, denoise_stabilised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Images = NDArray[np.floating[Any]]

# A slice that was reconstructed once has the blur of a scanner already, so that this one adds none of its own.
LOW_DOSE = Scanner(views=360, photons=2e4, electronic_sd=8.0, blur_mm=0.0, kernel="medium")
MOST_BLUR_MM = 0.8  # of focal spot and detector


@dataclass(frozen=True)
class ProjectedSlices:
    """Slices in a simulated scanner: `lines` (slices, views, detectors) are line integrals without noise.

    `full_dose` (slices, rows, columns), HU, is what the scanner shows without noise. Keep it for many noisy scans of
    the same slices: only noise is then projected back.
    """

    lines: Images
    full_dose: Images
    pixel_mm: float
    scanner: Scanner


def any_scanner(random: np.random.Generator) -> Scanner:
    """That scanner with a kernel and a blur drawn at random, as real ones differ in the grain of their noise."""
    kernel = get_args(Kernel)[random.integers(len(get_args(Kernel)))]
    return replace(LOW_DOSE, kernel=kernel, blur_mm=float(random.uniform(0, MOST_BLUR_MM)))


def project(hu: Images, pixel_mm: float, scanner: Scanner = LOW_DOSE) -> ProjectedSlices:
    """Slices (slices, rows, columns) in HU with square pixels, as line integrals and as the image without noise.

    Raises:
        InputError: not three axes, or a pixel size that is not above 0.
    """
    if hu.ndim != 3 or not pixel_mm > 0:
        raise InputError(
            "Low-dose CT is simulated for slices (slices, rows, columns) with pixels above 0 mm, got shape "
            f"{hu.shape} and {pixel_mm:g} mm"
        )
    attenuation = np.maximum(1 + hu.astype(np.float32) / 1000, 0) * np.float32(WATER_PER_MM)
    lines = sinogram(attenuation, pixel_mm, scanner.views)
    silent = measure(lines, pixel_mm, replace(scanner, photons=math.inf), np.random.default_rng(0))
    full_dose = _hu(reconstruct(silent, pixel_mm, scanner.kernel, shape=(hu.shape[1], hu.shape[2])))
    return ProjectedSlices(lines, full_dose, pixel_mm, scanner)


def measured_lines(projected: ProjectedSlices, rng: np.random.Generator, *, photons: float | None = None) -> Images:
    """Noisy line integrals (slices, views, detectors) of one scan, with `photons` a ray where that is given."""
    return measure(projected.lines, projected.pixel_mm, _with_photons(projected.scanner, photons), rng)


def low_dose(projected: ProjectedSlices, rng: np.random.Generator, *, photons: float | None = None) -> Images:
    """One noisy scan, HU float32 (slices, rows, columns), with `photons` a ray where that is given.

    The air beside the patient is not clipped at -1000 HU: clipped noise has a mean.
    """
    return reconstructed(measured_lines(projected, rng, photons=photons), projected)


def reconstructed(lines: Images, projected: ProjectedSlices) -> Images:
    """HU (slices, rows, columns) of line integrals in the geometry of `projected`."""
    rows, columns = projected.full_dose.shape[1:]
    return _hu(reconstruct(lines, projected.pixel_mm, projected.scanner.kernel, shape=(rows, columns)))


def denoised_lines(lines: Images, scanner: Scanner, denoiser: Denoiser) -> Images:
    """Line integrals denoised view by detector, as counts with a standard deviation of 1, by a Gaussian denoiser.

    `scanner` must have the photons and the electronic noise that `lines` were measured with. Each slice's projections
    (views, detectors) are one picture to the denoiser.
    """
    if math.isinf(scanner.photons):
        return lines
    stabiliser = CountStabiliser(gain=1.0, sigma=scanner.electronic_sd)
    counts = scanner.photons * np.exp(-lines.astype(np.float64))
    denoised = np.stack([denoise_stabilised(one, stabiliser, denoiser) for one in counts])
    return -np.log(np.maximum(denoised, LOWEST_COUNT) / scanner.photons).astype(np.float32)


def _with_photons(scanner: Scanner, photons: float | None) -> Scanner:
    return scanner if photons is None else replace(scanner, photons=photons)


def _hu(attenuation: Images) -> Images:
    """Hounsfield units of attenuation a mm."""
    return (attenuation / np.float32(WATER_PER_MM) - 1) * 1000
