"""Simulated chest radiographs with or without a nodule, and how well any observer can possibly tell them apart.

An image is a known chest (the projected phantom) plus Gaussian noise of a known power spectrum; half of them have a
nodule whose place, size and contrast are drawn from a finite prior. The likelihood ratio of such an image is an exact
sum over the prior, so the ideal observer's AUROC is known and no classifier can be better, save by chance.

Sources: Barrett and Myers 2004, Foundations of Image Science, section 13.2 (ideal observer, stationary noise); Kupinski
et al. 2003, J Opt Soc Am A 20:430 (likelihood ratio of signals known statistically); Burgess et al. 2001, Med Phys
28:419 (power law of anatomical noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.phantom.chest import Grid, chest_phantom
from careloop.imaging.phantom.projections import WATER_PER_MM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.evaluate.estimate import Estimate

FIELD_MM = 288.0  # side of the image: both lungs
FIELD_CENTRE_MM = 22.0  # of the image above the middle of the phantom
DEPTH_MM = 6.0  # step along the ray
DARKEST, PER_LINE_INTEGRAL = 0.15, 0.13  # grey of air, and grey a unit of the line integral: noise stays within 0 to 1
LUNG_ON_RAY_MM = 40.0  # a pixel shows lung if at least this much of it is on the ray
SUBPIXELS = 9  # an axis, for the nodule's edge
BATCH = 256  # images held at once in double precision


@dataclass(frozen=True)
class NoduleSetting:
    """What the images are like; every value of the prior is as likely as the others.

    `size`: rows and columns. `anatomy`: seed of the chest, None for an even grey with a lung of the same size.
    `diameters_mm` of the nodule. `detectabilities`: d' that a nodule would have if its place and size were known, which
    sets its contrast; the default gives the ideal observer an AUROC of about 0.87. `places`: rows and columns of
    possible centres, everywhere in the lungs where empty. Noise has the standard deviation `noise_sd` of a pixel, of
    whose variance `anatomical_share` falls with frequency as (1 + (f / corner)^2)^(-exponent / 2), and the rest is
    white.
    """

    size: int = 64
    anatomy: int | None = 0
    diameters_mm: tuple[float, ...] = (18.0, 24.0, 30.0)
    detectabilities: tuple[float, ...] = (3.5, 4.5, 5.5)
    places: tuple[tuple[int, int], ...] = ()
    noise_sd: float = 0.045
    anatomical_share: float = 0.6
    exponent: float = 3.0
    corner_per_mm: float = 0.015

    def __post_init__(self) -> None:
        if self.size < 16 or not self.diameters_mm or not self.detectabilities or min(self.diameters_mm) <= 0:
            raise InputError(
                "Simulated radiographs need a size of at least 16 pixels, and diameters above 0 and detectabilities; "
                f"got {self.size}, {self.diameters_mm} mm and {self.detectabilities}"
            )
        if self.noise_sd <= 0 or not 0 <= self.anatomical_share < 1:
            raise InputError("Simulated radiographs need noise_sd above 0 and an anatomical_share from 0 to below 1")

    @property
    def pixel_mm(self) -> float:
        """Distance between pixels."""
        return FIELD_MM / self.size


USUAL = NoduleSetting()


@dataclass(frozen=True, eq=False)
class NoduleSet:
    """Simulated radiographs with their truth; one image a subject.

    `images` (n, rows, columns) float32, about 0 to 1, bright where more is absorbed; `labels` (n,) uint8, 1 with a
    nodule; `boxes` (n, 4) float32 first row, first column, end row, end column (pixel i reaches from i to i + 1), NaN
    without a nodule; `diameter_mm` and `detectability` (n,) float32, NaN without; `subject_id` (n,) int64;
    `log_likelihood_ratio` (n,) float64, the ideal observer's.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    diameter_mm: NDArray[np.float32]
    detectability: NDArray[np.float32]
    subject_id: NDArray[np.int64]
    log_likelihood_ratio: NDArray[np.float64]
    setting: NoduleSetting

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """What a setting says, as arrays.

    `background` and `lungs` (rows, columns); `power` (rows, columns // 2 + 1), the noise's variance at each frequency
    (the eigenvalues of its covariance, which is circulant); `shapes` (diameters, rows, columns), nodules of contrast 1
    at pixel (0, 0), wrapped; `norm` (diameters,), their d'; `places` (diameters, rows, columns), where centres may lie.
    """

    background: NDArray[np.float64]
    power: NDArray[np.float64]
    shapes: NDArray[np.float64]
    norm: NDArray[np.float64]
    places: NDArray[np.bool_]


