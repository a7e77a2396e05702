"""Whether restoration keeps lesions: the contrast of known ones, those erased, and structures invented elsewhere.

Contrast is the mean inside a lesion minus the mean of a ring around it (ICRU Report 54, 1996). A lesion is erased where
less than half of its contrast is left; a structure is invented where the restored image has, outside all lesions, a
spot of the smallest lesion's size with half of the faintest lesion's contrast that the clean image has not: the false
positive of free-response experiments (Chakraborty and Winter 1990, Radiology 174:873) for an observer who compares
the mean of a disc with that of its surround. Most such spots are edges of the anatomy that came out a little different;
those where the clean image is even are counted apart, as they look like lesions.

What noise hides no method can keep: a lesion's d' is that of an observer who knows its place and shape (Barrett and
Myers 2004, Foundations of Image Science, section 13.2), and about 5 of it are needed to find one (Rose 1948, J Opt Soc
Am 38:196; Burgess 1999, J Opt Soc Am A 16:633).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.evaluate.estimate import Estimate
from careloop.evaluate.segmentation import mean_by_case

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]
    Masks = NDArray[np.bool_]

RING_GAP_PX, RING_PX = 2.0, 3.0  # between lesion and ring, where partial volume lies, and the ring's width
HALF = 0.5  # of a contrast: less of it left is an erased lesion, more of it new an invented one
KEPT_WITHIN = 0.05  # of the contrast
ROSE = 5.0  # d' from which a lesion can be relied on to be found


@dataclass(frozen=True)
class LesionFidelity:
    """Of one image: each lesion's contrast in the clean and in the restored image, and spots invented elsewhere.

    `invented_in_even` of the spots lie where the clean image is even. `detectability` is each lesion's d' in the noise,
    empty where that is not known.
    """

    clean_contrast: tuple[float, ...]
    restored_contrast: tuple[float, ...]
    invented: int
    invented_in_even: int
    detectability: tuple[float, ...] = ()

    @property
    def kept(self) -> tuple[float, ...]:
        """The part of each lesion's contrast that is left."""
        return tuple(after / before for before, after in zip(self.clean_contrast, self.restored_contrast, strict=True))

    @property
    def erased(self) -> int:
        """Lesions with less than half of their contrast left."""
        return sum(part < HALF for part in self.kept)


@dataclass(frozen=True)
class LesionSummary:
    """Over images: mean contrast kept with its 95 % interval (bootstrap by image), and counts.

    `kept_within` is the share of lesions whose contrast changed by at most 5 % of itself; where noise is left, it
    changes contrasts, too.
    """

    lesions: int
    images: int
    contrast_kept: Estimate
    kept_within: Estimate
    erased: int
    invented: int
    invented_in_even: int


@dataclass(frozen=True)
class Invented:
    """Spots that only the restored image has, and how many of them lie where the clean image is even."""

    spots: int
    in_even: int


def lesion_fidelity(
    clean: Image,
    restored: Image,
    masks: Masks,
    *,
    without: tuple[Image, Image] | None = None,
    noise_level: float | None = None,
    diameter_px: float | None = None,
    contrast: float | None = None,
) -> LesionFidelity:
    """Compare lesions, `masks` (lesions, rows, columns), in a clean and a restored image (rows, columns).

    Where lesions were inserted, `without` are the same two images without them, the restored one from the same noise:
    contrasts are then those of the differences, the lesions' own, and anatomy that happens to lie below a lesion, or
    around it, does not add to them. With them the standard deviation of the white noise that was taken out, in the
    images' units, gives each lesion's d'.

    `diameter_px` and `contrast` say what counts as invented: by default the least diameter and the least absolute
    contrast of these lesions. State them where images are to be compared with one another.

    Raises:
        InputError: shapes differ; a noise level without the images without lesions; a mask is empty or without a ring
            inside the image; a lesion without contrast; no lesions and nothing stated about what counts as invented.
    """
    if clean.shape != restored.shape or masks.shape[1:] != clean.shape:
        raise InputError(
            "Images and masks (lesions, rows, columns) must have one shape, got "
            f"{clean.shape}, {restored.shape}, {masks.shape}"
        )
    if not len(masks) and (diameter_px is None or contrast is None):
        raise InputError("An image without lesions needs the diameter and the contrast that count as invented")
    templates = contrast_templates(masks)
    if without is not None and not without[0].shape == without[1].shape == clean.shape:
        raise InputError(f"Images without lesions must have the shape {clean.shape} of those with them")
    if noise_level is not None and without is None:
        raise InputError("The d' of lesions in noise needs the images without them as well")
    own = (clean, restored) if without is None else (clean - without[0], restored - without[1])
    before, after = (tuple(_contrast(image, template) for template in templates) for image in own)
    if not all(before):
        raise InputError("Every lesion must have a contrast in the clean image, got one of 0")
    seen = () if noise_level is None else tuple(_detectability(own[0], mask, noise_level) for mask in masks)
    size = diameter_px or 2 * math.sqrt(min(int(mask.sum()) for mask in masks) / math.pi)
    least = contrast or min(abs(c) for c in before)
    found = invented(clean, restored, diameter_px=size, contrast=least, exclude=np.asarray(masks.any(axis=0)))
    return LesionFidelity(before, after, found.spots, found.in_even, seen)


