"""A label map and its image to a table of measurements, structure by structure, each in the box around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from careloop import InputError
from careloop.imaging.measure.intensity import entropy, peak, peak_margin, statistics
from careloop.imaging.measure.quantities import IMAGE_UNIT, IMAGE_UNIT_SQUARED, MEASUREMENTS, quantity_of
from careloop.imaging.measure.structure import connected_parts, flat_shape, place, shape
from careloop.imaging.measure.texture.features import texture_features
from careloop.imaging.measure.texture.grid import (
    MARGIN_VOXELS,
    Bins,
    Crop,
    TextureSettings,
    in_range,
    levels_in_space,
    settings_for,
)
from careloop.imaging.volume import LabelMap, Segment, Volume, check_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Box = tuple[slice, ...]

MAX_PARTS = 10  # connected parts with rows of their own, the largest first
SUV = "g/mL"
ALONG_AN_AXIS = 0.996  # cosine of 5 degrees: as radiographers speak, such slices are axial, not oblique
Progress = Callable[[str, int, int], None]
Row = tuple[str, float, str]  # quantity, value, note


def measure(
    label_map: LabelMap,
    volume: Volume,
    *,
    texture: TextureSettings | None = None,
    max_parts: int = MAX_PARTS,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return the measurements of every segment (columns of `MEASUREMENTS`), a row a segment and quantity.

    Shape is measured on the mesh between voxel centres on the grid as acquired, intensities inside the mask in the
    image's unit; a structure without voxels has one row, `components` = 0. Axes are the longest of all connected parts.
    With `texture` (see `settings_for`) the IBSI's texture features follow. `progress(what, done, of)` is called for
    each segment. Each structure is worked on in the box around it.

    Raises:
        InputError: the two do not lie on one grid, the image is in colour, or texture bins are too many.
    """
    check_same_grid(label_map, volume, what="labels and image")
    if max_parts < 1:
        raise InputError(f"max_parts must be at least 1, got {max_parts}")
    if volume.voxels.ndim != 3:
        raise InputError("measuring needs an image of one value a voxel, got a colour image; convert it to grey")
    from scipy.ndimage import find_objects

    boxes = find_objects(label_map.labels)
    rows: list[tuple[object, ...]] = []
    for done, segment in enumerate(label_map.segments):
        if progress is not None:
            progress("measuring", done, len(label_map.segments))
        box = boxes[segment.number - 1] if segment.number <= len(boxes) else None
        found = _Structure(segment, label_map, volume, box).rows(texture, max_parts) if box else _nothing()
        rows += [_row(segment, row, volume.unit) for row in found]
    return pl.DataFrame(rows, schema=MEASUREMENTS, orient="row")


def _nothing() -> Iterator[Row]:
    yield "components", 0.0, "no voxels with this label"


def _row(segment: Segment, row: Row, image_unit: str) -> tuple[object, ...]:
    name, value, note = row
    quantity = quantity_of(name)
    units = {IMAGE_UNIT: image_unit, IMAGE_UNIT_SQUARED: _squared(image_unit)}
    concept = {"scheme": quantity.scheme, "value": quantity.value, "meaning": quantity.meaning}
    structure = dict(zip(("scheme", "value", "meaning"), segment.type, strict=True)) if segment.type else None
    return (
        segment.number,
        segment.name,
        name,
        value,
        units.get(quantity.unit, quantity.unit),
        concept,
        structure,
        note,
    )


def _squared(unit: str) -> str:
    """The UCUM unit times itself."""
    return f"({unit}).({unit})" if "/" in unit else f"{unit}2" if unit else ""


