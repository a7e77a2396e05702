"""A trained classifier as a model folder: calibrated, checked on held-out images once, and described."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError, __version__
from careloop.imaging.classify.baseline import HOW as BASELINE_HOW
from careloop.imaging.classify.baseline import NAME as BASELINE
from careloop.imaging.classify.baseline import baseline_probabilities
from careloop.imaging.classify.calibrate import decision_thresholds, fit_calibration, fit_conformal
from careloop.imaging.classify.course import Course
from careloop.imaging.classify.data.dataset import HELD_OUT, MISSING, VIEW, Progress
from careloop.imaging.classify.data.ready import ReadyImages
from careloop.imaging.classify.evaluate import NETWORK, Bootstrap, HeldOut, Predicted, evaluate_held_out
from careloop.imaging.classify.fit import LOOKED_AT, outputs
from careloop.imaging.classify.model import Calibration, ClassifierFile, Conformal, Labels, write_classifier
from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.familiar import fit_familiar
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.evaluate.discrimination import Threshold
    from careloop.imaging.classify.image_classifier import ImageClassifier
    from careloop.imaging.familiar import Familiar

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"
MOST_FAMILIAR = 2000  # images in memory that the check for unlike ones is fitted to, and as many for its threshold
LIBRARIES = ("torch", "numpy", "safetensors", "scikit-learn")
MIRRORED = {"never": "never: sides keep their meaning", "left-right": "half of the images, left to right"}
HOW = (
    "Held-out images, evaluated once. Weights were fitted to training images; the epoch, the calibration and the "
    "decision thresholds to one part of the tuning images, the label sets' thresholds to the other."
)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network gives for the rows of one part: places (n,), logits (n, k) and embeddings (n, d)."""

    places: NDArray[np.int64]
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything about a model that tuning rows decide; `familiar` may be why there is none."""

    calibration: Calibration
    conformal: Conformal
    familiar: Familiar | str
    thresholds: tuple[Threshold, ...]


def write_model(
    network: ImageClassifier,
    ready: ReadyImages,
    course: Course,
    *,
    settings: ClassifierSettings,
    out: Path,
    progress: Progress,
) -> ClassifierFile:
    """Write evaluation.json, predictions.parquet, the weights and, last, model.json, whose being there says done."""
    progress("calibrating", 0, 1)
    fitted = _fit_on_tuning(network, ready, settings)
    held_out = _seen(network, ready, ready.held_out)
    familiar = None if isinstance(fitted.familiar, str) else fitted.familiar
    refused = None if familiar is None else _refused(familiar, ready, held_out)
    progress("fitting the baseline", 0, 1)
    labels = ready.dataset.labels
    tuned, simple = baseline_probabilities(ready, [ready.tuning, ready.held_out])
    chosen = decision_thresholds(tuned, ready.target[ready.tuning], ready.subjects(ready.tuning))
    models = {
        NETWORK: Predicted(fitted.calibration.probability(held_out.logits, labels), fitted.thresholds),
        BASELINE: Predicted(simple, chosen),
    }
    rows = held_out_rows(ready)
    bootstrap = Bootstrap(settings.resamples, settings.seed)
    found = evaluate_held_out(rows, models, fitted.conformal, refused=refused, bootstrap=bootstrap, progress=progress)
    write_whole(out / EVALUATION, json.dumps(found, indent=1) + "\n")
    _write_predictions(ready, models, fitted.conformal, refused, out / PREDICTIONS)
    said = _description(ready, course, settings, fitted, found)
    return write_classifier(network, said, out, familiar=familiar).said


def _fit_on_tuning(network: ImageClassifier, ready: ReadyImages, settings: ClassifierSettings) -> Fitted:
    labels = ready.dataset.labels
    tuning, apart = (_seen(network, ready, places) for places in (ready.tuning, ready.conformal))
    target = ready.target[ready.tuning]
    calibration = fit_calibration(tuning.logits, target, labels)
    probability = calibration.probability(apart.logits, labels)
    return Fitted(
        calibration,
        fit_conformal(probability, ready.target[ready.conformal], labels, level=settings.conformal_level),
        _familiar(ready, tuning, apart, settings),
        decision_thresholds(calibration.probability(tuning.logits, labels), target, ready.subjects(ready.tuning)),
    )


def _seen(network: ImageClassifier, ready: ReadyImages, places: NDArray[np.int64]) -> Seen:
    return Seen(places, *outputs(network, ready.images, places))


def _familiar(ready: ReadyImages, fitted: Seen, threshold: Seen, settings: ClassifierSettings) -> Familiar | str:
    """The check for unlike images, or why these are too few for one; the label sets' rows set its threshold too."""
    parts = [_some(len(part.places)) for part in (fitted, threshold)]
    places = np.concatenate([part.places[rows] for part, rows in zip((fitted, threshold), parts, strict=True)])
    embeddings = np.concatenate([part.embeddings[rows] for part, rows in zip((fitted, threshold), parts, strict=True)])
    try:
        return fit_familiar(
            embeddings,
            ready.images[places],
            false_refusals=settings.false_refusals,
            patients=ready.subjects(places),
            threshold_rows=np.arange(len(places)) >= len(parts[0]),
            seed=settings.seed,
        )
    except InputError as error:
        return str(error)


