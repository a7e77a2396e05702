"""From results of image classification to what its page is made of."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from careloop.imaging.classify.apply import Classified
from careloop.imaging.classify.model import ClassifierFile
from careloop.imaging.volume import Volume
from careloop.report.classification_page import ClassificationFacts, ClassifiedImage, LabelFacts
from careloop.report.model_card import ModelCard, card_of


def classification_facts(images: tuple[ClassifiedImage, ...], said: ClassifierFile) -> ClassificationFacts:
    """What the page of these images of one model is made of."""
    level = said.conformal.level if said.conformal else None
    return ClassificationFacts(card(said), images, kind=said.labels.kind, level=level)


def card(said: ClassifierFile) -> ModelCard:
    """The model's card."""
    return card_of(asdict(said))


def classified_image(result: Classified, volume: Volume, said: ClassifierFile) -> ClassifiedImage:
    """One result for the page; `volume` is the whole image, of which only the result's slice is shown if it has one."""
    shown, place = volume, ""
    if result.slice is not None:
        shown = replace(volume, voxels=volume.voxels[result.slice : result.slice + 1])
        place = f"slice {result.slice + 1} of {len(volume.voxels)}"
    return ClassifiedImage(
        volume=shown,
        labels=() if result.refused else _labels(result, said),
        verdict=result.verdict,
        reason=result.reason,
        view=place,
        findings=result.findings,
    )


def _labels(result: Classified, said: ClassifierFile) -> tuple[LabelFacts, ...]:
    """Labels with their probabilities, the most probable first where exactly one is true."""
    present = absent = np.ones(len(result.labels), bool)
    if said.conformal is not None:
        present, absent = (rows[0] for rows in said.conformal.possible(result.probability[None]))
    single = said.labels.kind == "single"
    above = result.probability >= np.array(said.thresholds or (0.5,) * len(result.labels))
    order = np.argsort(-result.probability, kind="stable") if single else np.arange(len(result.labels))
    return tuple(
        LabelFacts(
            name=result.labels[at],
            probability=float(result.probability[at]),
            possible=bool(present[at]),
            may_be_absent=bool(absent[at]),
            present=None if single else bool(above[at]),
        )
        for at in order
    )
