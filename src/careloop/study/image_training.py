"""Classifiers, detectors and restoration networks trained from one path, with a page on how good they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from careloop import InputError
from careloop.report.image_model_page import ImageModelFacts, write_image_model_page
from careloop.report.model_card import card_of

if TYPE_CHECKING:
    from careloop.imaging.classify.settings import ClassifierSettings
    from careloop.imaging.classify.train import ClassifierSummary
    from careloop.imaging.explain.maps import Method

    Progress = Callable[[str, int, int], None]

Kind = Literal["segment", "classify", "detect", "restore"]
EXPLAINED_BY: tuple[Method, ...] = ("grad_cam",)  # others take many times as long to test: check_explanations
BOXES = {"row_low", "diameter_mm"}  # a column of either kind of boxes
MODEL, EVALUATION, PAGE = "model.json", "evaluation.json", "report.html"


def kind_of(dataset: Path) -> Kind:
    """What is to be trained on what lies at a path. InputError where that is not plain."""
    if dataset.suffix.lower() == ".npz":
        return "classify"
    if dataset.suffix.lower() in (".csv", ".parquet", ".tsv"):
        first = "".join(dataset.read_bytes()[:4096].decode("utf-8", errors="replace").splitlines()[:1])
        return "detect" if BOXES & set(first.split(",")) else "classify"
    if (dataset / "dataset.json").exists():
        return "segment"
    raise InputError(
        f"{dataset} must be a table (.csv) or MedMNIST file (.npz) of labelled images, or a folder with dataset.json, "
        "imagesTr and labelsTr; for a folder of images without labels say --task restore"
    )


def train_image_classifier(
    dataset: Path, out: Path, *, settings: ClassifierSettings, progress: Progress
) -> ClassifierSummary:
    """Train a classifier, test its maps on images that were held apart, and write the page of its evaluation."""
    from careloop.imaging.classify.train import train_classifier
    from careloop.imaging.explain.checked import check_explanations

    check = partial(check_explanations, methods=EXPLAINED_BY, progress=progress)
    made = train_classifier(dataset, out, settings=settings, check=check, progress=progress)
    write_report(out)
    return made


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
    subject = "files" if document.get("training", {}).get("split by") == "file" else "patients"
    write_image_model_page(ImageModelFacts(card, evaluation, simulated=simulated, subject=subject), page)
    return page
