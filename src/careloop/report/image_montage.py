"""A picture of an image with its labels: slices in windows that suit what is labelled, with outlines and marks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.terms import described
from careloop.imaging.volume import LabelMap, Segment, Volume, check_same_grid
from careloop.report.image_windows import HU, Window, grey, window_in_hu, windows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    Grey = NDArray[np.uint8]
    Colours = NDArray[np.uint8]

NOT_CLINICAL = "Research software. Not for clinical use."
COLUMNS, CELL, GAP = 5, 300, 6  # pictures in a row, their longest side and the space between them, in pixels
MARGIN_MM = 25.0  # shown around what is labelled
ALONG = 2  # coronal and sagittal pictures each
CLOSE_MM = 60.0  # width of a close look at a small structure
SEEN, SMALL = 0.4, 1e-3  # shown well: this part of its largest area, and of a slice
FILL = 0.18  # of a label's colour in the area; its outline is opaque
LINE = 26  # height of a line of text
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _View:
    """An image and its labels turned so that axes run towards the feet, the back and the left, as far as known.

    `voxels` and `labels` are views of the originals; `spacing_mm` follows; `marks` are the letters at the ends of each
    axis.
    """

    voxels: NDArray[np.generic]
    labels: NDArray[np.unsignedinteger]
    spacing_mm: tuple[float, float, float]
    marks: tuple[tuple[str, str], ...]


def montage(volume: Volume, label_map: LabelMap) -> Colours:
    """Return the picture of `panels` with the names and colours of structures below, uint8 (height, width, 3).

    It says what made the labels and that it is not for clinical use, and nothing about the patient.

    Raises:
        InputError: the two do not lie on one grid, or Pillow is not installed.
    """
    picture = _pillow().fromarray(panels(volume, label_map))
    segments = shown_segments(label_map)
    legend = _legend(segments, picture.width)
    words = _blank(picture.width, LINE)
    made_by = f"{label_map.made_by}. " if label_map.made_by else ""
    simulated = "Simulated images. " if any(f.check == "simulated" for f in volume.findings) else ""
    _draw(words).text((GAP, 2), f"{simulated}{made_by}{NOT_CLINICAL}", fill=(255, 200, 120), font=_font(15))
    return np.asarray(_stacked([[picture], [legend], [words]]))


def panels(volume: Volume, label_map: LabelMap) -> Colours:
    """Return axial, coronal and sagittal slices with outlines of structures: (height, width, 3) uint8.

    There is a row of axial slices for each window, and one of close looks at structures that are hardly seen in those.
    Proportions are those of the spacing. Sides are as radiologists look: the patient's right is on the left of axial
    and coronal pictures. Without a place in the patient slices are shown as stored, without marks; an image of one
    slice is shown alone. Raises InputError as `montage`.
    """
    check_same_grid(label_map, volume, what="labels and image")
    view = _turned(volume, label_map)
    windows = windows_of(volume, label_map)
    box = _around_labels(view)
    colours = {s.number: s.colour for s in described(label_map.segments) if s.colour is not None}
    size_mm = [(side.stop - side.start) * step for side, step in zip(box, view.spacing_mm, strict=True)]
    if 1 in view.labels.shape:
        axis = view.labels.shape.index(1)
        scale = CELL * COLUMNS / 2 / max(size for other, size in enumerate(size_mm) if other != axis)
        return np.asarray(_panel(view, _Cut(axis, 0, box, windows[0], scale), colours))
    scale = CELL / max(size_mm[1:])
    axial = _slices(view.labels, 0, COLUMNS)
    cuts = [[_Cut(0, index, box, window, scale, window.name) for index in axial] for window in windows]
    small = _hardly_seen(view, label_map, axial)[:COLUMNS]
    cuts.append([_close(view, volume, segment, index, windows[0]) for segment, index in small])
    along = [(axis, index) for axis in (1, 2) for index in _slices(view.labels, axis, ALONG)]
    scale = _scale_along(view, box, [axis for axis, _ in along])
    cuts.append([_Cut(axis, index, box, windows[0], scale) for axis, index in along])
    return np.asarray(_stacked([[_panel(view, cut, colours) for cut in row] for row in cuts if row]))


def shown_segments(label_map: LabelMap) -> list[Segment]:
    """Return the segments that have voxels, with the colours they are drawn in."""
    counts = np.zeros(int(np.iinfo(label_map.labels.dtype).max) + 1, dtype=np.int64)
    for plane in label_map.labels:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    return [segment for segment in described(label_map.segments) if counts[segment.number]]


def _turned(volume: Volume, label_map: LabelMap) -> _View:
    """Turn the image by exchanging and flipping axes only."""
    if not volume.placed:
        return _View(volume.voxels, label_map.labels, volume.spacing_mm, (("", ""),) * 3)
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    # Axes of the array in the order slices, rows, columns of the picture: along the body, front to back, right to left.
    order = max(permutations(range(3)), key=lambda each: sum(abs(axes[2 - n, axis]) for n, axis in enumerate(each)))
    flips = tuple(
        slice(None, None, 1 if axes[2 - n, axis] * (-1 if n == 0 else 1) > 0 else -1) for n, axis in enumerate(order)
    )
    voxels = volume.voxels.transpose(*order, *range(3, volume.voxels.ndim))[flips]
    spacing = volume.spacing_mm
    return _View(
        voxels,
        label_map.labels.transpose(order)[flips],
        (spacing[order[0]], spacing[order[1]], spacing[order[2]]),
        (("H", "F"), ("A", "P"), ("R", "L")),
    )


def _around_labels(view: _View) -> tuple[slice, ...]:
    """The box around all labels with a margin; the whole image where nothing is labelled."""
    box = []
    for axis, (length, step) in enumerate(zip(view.labels.shape, view.spacing_mm, strict=True)):
        filled = np.flatnonzero(view.labels.any(axis=tuple(other for other in range(3) if other != axis)))
        more = int(np.ceil(MARGIN_MM / step))
        ends = (filled[0] - more, filled[-1] + 1 + more) if len(filled) else (0, length)
        box.append(slice(max(int(ends[0]), 0), min(int(ends[1]), length)))
    return tuple(box)


def _slices(labels: NDArray[np.unsignedinteger], axis: int, many: int) -> list[int]:
    """Slices across an axis, spread evenly over those with labels."""
    filled = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
    if not len(filled):
        filled = np.arange(labels.shape[axis])
    many = min(many, len(filled))
    return [int(filled[int((place + 0.5) / many * len(filled))]) for place in range(many)]


def _hardly_seen(view: _View, label_map: LabelMap, slices: list[int]) -> list[tuple[Segment, int]]:
    """Structures that no chosen axial slice shows well, and of each the slice in which it is largest."""
    areas = np.stack([np.bincount(plane.ravel(), minlength=int(view.labels.max()) + 1) for plane in view.labels])
    pixels = view.labels[0].size
    found = []
    for segment in label_map.segments:
        area = areas[:, segment.number] if segment.number < areas.shape[1] else np.zeros(1)
        largest, shown = int(area.max()), area[slices].max() if area.any() else 0
        if largest and (shown < SEEN * largest or largest < SMALL * pixels):
            found.append((segment, int(area.argmax())))
    return found


def _close(view: _View, volume: Volume, segment: Segment, index: int, usual: Window) -> _Cut:
    """A close look at one structure in one slice, in its own window; outside of Hounsfield units in the usual one."""
    inside = view.labels[index] == segment.number
    steps = view.spacing_mm[1:]
    filled = [np.flatnonzero(inside.any(axis=1 - axis)) for axis in (0, 1)]
    ends = [(int(places[0]), int(places[-1]) + 1) for places in filled]
    half_mm = max(*((b - a) * step / 2 + CLOSE_MM / 4 for (a, b), step in zip(ends, steps, strict=True)), CLOSE_MM / 2)
    box = [slice(index, index + 1)]
    for (a, b), step, length in zip(ends, steps, inside.shape, strict=True):
        centre, half = (a + b) / 2, half_mm / step
        box.append(slice(max(round(centre - half), 0), min(round(centre + half), length)))
    window = usual
    if volume.unit == HU:
        median = float(np.median(grey(view.voxels[index], 2)[inside]))
        window = window_in_hu(segment.name, median, body_part=volume.body_part)
    return _Cut(0, index, tuple(box), window, CELL / (2 * half_mm), segment.name)


def _scale_along(view: _View, box: tuple[slice, ...], axes: list[int]) -> float:
    """Pixels a mm at which coronal and sagittal pictures fill a row, but are not higher than two others."""
    size = [(side.stop - side.start) * step for side, step in zip(box, view.spacing_mm, strict=True)]
    width = COLUMNS * (CELL + GAP) - GAP * len(axes)
    return min(width / sum(size[2 if axis == 1 else 1] for axis in axes), 2 * CELL / size[0])


@dataclass(frozen=True)
class _Cut:
    """Which slice is drawn: across which axis, where, what of it, how bright, at how many pixels a mm, and its name."""

    axis: int
    index: int
    box: tuple[slice, ...]
    window: Window
    scale: float
    name: str = ""


def _panel(view: _View, cut: _Cut, colours: dict[int, Colour]) -> Image:
    """One slice with outlines of labels, the letters of its sides, and the name of its window."""
    where: list[int | slice] = list(cut.box)
    where[cut.axis] = cut.index
    down, right = (other for other in range(3) if other != cut.axis)
    bright = (grey(view.voxels[tuple(where)], 2) - cut.window.low) / (cut.window.high - cut.window.low)
    shown = (np.clip(np.nan_to_num(bright), 0, 1) * 255).astype(np.uint8)
    height, width = shown.shape[0] * view.spacing_mm[down], shown.shape[1] * view.spacing_mm[right]
    size = max(1, round(width * cut.scale)), max(1, round(height * cut.scale))
    picture = _painted(shown, view.labels[tuple(where)], size, colours)
    _mark(picture, view.marks[down], view.marks[right], cut.name.replace("_", " "))
    return picture


def _painted(
    shown: Grey, labels: NDArray[np.unsignedinteger], size: tuple[int, int], colours: dict[int, Colour]
) -> Image:
    """The slice at its size in pixels, structures tinted and outlined in their colours."""
    pillow = _pillow()
    base = np.asarray(pillow.fromarray(shown).resize(size, pillow.Resampling.BILINEAR), dtype=np.float32)
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(int)
    labels = labels[np.ix_(rows, columns)]
    palette = np.zeros((int(labels.max()) + 1, 3), dtype=np.float32)
    for number, colour in colours.items():
        if number < len(palette):
            palette[number] = colour
    share = np.where(_outline(labels), 1.0, np.where(labels > 0, FILL, 0.0))[..., None]
    return pillow.fromarray((base[..., None] * (1 - share) + palette[labels] * share).astype(np.uint8))


def _outline(labels: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """True for labelled pixels beside another label or none."""
    padded = np.pad(labels, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((labels > 0) & np.any([labels != other for other in beside], axis=0))


def _mark(picture: Image, down: tuple[str, str], right: tuple[str, str], name: str) -> None:
    """Write which way the sides lie, and the window's name."""
    draw, font = _draw(picture), _font(15)
    width, height = picture.size
    places: list[tuple[str, tuple[float, float], str]] = [
        (down[0], (width / 2, 2), "ma"),
        (down[1], (width / 2, height - 2), "md"),
    ]
    places += (
        (right[0], (3, height / 2), "lm"),
        (right[1], (width - 3, height / 2), "rm"),
        (name, (3, height - 2), "ld"),
    )
    for letters, place, anchor in places:
        draw.text(place, letters, fill=(255, 235, 120), font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _stacked(rows: list[list[Image]]) -> Image:
    """Pictures beside and below each other on black."""
    width = max(sum(picture.width + GAP for picture in row) for row in rows) + GAP
    whole = _blank(width, sum(max(picture.height for picture in row) + GAP for row in rows) + GAP)
    top = GAP
    for row in rows:
        left = GAP
        for picture in row:
            whole.paste(picture, (left, top))
            left += picture.width + GAP
        top += max(picture.height for picture in row) + GAP
    return whole


def _legend(segments: list[Segment], width: int) -> Image:
    """Names beside their colours, in lines of at most `width` pixels."""
    font, places, left, top = _font(15), [], GAP, 0
    for segment in segments:
        needed = round(font.getlength(segment.name)) + 44
        if left + needed > width and left > GAP:
            left, top = GAP, top + LINE
        places.append((segment, left, top))
        left += needed
    picture = _blank(width, top + LINE if segments else 1)
    draw = _draw(picture)
    for segment, left, top in places:
        draw.rectangle((left, top + 4, left + 14, top + 18), fill=segment.colour)
        draw.text((left + 20, top + 2), segment.name.replace("_", " "), fill=(230, 230, 230), font=font)
    return picture


def _blank(width: int, height: int) -> Image:
    return _pillow().new("RGB", (width, height))


def _draw(picture: Image) -> ImageDraw:
    from PIL import ImageDraw

    return ImageDraw.Draw(picture)


def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise InputError('pictures need Pillow: pip install "careloop[imaging]"') from None
    return Image
