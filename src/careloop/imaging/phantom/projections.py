"""A simulated CT scanner: projections of each slice, photon noise at a dose, and filtered back projection.

Geometry is parallel, slice by slice. Left out: beam hardening (one photon energy), scatter, the bow-tie filter, fan and
cone angles, motion and metal; noise depends on the path through the patient, has the spectrum that reconstruction
gives it, and grows into streaks where few photons arrive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from careloop.imaging.volume import Volume

    Images = NDArray[np.floating[Any]]

Kernel = Literal["soft", "medium", "sharp"]
CUT_OFF: dict[Kernel, float] = {"soft": 0.7, "medium": 1.0, "sharp": math.inf}  # of a Hann window, in Nyquist's
WATER_PER_MM = 0.0193  # attenuation of water at 70 keV (NIST XCOM)
LOWEST_COUNT = 0.5  # photons; a detector that saw fewer is read as this, because the logarithm needs some
PIXELS_ALIKE = 1e-3  # relative difference between the two pixel spacings that still counts as none


@dataclass(frozen=True)
class Scanner:
    """How a slice is scanned: `views` over half a turn (even), dose, detector, and the reconstruction's kernel.

    `photons` reach each detector element in each view where nothing is in the way (`math.inf`: no noise at all);
    `electronic_sd` is the read-out's noise in photons, `blur_mm` the standard deviation of focal spot and detector.
    """

    views: int = 240
    photons: float = 5e5
    electronic_sd: float = 8.0
    blur_mm: float = 0.6
    kernel: Kernel = "soft"

    def __post_init__(self) -> None:
        if self.views < 2 or self.views % 2 or self.photons <= 0 or self.kernel not in get_args(Kernel):
            raise InputError(
                "A simulated scanner needs an even number of views, photons above 0 and a kernel of "
                f"{', '.join(get_args(Kernel))}; got {self.views} views, {self.photons:g} photons, '{self.kernel}'"
            )


def scan(volume: Volume, scanner: Scanner, *, seed: int = 0) -> Volume:
    """The volume as the simulated scanner shows it: int16 HU on the same grid.

    Raises:
        InputError: voxels that are not Hounsfield units, or pixels that are not square.
    """
    if volume.unit != "[hnsf'U]" or volume.voxels.ndim != 3:
        raise InputError(f"A simulated scan needs one volume in Hounsfield units, got unit '{volume.unit}'")
    _, row_mm, column_mm = volume.spacing_mm
    if abs(row_mm / column_mm - 1) > PIXELS_ALIKE:
        raise InputError(
            f"A simulated scan needs square pixels, got {row_mm:g} x {column_mm:g} mm; resample the volume"
        )
    attenuation = np.maximum(1 + volume.voxels.astype(np.float32) / 1000, 0) * np.float32(WATER_PER_MM)
    lines = sinogram(attenuation, column_mm, scanner.views)
    measured = measure(lines, column_mm, scanner, np.random.default_rng(seed))
    image = reconstruct(measured, column_mm, scanner.kernel, shape=volume.voxels.shape[1:3])
    hu = np.rint(np.clip((image / WATER_PER_MM - 1) * 1000, -1024, 3071)).astype(np.int16)
    noise = "without noise" if math.isinf(scanner.photons) else f"with {scanner.photons:.3g} photons a ray"
    text = f"Simulated parallel-beam CT, {scanner.views} views {noise}, {scanner.kernel} kernel."
    return replace(volume, voxels=hu, findings=(*volume.findings, Finding("simulated scan", "noted", text)))


def sinogram(attenuation: Images, pixel_mm: float, views: int) -> Images:
    """Line integrals (slices, views, detectors) of attenuation a mm (slices, rows, columns).

    Joseph's method: linear interpolation once a row or a column that the ray crosses (IEEE TMI 1982, 1:192).
    View k looks along angle -45 deg + 180 deg k / views; detectors are as wide as pixels, around the middle.
    """
    square = _square(attenuation)
    side = square.shape[1]
    project = _projector(side, views // 2)
    halves = []
    for image in (square, np.rot90(square, axes=(1, 2))):
        columns = np.ascontiguousarray(image.reshape(len(image), -1).T)
        halves.append((project @ columns).T.reshape(len(image), views // 2, -1))
    return np.concatenate(halves, axis=1) * np.float32(pixel_mm)


def measure(lines: Images, pixel_mm: float, scanner: Scanner, rng: np.random.Generator) -> Images:
    """Line integrals as the detector measures them: blurred, with photon noise and the read-out's noise."""
    from scipy.ndimage import gaussian_filter1d

    arriving = np.exp(-lines)
    if scanner.blur_mm > 0:
        arriving = gaussian_filter1d(arriving, scanner.blur_mm / pixel_mm, axis=-1)
    if math.isinf(scanner.photons):
        return -np.log(np.maximum(arriving, np.finfo(np.float32).tiny))
    counts = rng.poisson(arriving * scanner.photons).astype(np.float32)
    counts += np.float32(scanner.electronic_sd) * rng.standard_normal(counts.shape, dtype=np.float32)
    return -np.log(np.maximum(counts, LOWEST_COUNT) / np.float32(scanner.photons))


