"""Classifiers, detectors and restoration networks trained from one path, with a page on how good they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.report.image_model_page import ImageModelFacts, write_image_model_page
from careloop.report.model_card import card_of

if TYPE_CHECKING:
    from careloop.imaging.classify.data.dataset import ImageDataset
    from careloop.imaging.classify.model import Classifier
    from careloop.imaging.classify.settings import ClassifierSettings
    from careloop.imaging.classify.train import ClassifierSummary

    Progress = Callable[[str, int, int], None]

Kind = Literal["segment", "classify", "detect", "restore"]
MODEL, EVALUATION, PAGE = "model.json", "evaluation.json", "report.html"
EXPLAINED = 60  # tuning images on which maps are tested; each is seen by many altered networks


def kind_of(dataset: Path) -> Kind:
    """What is to be trained on what lies at a path. InputError where that is not plain."""
    if dataset.suffix.lower() == ".npz":
        return "classify"
    if dataset.suffix.lower() in (".csv", ".parquet", ".tsv"):
        head = dataset.read_bytes()[:4096].decode("utf-8", errors="replace").splitlines()[:1]
        return "detect" if any(name in head[0] for name in ("row_low", "diameter", "box")) else "classify"
    if (dataset / "dataset.json").exists():
        return "segment"
    raise InputError(
        f"{dataset} must be a table (.csv) or MedMNIST file (.npz) of labelled images, or a folder with dataset.json, "
        "imagesTr and labelsTr; for a folder of images without labels say --task restore"
    )


def train_image_classifier(
    dataset: Path, out: Path, *, settings: ClassifierSettings, progress: Progress
) -> ClassifierSummary:
    """Train a classifier, test its maps on tuning images, and write the page of its evaluation."""
    from careloop.imaging.classify.model import read_classifier
    from careloop.imaging.classify.train import train_classifier
    from careloop.imaging.explain.checked import check_explanations

    made = train_classifier(dataset, out, settings=settings, progress=progress)
    classifier = read_classifier(out)
    if not (out / "explanation.json").exists():
        images, target = _tuning_images(dataset, classifier, settings)
        if len(images):
            check_explanations(classifier, images, target, progress=progress)
    write_report(out)
    return made


def _tuning_images(
    dataset: Path, classifier: Classifier, settings: ClassifierSettings
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Some tuning images (n, channels, *size) with what is true of them (n, labels)."""
    from careloop.imaging.classify.data.read import open_images
    from careloop.imaging.classify.data.split import with_splits
    from careloop.imaging.classify.prepare import prepare

    opened = open_images(dataset, settings.columns, names=settings.names, modality=settings.modality)
    tuning: ImageDataset = with_splits(opened, seed=settings.seed).dataset
    rows = np.flatnonzero(tuning.split == "tuning")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), EXPLAINED)).astype(int))] if len(rows) else rows
    rows = rows[np.argsort(tuning.places[rows], kind="stable")]
    kept, images = [], []
    read = tuning.images.volumes(tuning.places[rows].tolist())
    for row, (_, volume) in zip(rows.tolist(), read, strict=True):
        if isinstance(volume, str):
            continue
        try:
            images.append(prepare(volume, classifier.said.input))
        except InputError:
            continue
        kept.append(row)
    return np.stack(images) if images else np.empty(0), tuning.target[kept]


def write_report(folder: Path) -> Path:
    """Write the page of a trained classifier's or detector's evaluation into its folder; returns its path.

    Raises InputError where the folder holds no such model.
    """
    try:
        document = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        card = card_of(document)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} holds no trained image model ({type(error).__name__}); name its folder") from error
    beside = folder / EVALUATION
    evaluation = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else document.get("evaluation") or {}
    if not evaluation:
        raise InputError(f"{folder}: the model was not evaluated, as its data had no held-out images")
    simulated = "simulated" in json.dumps(document.get("training", {})).lower()
    page = folder / PAGE
    write_image_model_page(ImageModelFacts(card, evaluation, simulated=simulated), page)
    return page
