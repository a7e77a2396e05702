"""An image through a detector: findings as a table and as events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from careloop.imaging.detect import Detection, Detector, detect, read_detector
from careloop.imaging.detect.events import detection_events, record_detections
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.volume import Volume
from careloop.record import Record
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]

TABLE = "detections.csv"
SCHEMA = {
    "label": pl.String, "probability": pl.Float64, "diameter_mm": pl.Float64,
    **{f"centre_{axis}_mm": pl.Float64 for axis in "xyz"},
    **{f"{axis}_{end}": pl.Float64 for end in ("low", "high") for axis in ("slice", "row", "column")},
}  # fmt: skip


@dataclass(frozen=True)
class DetectResult:
    """What was found in an image, the surest first, and the table of it."""

    table: Path
    volume: Volume
    detector: Detector
    found: tuple[Detection, ...]

    def record(self, path: Path, *, subject_id: int) -> Record:
        """Write the findings into the record in folder `path` as events."""
        said = self.detector.said
        made_by = f"{said.name} {said.version}"
        events = detection_events(self.found, self.volume, subject_id=subject_id, made_by=made_by, labels=said.labels)
        return record_detections(path, events)


def detect_image(
    image: Path,
    model: Path,
    out: Path,
    *,
    choice: Choice | None = None,
    lowest: float | None = None,
    acquired: datetime | None = None,
    progress: Progress | None = None,
) -> DetectResult:
    """Find what the detector in folder `model` knows in an image, and write detections.csv to the folder `out`.

    Raises:
        RefusedSeriesError: the geometry of the image does not allow it to be used.
        InputError: the image or the model cannot be read, or they do not fit together.
    """
    detector = read_detector(model)
    volume = read_volume(image, choice=choice, progress=progress)
    if acquired is not None and volume.source.acquired is None:
        volume = replace(volume, source=replace(volume.source, acquired=acquired))
    found = detect(volume, detector, lowest=lowest, progress=progress)
    rows = [(one.label, one.probability, one.diameter_mm, *one.centre_mm, *one.box) for one in found]
    with whole_file(out / TABLE) as draft:
        pl.DataFrame(rows, schema=SCHEMA, orient="row").write_csv(draft)
    return DetectResult(out / TABLE, volume, detector, found)