def nodule_set(n: int, *, seed: int, setting: NoduleSetting = USUAL) -> NoduleSet:
    """Simulate `n` radiographs, half of them with a nodule, in random order; the same arguments give the same set.

    Different seeds give other noise and nodules in the same chest, so that training and held-out sets differ in seed.
    """
    if n < 2:
        raise InputError(f"A set of simulated radiographs needs at least 2 images, got {n}")
    task, rng = prepared_task(setting), np.random.default_rng([seed, setting.size])
    labels = rng.permutation(np.arange(n) % 2).astype(np.uint8)
    which = rng.integers(len(setting.diameters_mm), size=n)
    strength = rng.choice(setting.detectabilities, size=n)
    possible = [np.argwhere(places) for places in task.places]
    centres = np.array([possible[k][rng.integers(len(possible[k]))] for k in which])
    images = np.empty((n, setting.size, setting.size), np.float32)
    ratios = np.empty(n)
    for start in range(0, n, BATCH):
        rows = np.arange(start, min(start + BATCH, n))
        exact = task.background + _noise(rng, task.power, len(rows), setting.size)
        for image, i in zip(exact, rows, strict=True):
            if labels[i]:
                contrast = strength[i] / task.norm[which[i]]
                image += contrast * np.roll(task.shapes[which[i]], tuple(centres[i]), axis=(0, 1))
        images[rows] = exact
        ratios[rows] = ideal_log_likelihood_ratio(images[rows], setting)
    diameter = np.where(labels, np.array(setting.diameters_mm)[which], np.nan)
    half = (diameter / setting.pixel_mm / 2)[:, None]
    boxes = np.concatenate([centres + 0.5 - half, centres + 0.5 + half], axis=1)
    return NoduleSet(
        images,
        labels,
        boxes.astype(np.float32),
        diameter.astype(np.float32),
        np.where(labels, strength, np.nan).astype(np.float32),
        np.arange(n, dtype=np.int64) + seed * 10_000_000,
        ratios,
        setting,
    )


def ideal_log_likelihood_ratio(images: NDArray[np.floating], setting: NoduleSetting = USUAL) -> NDArray[np.float64]:
    """(n,) log of P(image | nodule) / P(image | none): the ideal observer's decision variable, for the exact prior."""
    from scipy.special import logsumexp

    return np.concatenate(
        [
            np.asarray(logsumexp(log_ratio_map(images[start : start + BATCH], setting), axis=(1, 2)))
            for start in range(0, len(images), BATCH)
        ]
    )


def log_ratio_map(images: NDArray[np.floating], setting: NoduleSetting = USUAL) -> NDArray[np.float64]:
    """(n, rows, columns) log of each place's part of the likelihood ratio, -inf where no centre can lie.

    Its exponential over its sum is the probability of the nodule's centre, given that there is one.
    """
    task = prepared_task(setting)
    axes = (-2, -1)
    spectrum = np.fft.rfft2(np.asarray(images, dtype=np.float64) - task.background, axes=axes) / task.power
    total = np.full(images.shape, -np.inf)
    for shape, norm, places in zip(task.shapes, task.norm, task.places, strict=True):
        matched = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(shape)), s=shape.shape, axes=axes) / norm
        prior = -np.log(places.sum() * len(task.norm) * len(setting.detectabilities))
        for strength in setting.detectabilities:
            part = strength * matched[:, places] - strength**2 / 2 + prior
            total[:, places] = np.logaddexp(total[:, places], part)
    return total


