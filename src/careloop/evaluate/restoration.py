"""How near a restored image is to the clean one, what texture its noise has, and how sharp its edges are.

Every figure that depends on the range of values takes `data_range`, the distance from black to white, in the image's
units; it is stated, never guessed from the image. Sources: Wang et al. 2004, IEEE TIP 13:600 (SSIM); ICRU Report 87
(2012) and IEC 62220-1 (noise power spectrum, edge method); ISO 12233 (slanted edge).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.evaluate.estimate import Estimate
from careloop.evaluate.segmentation import mean_by_case

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

WINDOW_SIGMA, WINDOW = 1.5, 11  # pixels; Wang et al., section III-B
K1, K2 = 0.01, 0.03
FINER = 4  # samples of the edge spread function a pixel (ISO 12233)
EDGE_SHARE = 0.05  # of all pixels: those with the strongest gradients are the edges
Trend = Literal["mean", "quadratic"]


@dataclass(frozen=True)
class Similarity:
    """Of one restored image to the clean one: PSNR in dB, SSIM, RMSE in the image's units, and edges kept (1: all)."""

    psnr_db: float
    ssim: float
    rmse: float
    edges_kept: float


@dataclass(frozen=True)
class NoisePower:
    """Noise power spectrum: `power` (rows, columns), units² mm², zero frequency in the middle.

    `row_frequency` and `column_frequency` are cycles a mm; the sum of `power` times the area of a frequency bin is the
    variance. `radial_power` is the mean over rings of `radial_frequency`, one bin wide, up to Nyquist's.
    """

    power: Image
    row_frequency: Image
    column_frequency: Image
    radial_frequency: Image
    radial_power: Image

    @property
    def variance(self) -> float:
        """The integral over all frequencies, in the image's units squared."""
        bins = [float(f[1] - f[0]) for f in (self.row_frequency, self.column_frequency)]
        return float(self.power.sum()) * bins[0] * bins[1]


def similarity(clean: Image, restored: Image, *, data_range: float) -> Similarity:
    """All figures of one image beside its clean one, both (rows, columns) in the same units.

    Raises InputError where shapes differ, the image is smaller than SSIM's window, or the range is not above 0.
    """
    return Similarity(
        psnr(clean, restored, data_range=data_range),
        ssim(clean, restored, data_range=data_range),
        rmse(clean, restored),
        edges_kept(clean, restored),
    )


def psnr(clean: Image, restored: Image, *, data_range: float) -> float:
    """Peak signal-to-noise ratio of images of any shape, 20 log10(data_range / RMSE), dB; infinite where equal."""
    _check(clean, restored, data_range)
    error = rmse(clean, restored)
    return 20 * math.log10(data_range / error) if error else math.inf


def rmse(clean: Image, restored: Image) -> float:
    """Root mean squared difference of images of any shape, in their units."""
    _check(clean, restored)
    return math.sqrt(float(((clean.astype(np.float64) - restored) ** 2).mean()))


def ssim(clean: Image, restored: Image, *, data_range: float) -> float:
    """Mean structural similarity of two images (rows, columns) over all places where the window lies inside.

    Gaussian window of 11 x 11 pixels and sigma 1.5, population moments, K1 0.01, K2 0.03 (Wang et al. 2004).
    """
    from scipy.ndimage import gaussian_filter

    _check(clean, restored, data_range)
    if clean.ndim != 2 or min(clean.shape) < WINDOW:
        raise InputError(f"SSIM needs images (rows, columns) of at least {WINDOW} x {WINDOW}, got {clean.shape}")

    def local(image: Image) -> Image:
        half = WINDOW // 2
        smooth: Image = gaussian_filter(image, WINDOW_SIGMA, radius=half)
        return smooth[half:-half, half:-half]

    x, y = clean.astype(np.float64), restored.astype(np.float64)
    mean_x, mean_y = local(x), local(y)
    var_x, var_y, cov = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def edges_kept(clean: Image, restored: Image) -> float:
    """The part of the clean image's strongest gradients that the restored one has, along their direction.

    Over the 5 % of pixels with the strongest gradients: sum of the products of both gradients over the sum of the clean
    one's squares. 1 where edges are as steep, below 1 where they are blurred, above 1 where they are exaggerated;
    noise that does not depend on the edges changes nothing on average. 1 for an image without any gradient.
    """
    _check(clean, restored)
    wanted, got = (_gradient(image) for image in (clean, restored))
    strength = (wanted**2).sum(axis=0)
    edges = strength >= np.quantile(strength, 1 - EDGE_SHARE)
    total = float(strength[edges].sum())
    return float((wanted * got).sum(axis=0)[edges].sum()) / total if total else 1.0


def _gradient(image: Image) -> Image:
    return np.asarray(np.gradient(image.astype(np.float64)))


def noise_power(noise: Image, *, pixel_mm: float, trend: Trend = "mean") -> NoisePower:
    """Noise power spectrum of regions (n, rows, columns) that hold noise over an even background.

    NPS = pixel area / pixels x mean |DFT|² after each region's mean, or its second-order polynomial, was taken off
    (ICRU Report 87; IEC 62220-1). For regions that are differences of two scans halve the result.
    """
    if noise.ndim != 3 or min(noise.shape) < 1 or not pixel_mm > 0:
        raise InputError(
            f"A noise power spectrum needs regions (n, rows, columns) and pixels above 0 mm, got {noise.shape}, "
            f"{pixel_mm:g} mm"
        )
    rows, columns = noise.shape[1:]
    flat = _without_trend(noise.astype(np.float64), trend)
    spectrum = (np.abs(np.fft.fft2(flat)) ** 2).mean(axis=0) * pixel_mm**2 / (rows * columns)
    power = np.fft.fftshift(spectrum)
    v, u = (np.fft.fftshift(np.fft.fftfreq(n, pixel_mm)) for n in (rows, columns))
    width = 1 / (max(rows, columns) * pixel_mm)
    ring = np.rint(np.hypot(v[:, None], u[None, :]) / width).astype(int)
    last = round(0.5 / pixel_mm / width)
    count = np.bincount(ring.ravel())[: last + 1]
    radial = np.bincount(ring.ravel(), power.ravel())[: last + 1] / np.maximum(count, 1)
    return NoisePower(power, v, u, np.arange(last + 1) * width, radial)


