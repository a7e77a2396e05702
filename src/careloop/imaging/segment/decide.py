"""From slabs of scores to labels on the volume's own grid, a plane at a time, so that no resampled scores are ever held.

nnU-Net resamples the scores of all classes to the image's resolution, in the precision that they were summed in, and
decides there (2.8, inference/export_prediction.py; Apache-2.0). The same happens here for one plane after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.segment.resample import Axis, resample_axis, taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.segment.model import SegmentationModel
    from careloop.imaging.segment.prepare import Placing
    from careloop.imaging.segment.slabs import Slab

MOST_IN_A_BYTE = 255


def decide(slabs: Iterable[Slab], placing: Placing, model: SegmentationModel) -> NDArray[np.unsignedinteger]:
    """Labels (slices, rows, columns) of the volume that was prepared; 0 outside the crop.

    `slabs` are those of the prepared image, in rising order and without gaps.
    """
    most = max((segment.number for segment in model.segments), default=0)
    turned = np.zeros(placing.shape, np.uint8 if most <= MOST_IN_A_BYTE else np.uint16)
    cropped = turned[placing.box]
    across, rows, columns = placing.scores.axes
    for i, (scores, precision) in enumerate(_across(slabs, across)):
        here = resample_axis(resample_axis(scores, 1, rows), 2, columns)
        if here.dtype != precision:
            here = here.astype(precision).astype(np.float32)
        cropped[i] = _labels(here, model)
    return np.ascontiguousarray(placing.turn.undo(turned))


def _across(slabs: Iterable[Slab], axis: Axis) -> Iterator[tuple[NDArray[np.float32], np.dtype]]:
    """Scores (K, Y, X) of each new plane of the first axis, from the two old ones around it, and their precision."""
    places = taps(axis)
    new = 0
    before = here = np.empty(0, np.float32)
    for slab in slabs:
        for plane in range(slab.start, slab.stop):
            before, here = here, np.asarray(slab.scores[:, plane - slab.start], dtype=np.float32)
            while new < axis.new and places.second[new] == plane:
                first, weight = places.first[new], places.weight[new]
                low = here if first == plane else before
                yield low if weight == 0 else low * (1 - weight) + here * weight, slab.scores.dtype
                new += 1


def _labels(scores: NDArray[np.float32], model: SegmentationModel) -> NDArray[np.unsignedinteger]:
    """Labels of one plane from scores (K, Y, X): the first of the highest, or the last region above one half."""
    labels = np.zeros(scores.shape[1:], np.uint16)
    if model.decision == "regions":
        for score, number in zip(scores, model.region_labels, strict=True):
            labels[score > 0] = number  # a sigmoid above one half
        return labels
    best = scores[0].copy()
    for number, score in enumerate(scores[1:], start=1):
        np.copyto(labels, np.uint16(number), where=score > best)
        np.maximum(best, score, out=best)
    return labels
