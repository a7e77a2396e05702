"""An image through a detector: findings as a table, on a page, and as events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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
from careloop.report.detection_page import DetectionFacts, write_detection_page
from careloop.report.model_card import card_of

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]

TABLE, PAGE = "detections.csv", "report.html"
SCHEMA = {
    "label": pl.String, "probability": pl.Float64, "diameter_mm": pl.Float64,
    **{f"centre_{axis}_mm": pl.Float64 for axis in "xyz"},
    **{f"{axis}_{end}": pl.Float64 for end in ("low", "high") for axis in ("slice", "row", "column")},
}  # fmt: skip


@dataclass(frozen=True)
class DetectResult:
    """What was found in an image, the surest first, with the table and the page of it."""

    table: Path
    page: Path
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
    """Find what the detector in folder `model` knows in an image, and write detections.csv and report.html to `out`.

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
    said = detector.said
    facts = DetectionFacts(
        volume=volume,
        found=found,
        labels=said.labels,
        card=card_of(asdict(said)),
        evaluation=said.evaluation,
        threshold=said.threshold if lowest is None else lowest,
        chosen=lowest is None,
    )
    with whole_file(out / PAGE) as draft:
        write_detection_page(facts, draft)
    return DetectResult(out / TABLE, out / PAGE, volume, detector, found)