def _without_trend(noise: Image, trend: Trend) -> Image:
    if trend == "mean":
        return noise - noise.mean(axis=(1, 2), keepdims=True)
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in noise.shape[1:]), indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    values = noise.reshape(len(noise), -1).T
    fitted, *_ = np.linalg.lstsq(terms, values, rcond=None)
    return (values - terms @ fitted).T.reshape(noise.shape)


def mtf50_per_mm(edge: Image, *, pixel_mm: float) -> float:
    """Frequency in cycles a mm at which the modulation transfer along one straight edge has fallen to a half.

    `edge` (rows, columns) shows one straight edge that is slanted against the grid by about 2 to 40 degrees (ISO 12233;
    IEC 62220-1): its place is fitted, the edge spread function is sampled at a quarter of a pixel, and
    its derivative is transformed. Raises InputError where there is no such edge.
    """
    if edge.ndim != 2 or min(edge.shape) < 16:
        raise InputError(f"The edge method needs a region of at least 16 x 16 pixels, got {edge.shape}")
    across, along = (np.abs(np.diff(edge.astype(np.float64), axis=axis)).sum() for axis in (1, 0))
    image = edge.astype(np.float64) if across >= along else edge.T.astype(np.float64)
    slope, start = _fitted_edge(image)
    distance = (np.arange(image.shape[1])[None, :] - start - slope * np.arange(len(image))[:, None]) / math.hypot(
        1, slope
    )
    transfer, frequency = _transfer(*_edge_spread(image, distance), pixel_mm)
    below = np.flatnonzero(transfer < 0.5)
    if not len(below) or below[0] == 0:
        raise InputError(
            "The edge method needs one slanted edge with little noise, got a transfer that stays above 0.5"
        )
    i = int(below[0])
    part = (transfer[i - 1] - 0.5) / (transfer[i - 1] - transfer[i])
    return float(frequency[i - 1] + part * (frequency[i] - frequency[i - 1]))


def _fitted_edge(image: Image) -> tuple[float, float]:
    """Slope and start of a nearly vertical edge: a line through the middles of each row's derivative, fitted twice."""
    steps = np.diff(image, axis=1)
    steps *= np.sign(steps.sum())
    at, rows = np.arange(steps.shape[1]) + 0.5, np.arange(len(steps))
    middle, width = np.full(len(steps), steps.sum(axis=0).argmax() + 0.5), float(steps.shape[1])
    slope, start = 0.0, 0.0
    for _ in range(3):
        window = np.exp(-0.5 * ((at[None, :] - middle[:, None]) / (width / 4)) ** 2)
        weights = np.maximum(steps * window, 0)
        total = weights.sum(axis=1)
        if not total.all():
            raise InputError("The edge method needs an edge in every row of the region, got rows without one")
        slope, start = np.polyfit(rows, (weights @ at) / total, 1)
        middle, width = start + slope * rows, max(width / 2, 12.0)
    return float(slope), float(start)


def _edge_spread(image: Image, distance: Image) -> tuple[Image, float]:
    """The edge spread function, binned, and the width of its bins in pixels."""
    reach = float(min(distance[:, -1].min(), -distance[:, 0].max()))
    bins = np.rint(distance * FINER).astype(int)
    most = int(reach * FINER)
    inside = np.abs(bins) <= most
    place = bins[inside] + most
    count = np.bincount(place, minlength=2 * most + 1)
    total = np.bincount(place, image[inside], minlength=2 * most + 1)
    known = count > 0
    every = np.arange(2 * most + 1)
    return np.interp(every, every[known], total[known] / count[known]), 1 / FINER


def _transfer(spread: Image, width_px: float, pixel_mm: float) -> tuple[Image, Image]:
    """Modulation transfer and its frequencies: of the windowed derivative, corrected for differencing."""
    from scipy.signal.windows import tukey

    line = np.gradient(spread) * tukey(len(spread))  # Hann's, flat in the middle half, where the edge is
    length = 4 * len(line)
    transfer = np.abs(np.fft.rfft(line, length))
    cycles = np.fft.rfftfreq(length)  # a bin; central differences have the transfer sinc(2 f)
    transfer = transfer / np.maximum(np.abs(np.sinc(2 * cycles)) * transfer[0], 1e-12)
    keep = cycles < 0.25
    return transfer[keep], cycles[keep] / (width_px * pixel_mm)


def summary(cases: Sequence[Similarity], *, seed: int = 0) -> Mapping[str, Estimate]:
    """The mean of each figure over images with its 95 % interval (bootstrap by image)."""
    names = Similarity.__dataclass_fields__
    return {name: mean_by_case([getattr(case, name) for case in cases], seed=seed) for name in names}


def _check(clean: Image, restored: Image, data_range: float = 1.0) -> None:
    if clean.shape != restored.shape or not clean.size:
        raise InputError(f"Images to compare must have one shape, got {clean.shape} and {restored.shape}")
    if not data_range > 0:
        raise InputError(f"data_range, the distance from black to white, must be above 0, got {data_range:g}")
