"""From slabs of scores to labels on the volume's own grid, a plane at a time: resampled scores are never held.

nnU-Net resamples the scores of all classes to the image's resolution, rounds them to half precision and decides there
(2.8, inference/export_prediction.py; Apache-2.0). The same happens here for one plane after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.segment.resample import resample_axis, taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.segment.model import SegmentationModel
    from careloop.imaging.segment.partial import Partial
    from careloop.imaging.segment.prepare import Placing
    from careloop.imaging.segment.slabs import Slab

MOST_IN_A_BYTE = 255


class Decision:
    """Labels of a prepared image, from its slabs in rising order: `take` each, then `labels`.

    With `partial`, what was decided before a run was killed is there again, and the slabs may go on after it.
    """

    def __init__(self, placing: Placing, model: SegmentationModel, partial: Partial | None = None) -> None:
        self._placing, self._model = placing, model
        self._across, self._rows, self._columns = placing.scores.axes
        self._taps = taps(self._across)
        self._rounds = not all(axis.is_identity for axis in placing.scores.axes)
        highest = max((segment.number for segment in model.segments), default=0)
        dtype = np.dtype(np.uint8 if highest <= MOST_IN_A_BYTE else np.uint16)
        before = (model.outputs, self._rows.old, self._columns.old)
        if partial is None:
            self._turned, self._before = np.zeros(placing.shape, dtype), np.zeros(before, np.float32)
        else:
            self._turned = partial.array("labels", placing.shape, dtype)
            self._before = partial.array("plane before", before, np.float32)

    def take(self, slab: Slab) -> None:
        """Decide the planes that lie between those of this slab, or between its first and the one before it."""
        cropped = self._turned[self._placing.box]
        first, last = np.searchsorted(self._taps.second, (slab.start, slab.stop))
        for new in range(first, last):
            cropped[new] = labels_of(self._plane(slab, new), self._model)
        self._before[...] = slab.scores[:, -1]

    def labels(self) -> NDArray[np.unsignedinteger]:
        """Labels (slices, rows, columns) of the volume that was prepared; 0 outside the crop."""
        return np.ascontiguousarray(self._placing.turn.undo(self._turned))

    def _plane(self, slab: Slab, new: int) -> NDArray[np.float32]:
        """Scores (K, rows, columns) of a plane of the crop, in half precision's values."""
        first, second, weight = int(self._taps.first[new]), int(self._taps.second[new]), self._taps.weight[new]
        scores = self._before if first < slab.start else slab.scores[:, first - slab.start]
        if weight > 0:
            scores = scores * (1 - weight) + slab.scores[:, second - slab.start] * weight
        scores = resample_axis(resample_axis(scores, 1, self._rows), 2, self._columns)
        return scores.astype(np.float16).astype(np.float32) if self._rounds else scores


def labels_of(scores: NDArray[np.float32], model: SegmentationModel) -> NDArray[np.unsignedinteger]:
    """Labels of one plane from scores (K, rows, columns): the first of the highest, or the last region above 1/2."""
    labels = np.zeros(scores.shape[1:], np.uint16)
    if model.decision == "regions":
        for score, number in zip(scores, model.region_labels, strict=True):
            labels[score > 0] = number  # where a sigmoid is above one half
        return labels
    best = scores[0].copy()
    for number, score in enumerate(scores[1:], start=1):
        np.copyto(labels, np.uint16(number), where=score > best)
        np.maximum(best, score, out=best)
    return labels
