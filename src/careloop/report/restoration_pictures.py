"""Pictures of a restored image beside its original: both in windows, what was taken out, and the expected error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.imaging.volume import Volume
from careloop.report.image_planes import Turn, evenly_spread, shades, shrink, turn_of, windows_for
from careloop.report.image_windows import Window, grey
from careloop.report.page_parts import png_base64

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

MOST_SLICES = 12
BUDGET = 7_000_000  # bytes of all pictures of a page in base 64
ERROR_PERCENTILE = 99.5  # of expected errors in what is shown: the end of their scale
DIFFERENCE_PERCENTILE, DIFFERENCE_BEYOND = 95, 1.5  # and of differences: about three standard deviations of white noise
LEVELS = 64  # of grey or colour in differences and errors; noise in more of them would only make files larger
COLOUR_MAP = "viridis"
MOST_CHANGED = "changed most"


@dataclass(frozen=True)
class SlicePictures:
    """Pictures of one slice as PNG in base 64; `before` and `after` one a window, `error` empty where not known."""

    number: int
    note: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    difference: str
    error: str

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return sum(map(len, (*self.before, *self.after, self.difference, self.error)))


@dataclass(frozen=True)
class RestorationPictures:
    """All pictures of a page, in the order of slices.

    `difference_limit` and `error_limit` end the scales, in the image's unit; `proportion` is width to height in mm;
    `shrunk` is how many pixels along each axis went into one of the pictures; `unchanged` counts slices that are as
    they were.
    """

    slices: tuple[SlicePictures, ...]
    windows: tuple[Window, ...]
    turn: Turn
    proportion: float
    difference_limit: float
    error_limit: float
    shrunk: int
    unchanged: int


def restoration_pictures(
    original: Volume, restored: Volume, expected_error: NDArray[Any] | None
) -> RestorationPictures:
    """Pictures of at most `MOST_SLICES` slices, fewer where they would be large; the one changed most is among them.

    Raises:
        InputError: the restored image has other slices, or its rows and columns are no whole multiples of the
            original's; `expected_error` is not of the restored image's shape.
    """
    finer = _finer(original, restored, expected_error)
    changes = [_rms(_taken_out(original, restored, index, finer)) for index in range(len(original.voxels))]
    chosen = _Chosen(original, restored, expected_error, finer, int(np.argmax(changes)))
    shown = chosen.spread(MOST_SLICES)
    view = _View(turn_of(original), windows_for(original), chosen.difference_limit(shown), chosen.error_limit(shown))
    largest, shrunk = chosen.pictures(chosen.changed_most, view, 1), 1
    if largest.size > BUDGET:
        shrunk = int(np.ceil(np.sqrt(largest.size / BUDGET)))
    elif len(shown) * largest.size > BUDGET:
        shown = chosen.spread(BUDGET // largest.size)
    slices = [chosen.pictures(index, view, shrunk) for index in shown]
    while sum(one.size for one in slices) > BUDGET and len(slices) > 1:
        slices.remove(max((one for one in slices if one.note != MOST_CHANGED), key=lambda one: one.size))
    rows, columns = original.voxels.shape[1:3]
    height, width = (columns, rows) if view.turn.exchanged else (rows, columns)
    return RestorationPictures(
        slices=tuple(slices),
        windows=view.windows,
        turn=view.turn,
        proportion=width * view.turn.step_mm[1] / (height * view.turn.step_mm[0]),
        difference_limit=view.difference_limit,
        error_limit=view.error_limit,
        shrunk=shrunk,
        unchanged=sum(change == 0 for change in changes),
    )


@dataclass(frozen=True)
class _View:
    turn: Turn
    windows: tuple[Window, ...]
    difference_limit: float
    error_limit: float


@dataclass(frozen=True, eq=False)
class _Chosen:
    """An image, its restoration on a grid `finer` times as fine, and the slice that was changed most."""

    original: Volume
    restored: Volume
    expected_error: NDArray[Any] | None
    finer: tuple[int, int]
    changed_most: int

    def spread(self, many: int) -> list[int]:
        """So many slices, evenly spread, the one changed most in place of the one next to it."""
        places = evenly_spread(max(many, 1), len(self.original.voxels))
        nearest = min(range(len(places)), key=lambda place: abs(places[place] - self.changed_most))
        places[nearest] = self.changed_most
        return sorted(set(places))

    def taken_out(self, index: int) -> Plane:
        return _taken_out(self.original, self.restored, index, self.finer)

    def difference_limit(self, shown: list[int]) -> float:
        return _round_end(
            DIFFERENCE_BEYOND * _percentile([np.abs(self.taken_out(index)) for index in shown], DIFFERENCE_PERCENTILE)
        )

    def error_limit(self, shown: list[int]) -> float:
        if self.expected_error is None:
            return 0.0
        return _round_end(_percentile([self.expected_error[index] for index in shown], ERROR_PERCENTILE))

    def pictures(self, index: int, view: _View, shrunk: int) -> SlicePictures:
        """One slice in all windows; `shrunk` pixels along each axis are averaged to one."""
        before, after = (
            shrink(view.turn(grey(volume.voxels[index], 2)), shrunk) for volume in (self.original, self.restored)
        )
        limit = view.difference_limit
        difference = _coarse(shades(shrink(view.turn(self.taken_out(index)), shrunk), -limit, limit))
        error = ""
        if self.expected_error is not None:
            plane = shrink(view.turn(self.expected_error[index]), shrunk)
            error = png_base64(_coarse(shades(plane, 0, view.error_limit)), palette=colours())
        return SlicePictures(
            number=index + 1,
            note=MOST_CHANGED if index == self.changed_most and len(self.original.voxels) > 1 else "",
            before=tuple(png_base64(shades(before, w.low, w.high)) for w in view.windows),
            after=tuple(png_base64(shades(after, w.low, w.high)) for w in view.windows),
            difference=png_base64(difference),
            error=error,
        )


def colours() -> NDArray[np.uint8]:
    """The colours (256, 3) of expected errors, from none to the end of the scale."""
    from matplotlib import colormaps

    return (colormaps[COLOUR_MAP](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def _finer(original: Volume, restored: Volume, expected_error: NDArray[Any] | None) -> tuple[int, int]:
    """How many restored rows and columns there are for one of the original."""
    old, new = original.voxels.shape[:3], restored.voxels.shape[:3]
    if old[0] != new[0] or any(fine % coarse for fine, coarse in zip(new[1:], old[1:], strict=True)):
        raise InputError(
            f"a restored image must have the original's slices, and whole multiples of its rows and columns: got {new} "
            f"for {old}; give the image that was restored"
        )
    if expected_error is not None and expected_error.shape != new:
        raise InputError(f"the expected error must have the restored image's shape {new}, got {expected_error.shape}")
    return new[1] // old[1], new[2] // old[2]


def _taken_out(original: Volume, restored: Volume, index: int, finer: tuple[int, int]) -> Plane:
    """The original less the restored slice, whose finer pixels are averaged onto the original's grid."""
    after = shrink(grey(restored.voxels[index], 2), finer)
    return np.asarray(grey(original.voxels[index], 2) - after, dtype=np.float32)


def _rms(plane: Plane) -> float:
    return float(np.sqrt(np.mean(np.square(np.nan_to_num(plane), dtype=np.float64))))


def _percentile(planes: list[NDArray[Any]], percentile: float) -> float:
    return float(np.percentile(np.nan_to_num(np.stack(planes)), percentile))


def _round_end(end: float) -> float:
    """The end of a scale as a round number, above 0 even where there is nothing to show."""
    return float(f"{end:.2g}") if end > 0 else 1.0


def _coarse(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture in `LEVELS` levels from 0 to 255, of which 128 is one."""
    step = 256 // LEVELS
    return np.minimum((levels.astype(np.uint16) + step // 2) // step * step, 255).astype(np.uint8)