def contrast_templates(masks: Masks) -> Image:
    """Weights (lesions, rows, columns) whose sum over an image is the contrast of each lesion in it.

    Raises:
        InputError: a mask is empty or without a ring inside the image.
    """
    around = np.asarray(masks.any(axis=0))
    templates = np.zeros(masks.shape)
    for template, mask in zip(templates, masks, strict=True):
        ring = _ring(mask, around)
        template[mask], template[ring] = 1 / mask.sum(), -1 / ring.sum()
    return templates


def invented(
    clean: Image, restored: Image, *, diameter_px: float, contrast: float, exclude: Masks | None = None
) -> Invented:
    """Count spots of `diameter_px` with half of `contrast` that the restored image alone has, outside `exclude`.

    At each pixel the mean of a disc minus that of the ring around it is taken in both images; connected pixels where
    the restored image's has grown by half of `contrast`, or has turned to the other sign with as much, are one spot. It
    lies in even tissue where disc and ring of the clean image have, at the pixel that grew most, a standard deviation
    below half of `contrast`.
    """
    from scipy.ndimage import binary_dilation, label, maximum_position

    template = _template(diameter_px)
    before, after = (_correlated(image, template) for image in (clean, restored))
    grown = (np.abs(after) > HALF * contrast) & ((after - before) * np.sign(after) > HALF * contrast)
    if exclude is not None and exclude.any():
        grown &= ~binary_dilation(exclude, iterations=math.ceil(diameter_px + RING_GAP_PX + RING_PX))
    spots, count = label(grown, structure=np.ones((3, 3)))
    most = maximum_position(np.abs(after - before), spots, np.arange(1, count + 1))
    spread = _spread(clean, template)
    return Invented(count, sum(bool(spread[place] < HALF * contrast) for place in most))


def lesion_summary(
    cases: Sequence[LesionFidelity], *, detectability: tuple[float, float] | None = None, seed: int = 0
) -> LesionSummary:
    """Pool images; an image counts by the mean of its lesions.

    With `detectability` only lesions whose d' is at least the first and below the second number count; what is invented
    stays.

    Raises:
        InputError: `detectability` is asked for, but of a case it is not known.
    """
    if detectability is not None:
        cases = [_within(case, *detectability) for case in cases]
    kept = [float(np.mean(case.kept)) for case in cases if case.kept]
    within = [float(np.mean(np.abs(np.subtract(case.kept, 1)) <= KEPT_WITHIN)) for case in cases if case.kept]
    return LesionSummary(
        lesions=sum(len(case.kept) for case in cases),
        images=len(cases),
        contrast_kept=mean_by_case(kept, seed=seed),
        kept_within=mean_by_case(within, seed=seed),
        erased=sum(case.erased for case in cases),
        invented=sum(case.invented for case in cases),
        invented_in_even=sum(case.invented_in_even for case in cases),
    )