def reconstruct(lines: Images, pixel_mm: float, kernel: Kernel, *, shape: tuple[int, int]) -> Images:
    """Attenuation a mm (slices, rows, columns) by filtered back projection (Kak and Slaney 1988, section 3.3)."""
    slices, views, _ = lines.shape
    side = max(shape)
    filtered = _filtered(lines, pixel_mm, kernel)
    spread = _back_projector(side, views // 2)
    image = np.zeros((slices, side, side), np.float32)
    for turn, half in enumerate(np.split(filtered, 2, axis=1)):
        columns = np.ascontiguousarray(half.reshape(slices, -1).T)
        part = (spread @ columns).T.reshape(slices, side, side)
        image += np.rot90(part, -turn, axes=(1, 2))
    top, left = ((side - n) // 2 for n in shape)
    return image[:, top : top + shape[0], left : left + shape[1]] * np.float32(math.pi / views)


def _filtered(lines: Images, pixel_mm: float, kernel: Kernel) -> Images:
    """Each view filtered with the band-limited ramp and the kernel's Hann window."""
    from scipy import fft

    detectors = lines.shape[-1]
    padded = fft.next_fast_len(2 * detectors, real=True)
    n = np.minimum(np.arange(padded), padded - np.arange(padded))
    ramp = np.where(n % 2, -1 / (np.pi * np.maximum(n, 1) * pixel_mm) ** 2, 0.0)
    ramp[0] = 1 / (4 * pixel_mm**2)  # in space, not frequency: sampled there it would shift all HU
    frequency = 2 * np.fft.rfftfreq(padded)
    window = np.where(frequency < CUT_OFF[kernel], 0.5 + 0.5 * np.cos(np.pi * frequency / CUT_OFF[kernel]), 0)
    response = (fft.rfft(ramp).real * window * pixel_mm).astype(np.float32)
    return fft.irfft(fft.rfft(lines, padded, axis=-1) * response, padded, axis=-1)[..., :detectors]


def _square(images: Images) -> Images:
    """The images with air around them that makes them square."""
    rows, columns = images.shape[1:]
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.pad(images, ((0, 0), (top, side - rows - top), (left, side - columns - left)))


def _detectors(side: int) -> int:
    """Enough detectors for the diagonal."""
    return math.ceil(side * math.sqrt(2)) + 2


def _angles(half_views: int) -> NDArray[np.float64]:
    """Angles of the first half of the views; the second half are the same ones of the image turned by 90 deg."""
    return -np.pi / 4 + np.arange(half_views) * (np.pi / 2) / half_views


@lru_cache(maxsize=2)
def _projector(side: int, half_views: int) -> csr_array:
    """Sparse (views x detectors, pixels): a view's rays cross every row once."""
    detectors = _detectors(side)
    t = np.arange(detectors) - (detectors - 1) / 2
    y = np.arange(side) - (side - 1) / 2
    parts = []
    for angle in _angles(half_views):
        x = (t[:, None] - y[None, :] * np.sin(angle)) / np.cos(angle) + (side - 1) / 2
        pixels = np.arange(side)[None, :] * side
        parts.append(_interpolation(x, pixels, side, scale=1 / np.cos(angle)))
    return _stacked(parts, side * side)


@lru_cache(maxsize=2)
def _back_projector(side: int, half_views: int) -> csr_array:
    """Sparse (pixels, views x detectors): a pixel takes from each view where its ray meets the detector."""
    detectors = _detectors(side)
    y, x = (v.ravel() - (side - 1) / 2 for v in np.mgrid[:side, :side])
    angles = _angles(half_views)
    t = np.outer(x, np.cos(angles)) + np.outer(y, np.sin(angles)) + (detectors - 1) / 2
    first = np.arange(half_views)[None, :] * detectors
    return _stacked([_interpolation(t, first, detectors, scale=1.0)], half_views * detectors)


def _interpolation(at: NDArray[np.float64], first: NDArray[np.int_], length: int, *, scale: float) -> csr_array:
    """Sparse rows that sum, over the second axis of `at`, linear interpolations in lines that start at `first`."""
    from scipy.sparse import csr_array

    below = np.floor(at).astype(np.int32)
    above_part = (at - below).astype(np.float32)
    columns = np.stack([below, below + 1], axis=-1)
    weights = np.stack([1 - above_part, above_part], axis=-1) * np.float32(scale)
    inside = (columns >= 0) & (columns < length)
    columns = (columns + first[..., None].astype(np.int32))[inside]
    pointers = np.concatenate([[0], np.cumsum(inside.sum(axis=(1, 2)))]).astype(np.int32)
    return csr_array((weights[inside], columns, pointers), shape=(len(at), int(first.max()) + length))


def _stacked(parts: list[csr_array], columns: int) -> csr_array:
    from scipy.sparse import csr_array, vstack

    matrix = parts[0] if len(parts) == 1 else vstack(parts, format="csr")
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))
