"""Blur: point spread functions, blurred and coarser images, and the classical ways back, Wiener and Richardson-Lucy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

TAIL = 3.0  # standard deviations of a Gaussian that its kernel holds
FINER = 8  # sub-pixels a side that a disc or a line is drawn with
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
BALANCES = np.logspace(-6, 3, 37)  # of Wiener's regularisation, from which the least risk is taken
MOST_ROUNDS, PATIENCE = 200, 20  # of Richardson-Lucy: the last round, and rounds without less risk before it ends
PROBE = 0.1  # of sigma: the step of the numerical divergence
LEAST_SHARE = 1e-3  # of an image's range: Richardson-Lucy needs values above 0


def gaussian_psf(sigma_px: float) -> Image:
    """A Gaussian point spread function (odd, odd) with a sum of 1."""
    _check_size(sigma_px)
    half = math.ceil(TAIL * sigma_px)
    line = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_px) ** 2)
    return _normalized(np.outer(line, line))


def disc_psf(radius_px: float) -> Image:
    """An evenly filled disc, the blur of a lens out of focus or of a round focal spot, (odd, odd) with a sum of 1."""
    _check_size(radius_px)
    y, x = _sub_pixels(math.ceil(radius_px))
    return _normalized(_binned(np.hypot(y, x) <= radius_px))


def motion_psf(length_px: float, angle_deg: float) -> Image:
    """A straight, even motion as long as `length_px`, turned from the rows' direction towards the columns'."""
    _check_size(length_px)
    y, x = _sub_pixels(math.ceil(length_px / 2 + 1))
    angle = math.radians(angle_deg)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return _normalized(_binned((np.abs(along) <= length_px / 2) & (np.abs(across) <= 0.5)))


def blurred(image: Image, psf: Image) -> Image:
    """The image (rows, columns) convolved with `psf`, mirrored at its edges, float32."""
    from scipy.signal import fftconvolve

    half = _half(psf, image)
    padded = np.pad(image.astype(np.float64), [(half[0], half[0]), (half[1], half[1])], mode="symmetric")
    return np.asarray(fftconvolve(padded, psf, mode="valid"), dtype=np.float32)


def downsampled(image: Image, factor: int, psf: Image | None = None) -> Image:
    """Every `factor`-th pixel, from the first, of the image blurred by `psf`.

    Without `psf` the blur is a Gaussian whose full width at half maximum is one large pixel, which leaves little above
    the coarse grid's Nyquist frequency.
    """
    if factor < 2:
        raise InputError(f"A coarser image needs a factor of at least 2, got {factor}")
    kernel = gaussian_psf(factor / FWHM) if psf is None else psf
    return blurred(image, kernel)[::factor, ::factor]


def edge_tapered(image: Image, psf: Image) -> Image:
    """The image, towards its edges blended with its circular blur, so that circular deconvolution rings less.

    The weights are one minus the point spread function's autocorrelation along each axis (Reeves 2005, IEEE TIP
    14:1448, compares this with other ways).
    """
    _half(psf, image)
    circular = _filtered(image, _transfer(psf, image.shape))
    weight = np.outer(*(_taper(psf.sum(axis=1 - axis), image.shape[axis]) for axis in (0, 1)))
    return np.asarray(weight * image + (1 - weight) * circular, dtype=np.float32)


def wiener(image: Image, psf: Image, sigma: float) -> Image:
    """Deconvolved by scikit-image's Wiener filter with a Laplacian prior, for white noise of `sigma`.

    The balance of noise and prior is that with the least unbiased estimate of the predictive risk, computed from
    `image` and `sigma` alone (Mallows' C_L; Thompson et al. 1991, IEEE TPAMI 13:326). Edges are tapered.
    """
    try:
        from skimage.restoration import uft
        from skimage.restoration import wiener as filtered
    except ImportError as error:
        raise InputError('Wiener deconvolution needs scikit-image: pip install "careloop[imaging]"') from error
    tapered = edge_tapered(image, psf).astype(np.float64)
    power, penalty = (np.abs(t) ** 2 for t in (_transfer(psf, tapered.shape), uft.laplacian(2, tapered.shape)[0]))
    found = filtered(tapered, psf, _least_risk(tapered, power, penalty, sigma), clip=False)
    return np.asarray(found, dtype=np.float32)


def richardson_lucy(image: Image, psf: Image, sigma: float) -> Image:
    """Deconvolved by Richardson and Lucy's iteration, of the round with the least predictive risk for noise of `sigma`.

    What lies beyond the edges is unknown, and is estimated as far as it blurs into the image (Bertero and Boccacci
    2005, Astron Astrophys 437:369), where scikit-image takes it to be dark; otherwise the iteration is the same. The
    risk of each round is estimated without a clean image, its divergence from a second run whose image is moved along
    one random direction (Ramani, Blu and Unser 2008, IEEE TIP 17:1540). The image is shifted above 0 and back.
    """
    half, span = _half(psf, image), float(np.ptp(image))
    if span == 0:
        return image.astype(np.float32)
    inside = (slice(half[0], half[0] + image.shape[0]), slice(half[1], half[1] + image.shape[1]))
    low = float(image.min()) - LEAST_SHARE * span
    seen = (image.astype(np.float64) - low) / span
    probe = np.random.default_rng(0).choice([-1.0, 1.0], image.shape)
    level = sigma / span
    step = max(PROBE * level, 1e-7)
    runs = _Iteration(seen, psf), _Iteration(np.maximum(seen + step * probe, 0), psf)
    best, least, since = runs[0].found, math.inf, 0
    for _ in range(MOST_ROUNDS):
        again, moved = (run.again[inside] for run in runs)
        risk = float(((again - seen) ** 2).mean()) + 2 * level**2 * float((probe * (moved - again)).mean()) / step
        best, least, since = (runs[0].found, risk, 0) if risk < least else (best, least, since + 1)
        if since == PATIENCE:
            break
        for run in runs:
            run.next_round()
    return np.asarray(best[inside] * span + low, dtype=np.float32)


class _Iteration:
    """Richardson-Lucy on an image (rows, columns): `found`, half a kernel larger on each side, and its blur `again`."""

    def __init__(self, seen: Image, psf: Image) -> None:
        around = [(n // 2, n // 2) for n in psf.shape]
        self.seen, known = np.pad(seen, around), np.pad(np.ones(seen.shape), around)
        self.transfer = _transfer(psf, self.seen.shape)
        self.reach = np.maximum(_filtered(known, self.transfer.conj()), LEAST_SHARE)
        self.found = np.full(self.seen.shape, float(seen.mean()))
        self.again = self._blurred()

    def next_round(self) -> None:
        """Multiply by what the ratio of image and blur says."""
        ratio = _filtered(self.seen / self.again, self.transfer.conj())  # 0 beyond the edges, where nothing is seen
        self.found = self.found * np.maximum(ratio, 0) / self.reach
        self.again = self._blurred()

    def _blurred(self) -> Image:
        return np.maximum(_filtered(self.found, self.transfer), np.finfo(float).tiny)


def _filtered(image: Image, transfer: NDArray[np.complexfloating[Any]]) -> Image:
    """Circular convolution by the transfer function."""
    return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * transfer, image.shape))


def _least_risk(image: Image, power: Image, penalty: Image, sigma: float) -> float:
    """The balance with the least predictive risk |y - Hx|² + 2 sigma² trace of the filter, y -> Hx."""
    spectrum = np.abs(np.fft.rfft2(image, norm="ortho")) ** 2
    columns = image.shape[1]
    twice = np.full(spectrum.shape[1], 2.0)  # half of the spectrum stands for all of it
    twice[0] = 1
    if columns % 2 == 0:
        twice[-1] = 1
    risks = []
    for balance in BALANCES:
        passed = power / (power + balance * penalty + np.finfo(float).tiny)
        risks.append((twice * ((1 - passed) ** 2 * spectrum + 2 * sigma**2 * passed)).sum())
    return float(BALANCES[int(np.argmin(risks))])


def _transfer(psf: Image, shape: tuple[int, ...]) -> NDArray[np.complexfloating[Any]]:
    """Optical transfer function for `np.fft.rfft2`, the middle of `psf` at the origin."""
    filled = np.zeros(shape)
    filled[: psf.shape[0], : psf.shape[1]] = psf
    return np.asarray(np.fft.rfft2(np.roll(filled, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), axis=(0, 1))))


def _taper(line: Image, length: int) -> Image:
    """Weights along one axis: 0 at the edges, 1 further in than the point spread function is wide."""
    spectrum = np.abs(np.fft.fft(line, length)) ** 2
    correlated = np.fft.ifft(spectrum).real
    return 1 - correlated / correlated.max()


def _sub_pixels(half: int) -> tuple[Image, Image]:
    """Places (y, x) of sub-pixels around the middle of a kernel that reaches `half` pixels each way."""
    count = (2 * half + 1) * FINER
    line = (np.arange(count) + 0.5) / FINER - half - 0.5
    return line[:, None], line[None, :]


def _binned(fine: NDArray[np.bool_]) -> Image:
    """Mean over the sub-pixels of each pixel."""
    n = fine.shape[0] // FINER
    return np.asarray(fine.reshape(n, FINER, n, FINER).mean(axis=(1, 3)))


def _normalized(kernel: Image) -> Image:
    return kernel / kernel.sum()


def _half(psf: Image, image: Image) -> tuple[int, int]:
    if image.ndim != 2 or psf.ndim != 2 or not all(n % 2 for n in psf.shape):
        raise InputError(
            "Blur needs an image (rows, columns) and a point spread function with odd numbers of rows and columns, "
            f"got {image.shape} and {psf.shape}"
        )
    if any(p > n for p, n in zip(psf.shape, image.shape, strict=True)):
        raise InputError(f"A point spread function must fit into the image, got {psf.shape} in {image.shape}")
    return psf.shape[0] // 2, psf.shape[1] // 2


def _check_size(pixels: float) -> None:
    if not 0 < pixels < math.inf:
        raise InputError(f"A point spread function needs a size above 0 pixels, got {pixels:g}")