def ideal_misses(detectability: Sequence[float], *, places: float, false_alarms: float) -> float:
    """How many of the lesions an ideal observer would miss who reports nothing at all but so few of so many places.

    The observer knows every lesion's shape and compares the matched filter at each place with one bound: the noise
    alone passes it at `false_alarms` of the `places` that are independent, a lesion with d' does so with a probability
    of Phi(d' - bound). It is what noise leaves to be seen: no restoration can show more lesions without showing more
    that are none (Barrett and Myers 2004, section 13.2).

    Raises:
        InputError: not above 0 false alarms, or not more places than them.
    """
    from scipy.stats import norm

    if not 0 < false_alarms < places:
        raise InputError(f"False alarms must be above 0 and fewer than the places, got {false_alarms} of {places}")
    return float(norm.cdf(norm.isf(false_alarms / places) - np.asarray(detectability, np.float64)).sum())


def _within(case: LesionFidelity, least: float, below: float) -> LesionFidelity:
    """The case with those of its lesions whose d' lies between the two."""
    if len(case.detectability) != len(case.clean_contrast):
        raise InputError(
            "Lesions can be chosen by their d' only where it is known; state the noise level for each image"
        )
    chosen = [k for k, value in enumerate(case.detectability) if least <= value < below]
    clean, restored, seen = (
        tuple(values[k] for k in chosen) for values in (case.clean_contrast, case.restored_contrast, case.detectability)
    )
    return replace(case, clean_contrast=clean, restored_contrast=restored, detectability=seen)


def _detectability(lesions: Image, mask: Masks, noise_level: float) -> float:
    """The d' of one lesion of an image of lesions alone: its blurred edge belongs to it, up to the ring."""
    from scipy.ndimage import binary_dilation

    reach = binary_dilation(mask, iterations=round(RING_GAP_PX))
    return float(np.sqrt((lesions[reach].astype(np.float64) ** 2).sum()) / noise_level)


def _spread(image: Image, template: Image) -> Image:
    """The standard deviation of the disc that disc and ring of the template fill, at every pixel."""
    half = template.shape[0] // 2
    whole = (np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) <= half).astype(np.float64)
    whole /= whole.sum()
    centred = image - float(image.mean())  # or the difference of two large numbers would be rounded
    mean, square = (_correlated(values, whole) for values in (centred, centred**2))
    return np.sqrt(np.maximum(square - mean**2, 0))


def _contrast(image: Image, template: Image) -> float:
    return float(image[template > 0].mean(dtype=np.float64) - image[template < 0].mean(dtype=np.float64))


def _ring(mask: Masks, lesions: Masks) -> Masks:
    """Pixels around one lesion, at a small distance, and none of any lesion."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        raise InputError("Every lesion's mask must have a pixel, got an empty one")
    reach = math.ceil(RING_GAP_PX + RING_PX) + 1
    box = tuple(slice(max(0, int(used[0]) - reach), int(used[-1]) + reach + 1) for used in _used(mask))
    away = distance_transform_edt(~mask[box])
    ring = np.zeros_like(mask)
    ring[box] = (away > RING_GAP_PX) & (away <= RING_GAP_PX + RING_PX) & ~lesions[box]
    if not ring.any():
        raise InputError("Every lesion must have tissue around it inside the image, got one without")
    return ring


def _used(mask: Masks) -> list[NDArray[np.intp]]:
    return [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]


def _template(diameter_px: float) -> Image:
    """Weights of a disc's mean minus its ring's mean."""
    radius = diameter_px / 2
    half = math.ceil(radius + RING_GAP_PX + RING_PX)
    away = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) - radius
    disc, ring = away <= 0, (away > RING_GAP_PX) & (away <= RING_GAP_PX + RING_PX)
    return disc / disc.sum() - ring / ring.sum()


def _correlated(image: Image, template: Image) -> Image:
    """The template's response at every pixel; edges are mirrored."""
    from scipy.signal import fftconvolve

    half = template.shape[0] // 2
    padded = np.pad(image.astype(np.float64), half, mode="reflect")
    return np.asarray(fftconvolve(padded, template, mode="valid"))
