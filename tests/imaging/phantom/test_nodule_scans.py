"""Simulated chest CT with boxes around nodules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from careloop.imaging.finding import SIMULATED
from careloop.imaging.phantom.chest import Grid, chest_phantom
from careloop.imaging.phantom.nodule_scans import nodule_boxes, write_nodule_scans
from careloop.imaging.read.nifti import read_nifti

GRID = Grid((40, 80, 80), (8.0, 4.8, 4.8))


def test_boxes_hold_the_voxels_of_the_nodules() -> None:
    for seed in range(40):
        phantom = chest_phantom(seed, phase="none", grid=GRID)
        if len(boxes := nodule_boxes(phantom)) >= 2:
            break
    voxels = np.argwhere(phantom.labels.labels == 6) + 0.5
    assert len(voxels)
    # The surface is lobed by a twentieth and moved by the warp that all organs are: a voxel more on each side.
    held = ((voxels[:, None] > boxes[:, :3] - 1) & (voxels[:, None] < boxes[:, 3:] + 1)).all(axis=2)
    assert held.any(axis=1).all()
    assert held.any(axis=0).all()


def test_table_of_scans(tmp_path: Path) -> None:
    path = write_nodule_scans(tmp_path, {"train": 2, "tuning": 1}, grid=GRID)
    rows = pl.read_csv(path)
    assert set(rows["split"]) == {"train", "tuning"}
    assert rows["image"].n_unique() == 3
    volume = read_nifti(tmp_path / rows["image"][0])
    assert SIMULATED in volume.findings
    boxed = rows.drop_nulls()
    assert (boxed["slice_high"] > boxed["slice_low"]).all()
