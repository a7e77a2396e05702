"""Label maps of the parts of one task laid over each other, so that they are one map with one number a structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.volume import LabelMap, Segment, check_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 65_535


def merge_labels(maps: Iterable[LabelMap], numbers: Mapping[str, int] | None = None) -> LabelMap:
    """One map of all structures; where maps overlap, the later one counts. Maps are taken one at a time.

    A structure's number is that in `numbers` where all names are known there, else they count on from part to part.

    Raises:
        InputError: no maps, different grids, or one name in two parts.
    """
    merged: LabelMap | None = None
    for part in maps:
        merged = part if merged is None else _over(merged, part)
    if merged is None:
        raise InputError("there are no label maps to lay over each other")
    names = [segment.name for segment in merged.segments]
    if numbers is None or not set(names) <= set(numbers):
        return merged
    return _renumbered(merged, [numbers[name] for name in names])


def _over(below: LabelMap, above: LabelMap) -> LabelMap:
    check_same_grid(below, above, what="parts of one task")
    twice = {s.name for s in below.segments} & {s.name for s in above.segments}
    if twice:
        raise InputError(f"parts of one task must have different structures, got '{min(twice)}' twice")
    first = max((s.number for s in below.segments), default=0)
    shifted = _renumbered(above, [first + i for i in range(1, len(above.segments) + 1)])
    labels = below.labels.astype(np.result_type(below.labels, shifted.labels), copy=False)
    return replace(
        below,
        labels=np.where(shifted.labels > 0, shifted.labels, labels),
        segments=below.segments + shifted.segments,
        made_by=f"{below.made_by}, {above.made_by}",
    )


def _renumbered(labels: LabelMap, numbers: Sequence[int]) -> LabelMap:
    most = max([*numbers, 0])
    if most > MOST:
        raise InputError(f"labels must be at most {MOST}, got {most}")
    table: NDArray[np.unsignedinteger] = np.zeros(
        int(np.iinfo(labels.labels.dtype).max) + 1, np.uint8 if most < 256 else np.uint16
    )
    for segment, number in zip(labels.segments, numbers, strict=True):
        table[segment.number] = number
    segments = tuple(replace(s, number=n) for s, n in zip(labels.segments, numbers, strict=True))
    return replace(labels, labels=table[labels.labels], segments=_by_number(segments))


def _by_number(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    return tuple(sorted(segments, key=lambda segment: segment.number))
