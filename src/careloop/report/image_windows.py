"""Which intensities of an image are shown from black to white: windows that suit the structures that are labelled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.volume import LabelMap, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

HU = "[hnsf'U]"
SAMPLE = 200_000  # voxels that grey levels are found from
MIN_SHARE = 0.02  # of the labelled voxels, below which structures do not get a window of their own
BONES = re.compile(
    "bone|vertebra|spine|rib|skull|sternum|scapula|clavic|humer|radius|ulna|femur|tibia|fibula|hip|sacr|pelvis|patella"
)


@dataclass(frozen=True)
class Window:
    """Which intensities are shown from black to white."""

    name: str
    low: float
    high: float


LUNG, SOFT, BRAIN, BONE = (
    Window("lung window", -1350, 150),
    Window("soft tissue window", -160, 240),
    Window("brain window", 0, 80),
    Window("bone window", -450, 1050),
)


def windows_of(volume: Volume, label_map: LabelMap) -> tuple[Window, ...]:
    """Return the windows that suit what is labelled, the one of most voxels first; of an image without HU one only.

    In Hounsfield units a structure's name and median tell its window: lung below -400, bone by name or above 500 (short
    of that contrast medium is as bright), else soft tissue, or brain in a head. Other images are shown from their 1st
    to their 99th percentile.
    """
    voxels, labels = _sampled(volume, label_map)
    if volume.unit != HU:
        known = voxels[np.isfinite(voxels)]
        low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
        return (Window("", float(low), float(high) if high > low else float(low) + 1),)
    count: dict[Window, int] = {}
    for segment in label_map.segments:
        inside = voxels[labels == segment.number]
        if inside.size:
            window = window_in_hu(segment.name, float(np.median(inside)), body_part=volume.body_part)
            count[window] = count.get(window, 0) + inside.size
    least = MIN_SHARE * sum(count.values())
    chosen = sorted((w for w in count if count[w] >= least), key=lambda window: -count[window])
    return tuple(chosen) or (SOFT,)


def window_in_hu(name: str, median: float, *, body_part: str) -> Window:
    """Return the window for a structure of this name and median, in Hounsfield units."""
    if median < -400:
        return LUNG
    if median > 500 or (median > 100 and BONES.search(name.lower())):
        return BONE
    in_head = any(word in f"{name} {body_part}".lower() for word in ("brain", "head"))
    return BRAIN if in_head and 0 <= median <= 80 else SOFT


def _sampled(volume: Volume, label_map: LabelMap) -> tuple[NDArray[np.float32], NDArray[np.unsignedinteger]]:
    """Intensities and labels of every n-th voxel, grey where the image is in colour."""
    step = max(1, int(np.ceil((label_map.labels.size / SAMPLE) ** (1 / 3))))
    part = (slice(None, None, step if len(label_map.labels) > step else 1), *[slice(None, None, step)] * 2)
    return grey(volume.voxels[part], 3), label_map.labels[part]


def grey(voxels: NDArray[np.generic], dimensions: int) -> NDArray[np.float32]:
    """Intensities of an image or of a slice of it (`dimensions` 3 or 2); of a colour image their mean."""
    values = voxels.astype(np.float32)
    return values.mean(axis=-1) if values.ndim > dimensions else values
