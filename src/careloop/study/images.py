"""A patient's images from files or a PACS to labels, measurements, DICOM objects, a page, and events: each a stage."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from careloop import InputError, __version__
from careloop.imaging.finding import Finding
from careloop.imaging.measure import measure, record_measurements
from careloop.imaging.measure.texture.grid import settings_for
from careloop.imaging.pacs import Stored, fetch_series, store_files
from careloop.imaging.read.nifti import read_nifti_labels
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.segment.formats.read import read_models
from careloop.imaging.segment.formats.totalsegmentator import total_numbers
from careloop.imaging.segment.merge import merge_labels
from careloop.imaging.segment.model import SegmentationModel
from careloop.imaging.segment.run import RunSettings, Segmentation, segment
from careloop.imaging.segment.stages import Stage
from careloop.imaging.terms import described
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.nifti import write_nifti
from careloop.imaging.write.secondary_capture import write_secondary_capture
from careloop.imaging.write.segmentation import write_segmentation
from careloop.imaging.write.structured_report import write_structured_report
from careloop.record import Record
from careloop.report.image_montage import montage
from careloop.report.image_page import ImageFacts, write_image_page
from careloop.study.folder import RunFolder

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]
    Notify = Callable[[str, str], None]

LABELS, NAMES, FACTS = "labels.nii.gz", "labels.json", "segmentation.json"
TABLE, TABLE_CSV, PAGE, DICOM = "measurements.parquet", "measurements.csv", "report.html", "dicom"
FETCHED, UNFINISHED = "fetched", ".segmenting"
SERIES_URL = re.compile(r"(?P<url>https?://.+)/studies/(?P<study>[0-9.]+)/series/(?P<series>[0-9.]+)/?")


@dataclass(frozen=True)
class ImageTask:
    """What is to be segmented, and by what.

    `images` are paths, or DICOMweb addresses of series (`https://HOST/dicom-web/studies/UID/series/UID`), one for each
    channel of the model in folder `model`. `acquired` (UTC) is when the image was made, where its files do not say it.
    """

    images: tuple[str, ...]
    model: Path
    choice: Choice = field(default_factory=Choice)
    settings: RunSettings = field(default_factory=RunSettings)
    radiomics: Literal["none", "ibsi"] = "none"
    acquired: datetime | None = None


@dataclass(frozen=True)
class ImageResult:
    """What a finished folder holds; `stages` and `backend` are those of the run that made the labels."""

    folder: Path
    volume: Volume
    label_map: LabelMap
    table: pl.DataFrame
    findings: tuple[Finding, ...]
    stages: tuple[Stage, ...]
    backend: str
    dicom: tuple[Path, ...]

    @property
    def volumes_ml(self) -> dict[str, float]:
        """The volume of each structure that was found, by its name."""
        rows = self.table.filter(pl.col("quantity") == "volume")
        return dict(zip(rows["name"], rows["value"], strict=True))

    def record(self, path: Path, *, subject_id: int | None = None) -> Record:
        """Write the measurements into the record in folder `path` as events; again, nothing changes."""
        return record_measurements(path, self.table, self.volume, made_by=self.label_map.made_by, subject_id=subject_id)

    def send(self, url: str, *, progress: Progress | None = None) -> Stored:
        """Send the DICOM objects to the PACS at `url` (STOW-RS)."""
        if not self.dicom:
            raise InputError(f"{self.folder} has no DICOM objects to send: only images that came as DICOM give some")
        return store_files(url, self.dicom, progress=progress)


def segment_images(
    task: ImageTask, out: Path, *, notify: Notify | None = None, progress: Progress | None = None
) -> ImageResult:
    """Segment and measure a patient's images, and write all that comes of it to the folder `out`.

    labels.nii.gz and labels.json (names), measurements.parquet and .csv, dicom/ (segmentation, structured report and
    picture, where the images are DICOM), report.html, segmentation.json. A run that was stopped goes on where it was; a
    stage whose inputs have not changed is not run again.

    Raises:
        RefusedSeriesError: the geometry of an image, or what it shows, does not allow it to be used.
        InputError: an image or model cannot be read, they do not fit together, or memory is too small.
    """
    folder = RunFolder.begin(out, notify=notify)
    models = read_models(task.model)
    volumes = _read(task, out, progress)
    key = _fingerprint(volumes, models, task.settings)
    folder.stage(
        "segment",
        partial(_segment, out=out, volumes=volumes, models=models, settings=task.settings, progress=progress),
        writes=[LABELS, NAMES, FACTS],
        settings=key,
    )
    facts = json.loads((out / FACTS).read_text(encoding="utf-8"))
    label_map = _labels(out, facts, volumes[0])
    folder.stage(
        "measure",
        partial(_measure, label_map=label_map, volume=volumes[0], radiomics=task.radiomics, progress=progress),
        writes=[TABLE, TABLE_CSV],
        settings=[task.radiomics, __version__],
        reads=[LABELS],
    )
    table = pl.read_parquet(out / TABLE)
    result = _result(out, facts, volumes[0], label_map, table)
    if volumes[0].source.instances:
        folder.stage(
            "dicom",
            partial(_write_dicom, result=result),
            writes=[DICOM],
            settings=[key, __version__],
            reads=[LABELS, TABLE],
        )
        result = replace(result, dicom=tuple(sorted((out / DICOM).glob("*.dcm"))))
    folder.stage(
        "report", partial(_write_page, result=result), writes=[PAGE], settings=[key, __version__], reads=[LABELS, TABLE]
    )
    return result


def _read(task: ImageTask, out: Path, progress: Progress | None) -> list[Volume]:
    volumes = []
    for number, image in enumerate(task.images):
        match = SERIES_URL.fullmatch(image)
        if match:
            path = out / FETCHED / str(number)
            fetch_series(match["url"], match["study"], match["series"], path, progress=progress)
        else:
            path = Path(image)
        volume = read_volume(path, choice=task.choice, progress=progress)
        if task.acquired is not None and volume.source.acquired is None:
            volume = replace(volume, source=replace(volume.source, acquired=task.acquired))
        volumes.append(volume)
    return volumes


def _fingerprint(volumes: Sequence[Volume], models: Sequence[SegmentationModel], settings: RunSettings) -> list[str]:
    """All that the labels depend on: voxels and places of the images, models, and how they are run."""
    digests = []
    for volume in volumes:
        digest = hashlib.blake2b(np.ascontiguousarray(volume.voxels).data, digest_size=16)
        digest.update(repr((volume.affine.tolist(), volume.unit, volume.source.instances)).encode())
        digests.append(digest.hexdigest())
    run = replace(settings, resume_in=None, threads=None)
    return [*digests, *(f"{m.name} {m.version} {m.preparation} {m.tiling}" for m in models), repr(run), __version__]


def _segment(
    target: Path,
    *,
    out: Path,
    volumes: Sequence[Volume],
    models: Sequence[SegmentationModel],
    settings: RunSettings,
    progress: Progress | None,
) -> None:
    unfinished = out / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    parts: list[Segmentation] = []
    for number, model in enumerate(models, start=1):
        part = "" if len(models) == 1 else f"part {number} of {len(models)}, "
        run = replace(settings, resume_in=unfinished)
        parts.append(segment(volumes, model, settings=run, progress=_within(progress, part)))
    merged = merge_labels((part.label_map for part in parts), total_numbers() if len(parts) > 1 else None)
    write_nifti(replace(merged, segments=described(merged.segments)), target / LABELS)
    facts = {
        "made_by": merged.made_by,
        "segments": [asdict(segment) for segment in described(merged.segments)],
        "findings": [asdict(finding) for part in parts for finding in part.findings],
        "stages": [asdict(stage) for part in parts for stage in part.stages],
        "backend": parts[0].backend,
        "careloop": __version__,
        "not_for_clinical_use": True,
    }
    (target / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for left in unfinished.iterdir():
        left.unlink()
    unfinished.rmdir()


def _labels(out: Path, facts: dict[str, Any], volume: Volume) -> LabelMap:
    """The labels that were written, with names, codes and colours, on the grid of the image."""
    read = read_nifti_labels(out / LABELS)
    segments = tuple(Segment(**_tuples(segment)) for segment in facts["segments"])
    return LabelMap(read.labels, volume.affine, segments, facts["made_by"], volume.source)


def _tuples(segment: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in segment.items()}


def _measure(
    target: Path,
    *,
    label_map: LabelMap,
    volume: Volume,
    radiomics: Literal["none", "ibsi"],
    progress: Progress | None,
) -> None:
    texture = settings_for(volume.unit) if radiomics == "ibsi" else None
    table = measure(label_map, volume, texture=texture, progress=progress)
    table.write_parquet(target / TABLE)
    plain = table.with_columns(
        pl.format("{}:{}", pl.col(name).struct.field("scheme"), pl.col(name).struct.field("value")).alias(name)
        for name in ("concept", "structure")
    )
    plain.write_csv(target / TABLE_CSV)


def _result(out: Path, facts: dict[str, Any], volume: Volume, label_map: LabelMap, table: pl.DataFrame) -> ImageResult:
    found = (*volume.findings, *(Finding(**finding) for finding in facts["findings"]))
    return ImageResult(
        folder=out,
        volume=volume,
        label_map=label_map,
        table=table,
        findings=tuple(dict.fromkeys(found)),
        stages=tuple(Stage(**stage) for stage in facts["stages"]),
        backend=facts["backend"],
        dicom=(),
    )


def _write_dicom(target: Path, *, result: ImageResult) -> None:
    folder = target / DICOM
    folder.mkdir()
    segmentation = write_segmentation(result.label_map, result.volume, folder / "segmentation.dcm")
    if result.table["value"].is_not_null().any():
        write_structured_report(result.table, segmentation, folder / "measurements.dcm", volume=result.volume)
    write_secondary_capture(montage(result.volume, result.label_map), result.volume, folder / "picture.dcm")


def _write_page(target: Path, *, result: ImageResult) -> None:
    facts = ImageFacts(
        result.volume, result.label_map, result.table, result.findings, stages=result.stages, backend=result.backend
    )
    write_image_page(facts, target / PAGE)


def _within(progress: Progress | None, part: str) -> Progress | None:
    return None if progress is None else lambda what, done, total: progress(part + what, done, total)
