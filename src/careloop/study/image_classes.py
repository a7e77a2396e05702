"""Images through a classification model: results as a table, a page with tested maps, and events."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.imaging.classify.apply import ApplySettings, Classified, classify
from careloop.imaging.classify.events import record_classification
from careloop.imaging.classify.model import Classifier, read_classifier
from careloop.imaging.classify.prepare import prepare
from careloop.imaging.explain.checked import read_checked
from careloop.imaging.explain.explain import explain_prepared
from careloop.imaging.explain.maps import WORDS
from careloop.imaging.explain.overlay import overlay_png
from careloop.imaging.finding import SIMULATED
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.volume import Volume
from careloop.record import Record
from careloop.record.whole_file import write_whole
from careloop.report.classification_page import (
    ClassificationFacts,
    ExplanationMap,
    write_classification_page,
)
from careloop.report.classified import classification_facts, classified_image
from careloop.study.similar_images import Past, similar_table, similar_to, with_similar

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]

TABLE, FACTS, PAGE, SIMILAR = "results.csv", "results.json", "report.html", "similar.csv"
MOST_SHOWN = 30  # images on the page; the table has all


@dataclass(frozen=True)
class ClassifyTask:
    """Images (paths) and the model's folder; `acquired` (UTC) is when images were made whose files do not say it."""

    images: tuple[Path, ...]
    model: Path
    choice: Choice = field(default_factory=Choice)
    settings: ApplySettings = field(default_factory=ApplySettings)
    acquired: datetime | None = None


@dataclass(frozen=True)
class ClassifyResult:
    """What came of it: one result an image or slice, in order."""

    folder: Path
    volumes: tuple[Volume, ...]
    found: tuple[Classified, ...]

    def record(self, path: Path, *, subject_id: int | None = None) -> Record:
        """Write findings, label sets and embeddings into the record in folder `path` as events."""
        for at, volume in enumerate(self.volumes):
            record = record_classification(
                path, [one for one in self.found if one.image == at], volume, subject_id=subject_id
            )
        return record


def classify_images(
    task: ClassifyTask, out: Path, *, past: Past | None = None, progress: Progress | None = None
) -> ClassifyResult:
    """Classify images and write results.csv, results.json and report.html to the folder `out`.

    With `past`, the images of other patients that look alike to the model are on the page, and which they are in
    similar.csv.

    Raises:
        RefusedSeriesError: the geometry of an image does not allow it to be used.
        InputError: an image or the model cannot be read.
    """
    classifier = read_classifier(task.model)
    volumes = tuple(_read(path, task, progress) for path in task.images)
    found = tuple(classify(volumes, classifier, settings=task.settings, progress=progress))
    out.mkdir(parents=True, exist_ok=True)
    rows = [facts_of(one) for one in found]
    write_whole(out / FACTS, json.dumps({"made_by": classifier.made_by, "results": rows}, indent=1) + "\n")
    write_whole(out / TABLE, result_table(found).write_csv())
    alike = [] if past is None else similar_to(found, volumes, past)
    if alike:
        write_whole(out / SIMILAR, similar_table(found, alike).write_csv())
    facts = page_facts(found, volumes, classifier, progress=progress)
    write_classification_page(with_similar(facts, alike), out / PAGE)
    return ClassifyResult(out, volumes, found)


def _read(path: Path, task: ClassifyTask, progress: Progress | None) -> Volume:
    volume = read_volume(path, choice=task.choice, progress=progress)
    if task.acquired is not None and volume.source.acquired is None:
        volume = replace(volume, source=replace(volume.source, acquired=task.acquired))
    return volume


def facts_of(one: Classified) -> dict[str, Any]:
    """A result as plain JSON values, without the embedding."""
    probability = dict(zip(one.labels, one.probability.tolist(), strict=True))
    return {
        "image": one.image + 1,
        "slice": None if one.slice is None else one.slice + 1,
        "verdict": one.verdict,
        "probability": None if one.refused else probability,
        "answer": list(one.answer),
        "cannot_be_ruled_out": list(one.label_set),
        "level": one.level or None,
        "familiarity_p": one.p_value,
        "reason": one.reason,
        "findings": [asdict(finding) for finding in one.findings],
        "not_for_clinical_use": True,
    }


def result_table(found: Sequence[Classified]) -> pl.DataFrame:
    """One row an image or slice: verdict, reason, label set, and the probability of each label (null where refused)."""
    rows = [
        {
            "image": one.image + 1,
            "slice": None if one.slice is None else one.slice + 1,
            "verdict": one.verdict,
            "cannot_be_ruled_out": "; ".join(one.label_set),
            "reason": one.reason,
            **{label: None if one.refused else float(p) for label, p in zip(one.labels, one.probability, strict=True)},
        }
        for one in found
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def page_facts(
    found: Sequence[Classified], volumes: Sequence[Volume], classifier: Classifier, *, progress: Progress | None
) -> ClassificationFacts:
    """What the page shows: the first `MOST_SHOWN` results, each with a map where the model's maps passed their test."""
    images = []
    for one in found[:MOST_SHOWN]:
        shown = classified_image(one, volumes[one.image], classifier.said)
        if not one.refused:
            shown = replace(shown, maps=(_map(one, shown.volume, classifier, progress),))
        images.append(shown)
    facts = classification_facts(tuple(images), classifier.said)
    return replace(facts, simulated=any(SIMULATED in volume.findings for volume in volumes))


def _map(one: Classified, shown: Volume, classifier: Classifier, progress: Progress | None) -> ExplanationMap:
    """The map of the most probable label, or why there is none."""
    label = one.labels[int(np.argmax(one.probability))]
    try:
        checked = read_checked(classifier)
        image = prepare(shown, classifier.said.input)[None]
        made = explain_prepared(image, classifier, label=label, checked=checked, progress=progress)[0]
    except InputError as error:
        return ExplanationMap(label, "", valid=False, verdict=str(error))
    return ExplanationMap(label, WORDS[made.method], valid=True, verdict=made.validity.text, picture=overlay_png(made))
