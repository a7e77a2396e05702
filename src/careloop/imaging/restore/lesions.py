"""Simulated lesions put into a real or simulated slice, with their exact masks and contrasts.

A lesion is a smooth profile between 0 and 1, times its contrast, added to the slice: what lies below stays visible, as
partial volume leaves it. Every lesion made here is simulated, also in a real slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from careloop import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

Shape = Literal["disc", "sphere", "ellipse", "blob"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
INSIDE = 0.5  # of the profile: the mask of a blurred disc is the disc
MARGIN_PX = 2.0  # between a lesion and the edge of its tissue, beside the blur
AXIS_RATIO = (0.5, 0.8)  # short over long axis of an ellipse
WAVES, WAVINESS = 4, 0.18  # of a blob's outline: harmonics 2 to 5, each up to this part of the radius over its number
REACH = 3.0  # blurs beyond the outline at which the profile is below 0.2 %


@dataclass(frozen=True)
class LesionRule:
    """What lesions are drawn from: diameters in pixels, contrasts in the image's units, and shapes.

    A contrast has either sign with the same chance where `signs` is `either`; `bright` and `dark` name one of them.
    `blur_px` is the standard deviation of the blur of outlines, the imaging system's.
    """

    diameter_px: tuple[float, float] = (4.0, 16.0)
    contrast: tuple[float, float] = (20.0, 100.0)
    blur_px: float = 0.7
    signs: Literal["either", "bright", "dark"] = "either"
    shapes: tuple[Shape, ...] = SHAPES

    def __post_init__(self) -> None:
        ordered = 0 < self.diameter_px[0] <= self.diameter_px[1] and 0 < self.contrast[0] <= self.contrast[1]
        known = self.shapes and set(self.shapes) <= set(SHAPES) and self.signs in ("either", "bright", "dark")
        if not (ordered and known and self.blur_px > 0):
            raise InputError(
                "Lesions need diameters and contrasts above 0 (low, high), a blur above 0 and shapes of "
                f"{', '.join(SHAPES)}; got {self}"
            )


@dataclass(frozen=True)
class Lesion:
    """One lesion: its middle (row, column), diameter in pixels, shape, and the signed contrast of its middle."""

    row: int
    column: int
    diameter_px: float
    contrast: float
    shape: Shape


@dataclass(frozen=True)
class WithLesions:
    """A slice with lesions: `image` float32, one mask a lesion (lesions, rows, columns), and what was drawn.

    Fewer lesions than asked for are there where the tissue had no room left.
    """

    image: Image
    masks: NDArray[np.bool_]
    lesions: tuple[Lesion, ...]


def insert_lesions(
    image: Image, count: int, rng: np.random.Generator, *, rule: LesionRule, tissue: NDArray[np.bool_] | None = None
) -> WithLesions:
    """Put up to `count` lesions into `image` (rows, columns), wholly inside `tissue` (the whole image where None).

    Lesions keep apart from one another, by the ring against which contrast is measured. The input is not changed.

    Raises:
        InputError: the image has not two axes, or the tissue has another shape.
    """
    if image.ndim != 2 or (tissue is not None and tissue.shape != image.shape):
        got = f"{image.shape} and {None if tissue is None else tissue.shape}"
        raise InputError(f"Lesions go into an image (rows, columns) and tissue of its shape, got shapes {got}")
    made = np.array(image, dtype=np.float32)
    room = _distance_to_edge(tissue, made.shape)
    masks = np.zeros((count, *made.shape), np.bool_)
    lesions: list[Lesion] = []
    for _ in range(count):
        lesion = _drawn(room, rng, rule)
        if lesion is None:
            continue
        box, profile = _profile(lesion, made.shape, rng, rule.blur_px)
        made[box] += np.float32(lesion.contrast) * profile
        masks[len(lesions)][box] = profile >= INSIDE * profile.max()
        lesions.append(lesion)
        _take_room(room, lesion)
    return WithLesions(made, masks[: len(lesions)], tuple(lesions))


def _distance_to_edge(tissue: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> Image:
    """Pixels from each pixel to the nearest outside the tissue or the image."""
    if tissue is not None:
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1], dtype=np.float32)
    rows, columns = (np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in shape)
    return np.minimum(rows[:, None], columns[None, :]).astype(np.float32)


def _drawn(room: Image, rng: np.random.Generator, rule: LesionRule) -> Lesion | None:
    """A lesion at a random place that has room for it; None where there is none."""
    low, high = rule.diameter_px
    most = 2 * (float(room.max()) - MARGIN_PX - rule.blur_px)
    if most < low:
        return None
    diameter = float(rng.uniform(low, min(high, most)))
    places = np.flatnonzero(room >= diameter / 2 + MARGIN_PX + rule.blur_px)
    row, column = divmod(int(places[rng.integers(len(places))]), room.shape[1])
    sign = {"bright": 1, "dark": -1}.get(rule.signs) or int(rng.integers(2)) * 2 - 1
    shape = rule.shapes[int(rng.integers(len(rule.shapes)))]
    return Lesion(row, column, diameter, sign * float(rng.uniform(*rule.contrast)), shape)


def _profile(
    lesion: Lesion, shape: tuple[int, ...], rng: np.random.Generator, blur_px: float
) -> tuple[tuple[slice, slice], Image]:
    """The box of the image that the lesion reaches, and its part of the contrast there, 0 to 1."""
    from scipy.special import erf

    reach = math.ceil(lesion.diameter_px / 2 + REACH * blur_px) + 1
    box = tuple(
        slice(max(0, at - reach), min(n, at + reach + 1))
        for at, n in zip((lesion.row, lesion.column), shape, strict=True)
    )
    y = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] - lesion.row
    x = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] - lesion.column
    away, outline = np.hypot(x, y), _outline(lesion, np.arctan2(y, x), rng)
    profile = 0.5 - 0.5 * erf((away - outline) / np.float32(math.sqrt(2) * blur_px))
    if lesion.shape == "sphere":  # the chord through it, as a slice as thick as the sphere sees it
        chord = np.sqrt(np.maximum(1 - (away / (outline + blur_px)) ** 2, 0))
        profile = profile * chord
    return (box[0], box[1]), profile.astype(np.float32)


def _outline(lesion: Lesion, angle: Image, rng: np.random.Generator) -> Image | float:
    """Radius in pixels in each direction; nowhere above half the diameter."""
    radius = lesion.diameter_px / 2
    if lesion.shape == "ellipse":
        ratio, turned = rng.uniform(*AXIS_RATIO), angle - rng.uniform(0, math.pi)
        return np.asarray(radius * ratio / np.sqrt((ratio * np.cos(turned)) ** 2 + np.sin(turned) ** 2))
    if lesion.shape == "blob":
        number = np.arange(2, 2 + WAVES)
        height, start = rng.uniform(-WAVINESS, WAVINESS, WAVES) * 2 / number, rng.uniform(0, 2 * math.pi, WAVES)
        waves = np.cos(angle[..., None] * number - start) @ height
        return np.asarray(radius * (1 + waves) / (1 + np.abs(height).sum()))
    return radius


def _take_room(room: Image, lesion: Lesion) -> None:
    """Let the next lesion keep away from this one by as much as this one's ring is wide."""
    rows, columns = np.ogrid[: room.shape[0], : room.shape[1]]
    away = np.hypot(rows - lesion.row, columns - lesion.column) - lesion.diameter_px
    np.minimum(room, np.maximum(away, 0), out=room)