@dataclass(frozen=True)
class _Structure:
    """One segment that has voxels, and the box around them."""

    segment: Segment
    label_map: LabelMap
    volume: Volume
    box: Box

    @property
    def axes_mm(self) -> NDArray[np.float64]:
        return self.volume.affine[:3, :3]

    def voxels(self, box: Box) -> NDArray[np.number]:
        return cast("NDArray[np.number]", self.volume.voxels[box])

    def mask(self, box: Box) -> NDArray[np.bool_]:
        return np.asarray(self.label_map.labels[box] == self.segment.number)

    def rows(self, texture: TextureSettings | None, max_parts: int) -> Iterator[Row]:
        mask = self.mask(self.box)
        yield from self._shape(mask, max_parts)
        affine = self.volume.affine.copy()
        affine[:, 3] += affine[:, :3] @ [side.start for side in self.box]
        where = "" if self.volume.placed else "in the image's own axes: the file says nothing about place"
        yield from ((name, value, where) for name, value in place(mask, affine).items())
        yield from self._intensities(mask)
        if texture is not None:
            yield from self._texture(texture)

    def _shape(self, mask: NDArray[np.bool_], max_parts: int) -> Iterator[Row]:
        cut = _cut(self.box, self.label_map.labels.shape)
        whole = flat_shape(mask, self.axes_mm) if self._one_slice else shape(mask, self.axes_mm)
        yield from ((name, value, cut) for name, value in whole.items())
        parts = connected_parts(mask, self.axes_mm, at_most=max_parts)
        longest = max(parts.largest, key=lambda part: part["long_axis"])
        note = "; ".join(text for text in (cut, _plane(self.volume)) if text)
        yield from ((name, longest[name], note) for name in ("long_axis", "short_axis"))
        hidden = f"the largest {max_parts} are listed" if parts.count > max_parts else ""
        yield "components", float(parts.count), "; ".join(text for text in (cut, hidden) if text)
        if parts.count > 1:
            for number, part in enumerate(parts.largest, start=1):
                yield from ((f"component_{number}_{name}", value, cut) for name, value in part.items())

    def _intensities(self, mask: NDArray[np.bool_]) -> Iterator[Row]:
        values = self.voxels(self.box)[mask]
        known = values[np.isfinite(values)]
        note = f"{len(values) - len(known)} voxels without a value left out" if len(known) < len(values) else ""
        if not len(known):
            return
        yield from ((name, value, note) for name, value in statistics(known).items())
        settings = settings_for(self.volume.unit)
        binned = known[in_range(known, settings)]
        if len(binned):
            how = settings.model_copy(update={"spacing_mm": None}).described
            shown = entropy(binned, Bins.of(binned, settings))
            yield "intensity_entropy", shown, "; ".join(text for text in (note, how) if text)
        if self.volume.unit == SUV:
            around = _widened(self.box, peak_margin(self.axes_mm), self.volume.voxels.shape)
            voxels = self.voxels(around)
            highest = peak(voxels, self.mask(around) & np.isfinite(voxels), self.axes_mm)
            yield "intensity_peak", highest, "mean of a sphere of 1 mL"

    def _texture(self, settings: TextureSettings) -> Iterator[Row]:
        around = _widened(self.box, (MARGIN_VOXELS,) * 3, self.volume.voxels.shape)
        start, whole = (side.start for side in around), self.volume.voxels.shape
        crop = Crop((next(start), next(start), next(start)), (whole[0], whole[1], whole[2]))
        levels = levels_in_space(self.voxels(around), self.mask(around), self.axes_mm, settings, crop=crop)
        if levels.size:
            found = texture_features(levels)
            yield from ((name, value, settings.described) for name, value in found.items())

    @property
    def _one_slice(self) -> bool:
        return len(self.label_map.labels) == 1


def _widened(box: Box, by: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, length))
        for side, more, length in zip(box, by, shape, strict=True)
    )


def _cut(box: Box, shape: tuple[int, ...]) -> str:
    """Say at which edges of the image a structure ends; the one slice of a picture is no edge."""
    edges = []
    for name, side, length in zip(("slice", "row", "column"), box, shape, strict=True):
        ends = [end for end, is_there in (("first", side.start == 0), ("last", side.stop == length)) if is_there]
        edges += [f"{' and '.join(ends)} {name}"] if ends and length > 1 else []
    return f"reaches the image's {', '.join(edges)}: what lies beyond is not measured" if edges else ""


def _plane(volume: Volume) -> str:
    """Name the plane of the slices, in which axes are measured."""
    if not volume.placed:
        return "in the plane of the image"
    normal = np.abs(np.cross(volume.affine[:3, 1], volume.affine[:3, 2]))
    normal /= np.linalg.norm(normal)
    name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    return f"in {'' if normal.max() > ALONG_AN_AXIS else 'oblique '}{name} slices"
