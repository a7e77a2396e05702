"""The commands of images as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from careloop.imaging.phantom import write_series
from careloop.imaging.volume import Volume

Careloop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    voxels = np.full((12, 32, 32), -900, np.int16)
    voxels[4:8, 8:24, 8:24] = 50
    write_series(Volume(voxels, np.diag([2.5, 1.0, 1.0, 1.0]), "CT", "[hnsf'U]"), tmp_path / "ct", name="box")
    return tmp_path / "ct"


def test_info_of_images_and_of_a_model(careloop: Careloop, series: Path, threshold_model: Path) -> None:
    code, out, _ = careloop("image", "info", series)
    assert code == 0
    assert "12 x 32 x 32 voxels (slices, rows, columns) of 2.5 x 1 x 1 mm" in out
    (series / "0005.dcm").unlink()
    code, out, _ = careloop("image", "info", series, "--json")
    assert code == 0
    (refused,) = json.loads(out)["images"][0]["refused"]
    assert refused["check"] == "missing slices"
    code, out, _ = careloop("image", "info", threshold_model)
    assert code == 0
    assert "input       image from CT" in out


def test_segment_prints_volumes_and_one_json_object(
    careloop: Careloop, series: Path, threshold_model: Path, tmp_path: Path
) -> None:
    code, out, _ = careloop("image", "segment", series, "--model", threshold_model, "--out", tmp_path / "out", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["volumes_ml"]["bright"] == pytest.approx(2.56, rel=0.1)
    assert shown["not_for_clinical_use"]
    code, out, _ = careloop("image", "segment", series, "--model", threshold_model, "--out", tmp_path / "out")
    assert code == 0
    assert "bright" in out
    assert "Wrote" in out


def test_a_series_with_a_hole_is_refused_in_one_line(
    careloop: Careloop, series: Path, threshold_model: Path, tmp_path: Path
) -> None:
    (series / "0005.dcm").unlink()
    code, _, err = careloop("image", "segment", series, "--model", threshold_model, "--out", tmp_path / "out")
    assert code == 1
    assert "missing slices" in err
    assert len(err.strip().splitlines()) == 1