def ideal_auroc(found: NoduleSet, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The ideal observer's AUROC on a set (Mann-Whitney on its likelihood ratios), 95 % bootstrap interval by image."""
    return auroc_of(found.log_likelihood_ratio, found.labels, found.subject_id, resamples=resamples, seed=seed)


def auroc_of(
    score: NDArray[np.floating],
    labels: NDArray[np.integer],
    subject_id: NDArray[np.integer],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The AUROC of any score (n,), not only a probability, with its 95 % bootstrap interval by subject."""
    from careloop.evaluate.censoring import Outcomes
    from careloop.evaluate.discrimination import Ranking, auroc
    from careloop.evaluate.estimate import Support, draw_counts, estimate

    ranking = Ranking.of(np.asarray(score), np.asarray(labels))
    draws = draw_counts(subject_id, resamples=resamples, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.concatenate([auroc(*ranking.above(count)) for count in draws])
    outcomes = Outcomes(subject_id, np.ones(len(labels)), np.asarray(labels), horizon_days=1.0)
    return estimate(replicates, Support.of(outcomes))


@lru_cache(maxsize=8)
def prepared_task(setting: NoduleSetting) -> Task:
    """The arrays that a setting stands for."""
    background, lungs = _chest(setting.size, setting.anatomy)
    power = _noise_power(setting)
    shapes = np.array([_shape(setting, diameter) for diameter in setting.diameters_mm])
    norm = np.array([_detectability(shape, power) for shape in shapes])
    return Task(background, power, shapes, norm, _places(setting, lungs))


@lru_cache(maxsize=8)
def _chest(size: int, anatomy: int | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The background, and where lung is seen: a phantom's line integrals from front to back, seen from the front."""
    step = FIELD_MM / size
    if anatomy is None:
        row, column = (np.mgrid[:size, :size] + 0.5) * step - FIELD_MM / 2
        return np.full((size, size), 0.5), ((np.abs(column) - 62) / 44) ** 2 + (row / 95) ** 2 < 1
    below = round((FIELD_MM / 2 - FIELD_CENTRE_MM) / step)
    grid = Grid((2 * (size - below), 48, size), (step, DEPTH_MM, step))  # the phantom's middle is the grid's
    phantom = chest_phantom(anatomy, phase="none", grid=grid)
    hu, labels = phantom.volume.voxels.astype(np.float64), phantom.labels.labels
    names = {segment.name: segment.number for segment in phantom.labels.segments}
    hu[labels == names["nodule"]] = phantom.patient.lung_hu  # the phantom's own nodules are not wanted
    inside = np.isin(labels, [names["lung_left"], names["lung_right"], names["nodule"]])
    lines = (np.maximum(1 + hu / 1000, 0) * WATER_PER_MM).sum(axis=1) * DEPTH_MM
    lung = inside.sum(axis=1) * DEPTH_MM >= LUNG_ON_RAY_MM
    lines, lung = lines[::-1][:size], lung[::-1][:size]  # head first
    return DARKEST + PER_LINE_INTEGRAL * lines, np.ascontiguousarray(lung)


def _noise_power(setting: NoduleSetting) -> NDArray[np.float64]:
    """Variance at each frequency of the half spectrum; its mean over the whole one is noise_sd^2."""
    row = np.fft.fftfreq(setting.size, setting.pixel_mm)[:, None]
    column = np.fft.fftfreq(setting.size, setting.pixel_mm)[None, :]
    falling = (1 + (row**2 + column**2) / setting.corner_per_mm**2) ** (-setting.exponent / 2)
    share = setting.anatomical_share
    power = setting.noise_sd**2 * (share * falling / falling.mean() + (1 - share))
    return power[:, : setting.size // 2 + 1]


def _noise(rng: np.random.Generator, power: NDArray[np.float64], n: int, size: int) -> NDArray[np.float64]:
    white = np.fft.rfft2(rng.standard_normal((n, size, size)))
    return np.asarray(np.fft.irfft2(white * np.sqrt(power), s=(size, size)))


def _shape(setting: NoduleSetting, diameter_mm: float) -> NDArray[np.float64]:
    """A sphere's chords as the image shows them, 1 through its middle, centred on pixel (0, 0) and wrapped."""
    n, radius = setting.size, diameter_mm / setting.pixel_mm / 2
    at = (np.arange(n * SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    at = np.where(at > n / 2 - 0.5, at - n, at)
    chord = np.sqrt(np.maximum(1 - (at[:, None] ** 2 + at[None, :] ** 2) / radius**2, 0))
    return np.asarray(chord.reshape(n, SUBPIXELS, n, SUBPIXELS).mean(axis=(1, 3)))


def _detectability(shape: NDArray[np.float64], power: NDArray[np.float64]) -> float:
    """The d' of a known signal in stationary noise: the root of s^T K^-1 s (Barrett and Myers 2004, section 13.2)."""
    whole = np.concatenate([power, power[:, 1 : shape.shape[1] - power.shape[1] + 1][:, ::-1]], axis=1)
    return float(np.sqrt((np.abs(np.fft.fft2(shape)) ** 2 / whole).mean()))


def _places(setting: NoduleSetting, lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the centre of a nodule of each diameter may lie: as a rule, where all of it is over lung."""
    from scipy.ndimage import distance_transform_edt

    if setting.places:
        chosen = np.zeros_like(lungs)
        chosen[tuple(np.transpose(setting.places))] = True
        return np.repeat(chosen[None], len(setting.diameters_mm), axis=0)
    inside = distance_transform_edt(np.pad(lungs, 1), sampling=setting.pixel_mm)[1:-1, 1:-1]
    places = np.array([inside >= diameter / 2 for diameter in setting.diameters_mm])
    if not places.any(axis=(1, 2)).all():
        raise InputError(f"No place in the lungs for a nodule of {max(setting.diameters_mm):g} mm; make it smaller")
    return places
