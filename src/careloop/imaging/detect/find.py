"""What a detector finds in an image: peaks of overlapping tiles, of two that are one the surer, back in the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop import InputError
from careloop.imaging.detect.boxes import Detection, detection, suppressed, to_volume
from careloop.imaging.detect.model import Detector, DetectorFile
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment.prepare import prepare
from careloop.imaging.segment.tiles import Origin, cut_tile, patch_3d, tile_rows
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

Progress = Callable[[str, int, int], None]

STEP = 0.5  # of the patch, from one tile to the next
EDGE = 1 / 8  # of the patch: what is found so close to a tile's edge is left to the tile beside it
SAME_IOU = 0.2  # boxes that overlap by more are one finding
MOST = 50  # findings of a tile
LOWEST_LOGIT = -5.0
TILES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Findings:
    """Raw findings of an image, the surest first: `box` (m, 6) in its voxels, `logit` (m,), `label` (m,) by number."""

    box: NDArray[np.float64]
    logit: NDArray[np.float64]
    label: NDArray[np.intp]


def detect(
    volume: Volume, detector: Detector, *, lowest: float | None = None, progress: Progress | None = None
) -> tuple[Detection, ...]:
    """Findings whose calibrated probability is at least `lowest` (by default the detector's threshold), surest first.

    Raises:
        InputError: the image is of another modality or kind (picture, volume, colour) than the detector takes.
    """
    said = detector.said
    found = raw_findings(volume, said, detector.network, progress=progress)
    probability = said.probability(found.logit)
    shown = np.flatnonzero(probability >= (said.threshold if lowest is None else lowest))
    return tuple(
        detection(
            said.labels[found.label[i]],
            found.box[i],
            volume.affine,
            probability=float(probability[i]),
            score=float(0.5 * (1 + np.tanh(found.logit[i] / 2))),
        )
        for i in shown
    )


def raw_findings(
    volume: Volume, said: DetectorFile, network: nn.Module, *, progress: Progress | None = None
) -> Findings:
    """Everything that the network marks with a logit of at least `LOWEST_LOGIT`, once each."""
    _check(volume, said)
    made = prepare([volume], said.preparation)
    parts = _tile_findings(made.image, said, network, progress)
    box, logit, label = (np.concatenate([part[i] for part in parts]) for i in range(3))
    shape = made.image.shape[1:]
    middle = (box[:, :3] + box[:, 3:]) / 2
    box = np.clip(box, 0, np.tile(shape, 2))
    inside = ((middle >= 0) & (middle < shape)).all(axis=1) & (box[:, 3:] > box[:, :3]).all(axis=1)
    kept = []
    for number in range(len(said.labels)):
        of = np.flatnonzero(inside & (label == number))
        kept.append(of[suppressed(box[of], logit[of], iou=SAME_IOU)])
    rows = np.concatenate(kept)
    rows = rows[np.argsort(-logit[rows], kind="stable")]
    placed = to_volume(box[rows], made.placing)
    if len(said.patch) == 2:
        placed[:, 0], placed[:, 3] = np.floor(placed[:, 0] + 0.5), np.floor(placed[:, 0] + 0.5) + 1
    return Findings(placed, logit[rows], label[rows])


def _check(volume: Volume, said: DetectorFile) -> None:
    if said.modality and volume.modality and volume.modality != said.modality:
        raise InputError(f"the detector {said.name} takes {said.modality} images, got {volume.modality}")
    if (volume.voxels.shape[0] == 1) != (len(said.patch) == 2):
        kind = "pictures of one slice" if len(said.patch) == 2 else "volumes"
        raise InputError(f"the detector {said.name} takes {kind}, got {volume.voxels.shape[0]} slices")


def _tile_findings(
    image: NDArray[np.float32], said: DetectorFile, network: nn.Module, progress: Progress | None
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]]:
    """Boxes (m, 6) in the prepared image, logits and labels of each tile."""
    import torch

    from careloop.imaging.detect.heatmap import peaks_of

    tiling = Tiling(said.patch, step=STEP)
    patch, shape = patch_3d(tiling), image.shape[1:]
    origins = [origin for row in tile_rows(shape, tiling) for origin in row]
    device = next(network.parameters()).device
    found = []
    with torch.no_grad():
        for start in range(0, len(origins), TILES_AT_ONCE):
            batch = origins[start : start + TILES_AT_ONCE]
            tiles = np.stack([cut_tile(image, origin, patch) for origin in batch])
            maps = network(torch.from_numpy(tiles.reshape(len(batch), len(image), *said.patch)).to(device))
            for origin, given in zip(batch, maps, strict=True):
                peaks = peaks_of(given, names=len(said.labels), most=MOST, lowest=LOWEST_LOGIT)
                kept = _away_from_edges(peaks.box, origin, said.patch, shape)
                box = _as_solid(peaks.box[kept], len(said.patch)) + np.tile(origin, 2)
                found.append((box, peaks.logit[kept], peaks.label[kept]))
            if progress is not None:
                progress("detecting", min(start + TILES_AT_ONCE, len(origins)), len(origins))
    return found


def _away_from_edges(
    boxes: NDArray[np.float64], origin: Origin, patch: tuple[int, ...], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Which boxes (m, 2 d) of a tile are not close to an edge beyond which the image goes on."""
    dims = len(patch)
    middle = (boxes[:, :dims] + boxes[:, dims:]) / 2
    size, first = np.array(patch), np.array(origin[3 - dims :])
    low = np.where(first > 0, EDGE * size, -np.inf)
    high = np.where(first + size < shape[3 - dims :], (1 - EDGE) * size, np.inf)
    return np.asarray(((middle >= low) & (middle < high)).all(axis=1))


def _as_solid(boxes: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """Boxes (m, 6) of boxes (m, 2 d): those of a picture are one slice thick."""
    if dims == 3:
        return boxes
    ends = np.zeros((len(boxes), 1)), np.ones((len(boxes), 1))
    return np.hstack([ends[0], boxes[:, :2], ends[1], boxes[:, 2:]])
