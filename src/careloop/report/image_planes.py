"""Slices of an image as a page shows them: turned as radiologists look, in windows that suit what the image holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.volume import Volume
from careloop.report.image_windows import BONE, BRAIN, HU, LUNG, SAMPLE, SOFT, Window, grey
from careloop.report.page_parts import figure, unit_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUNG_HU, LUNG_SHARE = (-950, -600), 0.02  # aerated lung, and the part of all voxels from which it has a window
BONE_HU, BONE_SHARE = 250, 0.005
SHOWN_PERCENTILES = (1, 99)
# Which way slices across these axes of the patient (left, back, head) are shown: axis down, axis right, and their ends.
SHOWN = {0: (2, 1, ("H", "F"), ("A", "P")), 1: (2, 0, ("H", "F"), ("R", "L")), 2: (1, 0, ("A", "P"), ("R", "L"))}
TOWARDS = {0: 1, 1: 1, 2: -1}  # pictures run towards the left, the back and the feet


@dataclass(frozen=True)
class Turn:
    """How stored slices are turned for a page, by exchanging and reversing axes only.

    `step_mm` is the distance of pixels down and to the right after it; `down` and `right` are the letters at the ends
    of those axes, empty for an image without a place in the patient.
    """

    exchanged: bool
    reversed: tuple[bool, bool]
    step_mm: tuple[float, float]
    down: tuple[str, str] = ("", "")
    right: tuple[str, str] = ("", "")

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        """The stored slice (rows, columns, ...) as it is shown."""
        turned = plane.swapaxes(0, 1) if self.exchanged else plane
        down, right = (-1 if against else 1 for against in self.reversed)
        return turned[::down, ::right]


def turn_of(volume: Volume) -> Turn:
    """How slices (along the first axis of the array) of this volume are turned."""
    _, row_mm, column_mm = volume.spacing_mm
    if not volume.placed:
        return Turn(exchanged=False, reversed=(False, False), step_mm=(row_mm, column_mm))
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    across, along_rows, _ = max(
        permutations(range(3)), key=lambda each: sum(abs(axes[world, axis]) for axis, world in enumerate(each))
    )
    down, right, down_ends, right_ends = SHOWN[across]
    exchanged = along_rows != down
    stored = (2, 1) if exchanged else (1, 2)  # which axis of the array runs down, which to the right
    against = tuple(bool(axes[w, axis] * TOWARDS[w] < 0) for w, axis in zip((down, right), stored, strict=True))
    steps = (column_mm, row_mm) if exchanged else (row_mm, column_mm)
    return Turn(exchanged, (against[0], against[1]), steps, down_ends, right_ends)


def windows_for(volume: Volume) -> tuple[Window, ...]:
    """Windows for a whole image: presets of CT for what it holds, else from the 1st to the 99th percentile.

    A head is shown in the brain and the bone window; other CT in the soft tissue window, and in those of lung and bone
    where the image has enough of either.
    """
    step = max(1, int(np.ceil((volume.voxels.size / SAMPLE) ** (1 / 3))))
    values = grey(volume.voxels[:: step if len(volume.voxels) > step else 1, ::step, ::step], 3)
    known = values[np.isfinite(values)]
    if volume.unit == HU and known.size:
        if any(word in volume.body_part.lower() for word in ("head", "brain", "skull")):
            return (BRAIN, BONE)
        lung = np.mean((known > LUNG_HU[0]) & (known < LUNG_HU[1])) >= LUNG_SHARE
        bone = np.mean(known > BONE_HU) >= BONE_SHARE
        return (SOFT, *[LUNG] * bool(lung), *[BONE] * bool(bone))
    low, high = np.percentile(known, SHOWN_PERCENTILES) if known.size else (0.0, 1.0)
    return (Window("", float(low), float(high) if high > low else float(low) + 1),)


def window_words(volume: Volume, window: Window) -> str:
    """Which intensities are shown from black to white; 8-bit colour is shown as it is."""
    if volume.voxels.ndim == 4:
        return "in colour, as stored"
    unit = unit_words(volume.unit, "arbitrary units")
    return f"{window.name or 'grey levels'}, {figure(window.low)} to {figure(window.high)} {unit}"


def shades(plane: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Values as 8-bit grey, `low` black and `high` white; unknown values are black."""
    share = np.nan_to_num((plane.astype(np.float64) - low) / (high - low))
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def evenly_spread(many: int, length: int) -> list[int]:
    """At most `many` places, each in the middle of its part of a line of `length`."""
    many = min(many, length)
    return [int((place + 0.5) / many * length) for place in range(many)]


def shrink(plane: NDArray[Any], by: int | tuple[int, int]) -> NDArray[Any]:
    """Means of blocks of `by` pixels (down, right); what is left over at the far edges is cut off."""
    down, right = (by, by) if isinstance(by, int) else by
    if down == right == 1:
        return plane
    rows, columns = plane.shape[0] // down, plane.shape[1] // right
    blocks = plane[: rows * down, : columns * right].reshape(rows, down, columns, right)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))
