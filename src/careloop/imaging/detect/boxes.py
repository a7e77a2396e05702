"""Boxes in voxels, on the grid that a network works on, and in the patient; and which of two that overlap stays.

A box is (slice, row, column) of its low edges, then of its high ones; voxel i reaches from i to i + 1, so that
`image[low:high]` is its inside and i + 0.5 the middle of voxel i. A picture's boxes reach from slice 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.evaluate.detection import iou_of
from careloop.imaging.segment.prepare import Placing
from careloop.imaging.volume import spacing_mm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Detection:
    """A finding: its `label`, the calibrated probability that it is one, and where it is.

    `box`: (slice, row, column) of the low edges and of the high ones, in voxels of the image (voxel i reaches from i to
    i + 1). `box_mm`: (x, y, z) of the smallest box along the patient's LPS axes that holds it, low and high, and
    `centre_mm` its middle; where the image has no place in the patient, in the image's own millimetres.
    `diameter_mm` is the mean side (of a picture, in its plane); `score` the network's own, before calibration.
    """

    label: str
    probability: float
    box: tuple[float, ...]
    box_mm: tuple[float, ...]
    centre_mm: tuple[float, float, float]
    diameter_mm: float
    score: float


def detection(label: str, box: Boxes, affine: NDArray[np.float64], *, probability: float, score: float) -> Detection:
    """A finding with its place in the patient; `box` (6,)."""
    corners = np.array([[box[axis + 3 * end] for axis, end in enumerate(ends)] for ends in np.ndindex(2, 2, 2)])
    places = (corners - 0.5) @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = places.mean(axis=0).tolist()
    return Detection(
        label=label,
        probability=probability,
        box=tuple(box.tolist()),
        box_mm=(*places.min(axis=0).tolist(), *places.max(axis=0).tolist()),
        centre_mm=(x, y, z),
        diameter_mm=float(diameters_mm(box[None], affine)[0]),
        score=score,
    )


def diameters_mm(boxes: Boxes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean side (k,) of boxes (k, 6); those of one slice from edge to edge of it are flat and have two sides."""
    sides = (boxes[:, 3:] - boxes[:, :3]) * spacing_mm(affine)
    flat = (boxes[:, 0] == 0) & (boxes[:, 3] == 1)
    return np.asarray(np.where(flat, sides[:, 1:].mean(axis=1), sides.mean(axis=1)))


def spheres_in_voxels(centres_mm: Boxes, diameter_mm: NDArray[np.float64], affine: NDArray[np.float64]) -> Boxes:
    """Boxes (k, 6) around spheres at (x, y, z) in LPS mm, as LUNA16's annotations are."""
    index = (centres_mm - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T + 0.5
    half = diameter_mm[:, None] / 2 / np.array(spacing_mm(affine))
    return np.hstack([index - half, index + half])


def to_prepared(boxes: Boxes, placing: Placing) -> Boxes:
    """Boxes (k, 6) of a volume on the grid that was prepared from it."""
    ends = []
    for part in (boxes[:, :3], boxes[:, 3:]):
        place = part[:, placing.turn.order] - 0.5
        place = np.where(placing.turn.flipped, np.array(placing.shape) - 1 - place, place)
        columns = []
        for axis, cut, values in zip(placing.image.axes, placing.box, place.T, strict=True):
            columns.append((values - cut.start + axis.face) / axis.step - axis.face + 0.5)
        ends.append(np.stack(columns, axis=1))
    return np.hstack([np.minimum(*ends), np.maximum(*ends)])


def to_volume(boxes: Boxes, placing: Placing) -> Boxes:
    """Boxes (k, 6) of the prepared grid in the volume; undoes `to_prepared`."""
    ends = []
    for part in (boxes[:, :3], boxes[:, 3:]):
        columns = [
            axis.step * (values - 0.5 + axis.face) - axis.face + cut.start
            for axis, cut, values in zip(placing.image.axes, placing.box, part.T, strict=True)
        ]
        place = np.stack(columns, axis=1)
        place = np.where(placing.turn.flipped, np.array(placing.shape) - 1 - place, place) + 0.5
        ends.append(place[:, np.argsort(placing.turn.order)])
    return np.hstack([np.minimum(*ends), np.maximum(*ends)])


def suppressed(boxes: Boxes, score: NDArray[np.float64], *, iou: float) -> NDArray[np.intp]:
    """Positions that stay, the surest first: each drops what overlaps it by more than `iou` and is less sure.

    A box also drops a less sure one whose centre lies in it, as two tiles may see one finding at different sizes.
    """
    left = np.argsort(-score, kind="stable")
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        same = iou_of(np.repeat(boxes[first : first + 1], len(left), axis=0), boxes[left]) > iou
        centre = (boxes[left, :3] + boxes[left, 3:]) / 2
        same |= ((centre >= boxes[first, :3]) & (centre <= boxes[first, 3:])).all(axis=1)
        left = left[~same]
    return np.array(kept, dtype=np.intp)


def boxes_of_mask(mask: NDArray[np.bool_]) -> Boxes:
    """Boxes (k, 6) around the parts of a mask (slices, rows, columns) that are joined by face, edge or corner."""
    from scipy.ndimage import find_objects, generate_binary_structure, label

    parts, _ = label(mask, structure=generate_binary_structure(mask.ndim, mask.ndim))
    found = [([s.start for s in part], [s.stop for s in part]) for part in find_objects(parts)]
    return np.array([[*low, *high] for low, high in found], dtype=float).reshape(-1, 6)
