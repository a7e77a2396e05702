"""Simulated chest CT with boxes around its nodules, and a table of them as a detector is trained on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from careloop import __version__
from careloop.imaging.phantom.cases import DESCRIPTION, TRAINING, simulate_case
from careloop.imaging.phantom.chest import ChestPhantom, Grid
from careloop.imaging.phantom.nodule_files import SIMULATION, TABLE
from careloop.imaging.write.nifti import write_nifti

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]

BOX_COLUMNS = ("slice_low", "row_low", "column_low", "slice_high", "row_high", "column_high")
SEEDS_A_SPLIT = 100_000  # cases of a split lie within this many numbers


def nodule_boxes(phantom: ChestPhantom) -> NDArray[np.float64]:
    """Boxes (k, 6) of a phantom's nodules in voxels: slice, row and column of the low edges, then of the high ones.

    Voxel i reaches from i to i + 1. Left out is a nodule that fills no voxel by half, which the grid does not show.
    """
    affine, labels = phantom.volume.affine, phantom.labels.labels
    number = next(segment.number for segment in phantom.labels.segments if segment.name == "nodule")
    boxes = []
    for nodule in phantom.nodules:
        x, y, z = nodule.stretch
        half_mm = np.array([z, y, x]) * nodule.diameter_mm / 2
        middle = np.linalg.solve(affine, [*nodule.centre, 1.0])[:3] + 0.5
        half = half_mm / phantom.volume.spacing_mm
        box = np.concatenate([np.maximum(middle - half, 0), np.minimum(middle + half, labels.shape)])
        inside = tuple(
            slice(int(np.floor(low)), int(np.ceil(high))) for low, high in zip(box[:3], box[3:], strict=True)
        )
        if (box[3:] > box[:3]).all() and (labels[inside] == number).any():
            boxes.append(box)
    return np.array(boxes).reshape(-1, 6)


def write_nodule_scans(
    folder: Path, cases: Mapping[str, int], *, seed: int = 0, grid: Grid | None = None, progress: Progress | None = None
) -> Path:
    """Write so many simulated scans of each split (`train`, `tuning`, `held_out`) and a table of boxes; returns it.

    `table.csv` has a row a nodule: image (NIfTI, relative to the table), subject_id, split, label, and the box in
    voxels (see `nodule_boxes`); a scan without a nodule that the grid shows has one row with the box left empty.
    """
    rows, total = [], sum(cases.values())
    for part, (split, count) in enumerate(cases.items()):
        for number in range(count):
            case = simulate_case(TRAINING, part * SEEDS_A_SPLIT + number, seed=seed, grid=grid)
            name = f"images/{split}_{number:04d}.nii.gz"
            write_nifti(case.image, folder / name)
            about = [name, f"{split}_{number:04d}", split, "nodule"]
            rows += [[*about, *box] for box in nodule_boxes(case.phantom).round(3).tolist()] or [[*about, *[""] * 6]]
            if progress is not None:
                progress("simulating chests", len({row[0] for row in rows}), total)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject_id", "split", "label", *BOX_COLUMNS])
        writer.writerows(rows)
    document = {"about": DESCRIPTION, "made by": f"careloop {__version__}", "cases": dict(cases), "seed": seed}
    (folder / SIMULATION).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return folder / TABLE