def _some(n: int) -> NDArray[np.int64]:
    """At most `MOST_FAMILIAR` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_FAMILIAR)).round().astype(np.int64))


def _refused(familiar: Familiar, ready: ReadyImages, held_out: Seen) -> NDArray[np.bool_]:
    parts = np.array_split(np.arange(len(held_out.places)), -(-len(held_out.places) // LOOKED_AT))
    return np.concatenate(
        [familiar.refused(held_out.embeddings[part], ready.images[held_out.places[part]]) for part in parts]
    )


def held_out_rows(ready: ReadyImages) -> HeldOut:
    """The rows that are evaluated, in the order of `ready.held_out`."""
    dataset = ready.dataset
    held = dataset.split == HELD_OUT
    groups = {name: values[held] for name, values in dataset.groups.items()}
    return HeldOut(dataset.labels, dataset.subject_id[held], dataset.target[held], groups)


def _write_predictions(
    ready: ReadyImages,
    models: Mapping[str, Predicted],
    conformal: Conformal,
    refused: NDArray[np.bool_] | None,
    path: Path,
) -> None:
    """One line a held-out row: its number in the data set, whose it is, truth, probabilities, label set, refusal."""
    import polars as pl

    rows, names = held_out_rows(ready), ready.dataset.labels.names
    possible, absent = conformal.possible(models[NETWORK].probability)
    columns: dict[str, Any] = {
        "row": ready.dataset.rows[ready.dataset.split == HELD_OUT],
        "subject_id": rows.subject_id,
        **rows.groups,
    }
    for at, name in enumerate(names):
        truth = rows.target[:, at]
        columns[f"{name} truth"] = pl.Series(np.nan_to_num(truth) == 1).set(pl.Series(np.isnan(truth)), None)
        columns |= {f"{name} {model}": found.probability[:, at] for model, found in models.items()}
        columns[f"{name} possible"] = possible[:, at]
        if ready.dataset.labels.kind == "multi":
            columns[f"{name} may be absent"] = absent[:, at]
    columns["refused"] = np.zeros(len(rows.target), bool) if refused is None else refused
    with whole_file(path) as draft:
        pl.DataFrame(columns).write_parquet(draft)


def _description(
    ready: ReadyImages, course: Course, settings: ClassifierSettings, fitted: Fitted, found: dict[str, Any]
) -> ClassifierFile:
    dataset, labels = ready.dataset, ready.dataset.labels
    check = f"none: {fitted.familiar}" if isinstance(fitted.familiar, str) else "fitted to tuning images"
    views = set(dataset.groups.get(VIEW, np.array([], str)).tolist()) - {MISSING}
    return ClassifierFile(
        name=dataset.name,
        architecture=course.architecture,
        input=course.input,
        labels=labels,
        intended_use=f"Tells apart {', '.join(labels.names)} in images like those it was trained on, for research.",
        modalities=_stated(ready, ready.prepared.modality),
        views=tuple(sorted(views)),
        body_parts=settings.body_parts or _stated(ready, ready.prepared.body_part),
        calibration=fitted.calibration,
        conformal=fitted.conformal,
        thresholds=tuple(threshold.value for threshold in fitted.thresholds) if labels.kind == "multi" else (),
        training=training_facts(ready, course, settings) | {"check for unlike images": check},
        evaluation=main_figures(found, labels),
        libraries={"careloop": __version__} | {name: version(name) for name in LIBRARIES},
    )


def _stated(ready: ReadyImages, values: NDArray[np.str_]) -> tuple[str, ...]:
    """What training images say of themselves; nothing where one of them says nothing, as then anything may be given."""
    said = set(values[ready.train].tolist())
    return () if "" in said else tuple(sorted(said))


def training_facts(ready: ReadyImages, course: Course, settings: ClassifierSettings) -> dict[str, Any]:
    """On what and how the network was trained; rows and subjects are counted, not named."""
    dataset, labels = ready.dataset, ready.dataset.labels
    positive = np.nansum(ready.target[ready.train], axis=0).astype(int)
    parts = {"train": ready.train, "tuning": ready.tuning, "label sets": ready.conformal, "held out": ready.held_out}
    return {
        "data": dataset.name,
        "images": {name: len(places) for name, places in parts.items()},
        "subjects": {name: len(np.unique(ready.subjects(places))) for name, places in parts.items()},
        "training images with each label": dict(zip(labels.names, positive.tolist(), strict=True)),
        "split by": "file" if dataset.one_image_each else "subject",
        "rejected rows": len(dataset.rejected),
        "rows moved to an earlier split": ready.moved,
        "notes": list(dataset.notes),
        "augmentation": settings.augmentation,
        "mean image taken off": bool(course.architecture.get("mean_image")),
        "mirrored": MIRRORED[settings.mirror],
        "pretrained": course.pretrained,
        "epochs": course.epochs,
        "batch size": settings.batch_size,
        "seed": settings.seed,
        "learning rate": settings.learning_rate,
        "precision": course.precision,
    }


def main_figures(found: dict[str, Any], labels: Labels) -> dict[str, Any]:
    """The figures of evaluation.json that a model is first asked for, of the network and the baseline."""
    each = {}
    for name, label in found["labels"].items():
        if "reason" in label:
            each[name] = label
            continue
        models = {
            model: one["figures"]
            | {key: one["calibration"][key] for key in ("intercept", "slope", "observed_expected")}
            for model, one in label["models"].items()
        }
        each[name] = models | {"auroc difference": label["comparisons"][0]["differences"]["auroc"]}
    return {
        "how": HOW,
        "baseline": BASELINE_HOW,
        "labels": each,
        **{key: found[key] for key in ("rows", "subjects", "accuracy", "label_sets", "refused")},
    }
