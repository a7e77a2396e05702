"""`careloop image detect`: a table, a page and one JSON object that say the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
from click.testing import CliRunner
from detection_blobs import blob_image
from PIL import Image

from careloop.cli import cli
from careloop.imaging.detect import DetectorSummary


def test_findings_are_in_the_table_on_the_page_and_in_the_answer(trained: DetectorSummary, tmp_path: Path) -> None:
    image, boxes = next(made for made in (blob_image(seed, (40, 48)) for seed in range(2000, 2050)) if len(made[1]))
    Image.fromarray(np.clip(image * 16 + 80, 0, 255).astype(np.uint8)).save(tmp_path / "balls.png")
    given = ["image", "detect", str(tmp_path / "balls.png"), "--model", str(trained.detector.folder), "--out"]
    run = CliRunner().invoke(cli, [*given, str(tmp_path / "out"), "--lowest", "0.3", "--json"])
    assert run.exit_code == 0, run.output
    answer = json.loads(run.stdout)
    table = pl.read_csv(tmp_path / "out" / "detections.csv")
    assert len(answer["detections"]) == len(table) >= 1
    surest = table.row(0, named=True)
    middle = [(surest[f"{axis}_low"] + surest[f"{axis}_high"]) / 2 for axis in ("row", "column")]
    assert ((boxes[:, :2] < middle) & (middle < boxes[:, 2:])).all(axis=1).any()
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{len(table)} finding" in page
    assert f"{100 * surest['probability']:.0f} %" in page
    assert "probability of at least 30 %, as was asked for" in page
    assert f"in held-out images {100 * trained.evaluation['ball'].froc.value[3]:.0f} % were found" in page
