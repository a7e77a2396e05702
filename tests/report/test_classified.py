"""Results of the classification room as its page shows them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from careloop.imaging.classify.apply import Classified, decided
from careloop.imaging.classify.model import ClassifierFile, Conformal, InputFormat, Labels
from careloop.imaging.volume import Volume
from careloop.report.classified import card, classification_facts, classified_image

VOLUME = Volume(np.arange(5 * 16).reshape(5, 4, 4), np.eye(4), "CT")
NAMES = ("none", "nodule", "mass")


def said(kind: Literal["single", "multi"], conformal: Conformal | None) -> ClassifierFile:
    training: dict[str, Any] = {"data": "chests", "images": {"train": 40}, "subjects": {"train": 30}}
    return ClassifierFile(
        "nodules", {}, InputFormat((4, 4)), Labels(NAMES, kind), conformal=conformal, training=training
    )


def result(model: ClassifierFile, *probability: float, at: int | None = None) -> Classified:
    nothing = Classified(0, at, "nodules", NAMES, "refused", np.full(3, np.nan), reason="unlike")
    return decided(nothing, np.array(probability), model) if probability else nothing


def test_one_label_of_several_is_sorted_with_its_set() -> None:
    model = said("single", Conformal(0.9, (0.8, 0.8, 0.8)))
    shown = classified_image(result(model, 0.1, 0.3, 0.6), VOLUME, model)
    assert [(one.name, one.possible, one.present) for one in shown.labels] == [
        ("mass", True, None), ("nodule", True, None), ("none", False, None)]  # fmt: skip
    assert shown.verdict == "abstained"
    assert "several" in shown.reason


@pytest.mark.parametrize("absent", [(0.4, 0.4, 0.4), ()])
def test_independent_labels_agree_with_the_result(absent: tuple[float, ...]) -> None:
    model = said("multi", Conformal(0.9, (0.7, 0.7, 0.7), absent))
    found = result(model, 0.1, 0.35, 0.9)
    shown = classified_image(found, VOLUME, model)
    assert [one.name for one in shown.labels] == list(NAMES)
    assert [one.name for one in shown.labels if one.possible] == list(found.label_set)
    if absent:
        assert [one.name for one in shown.labels if one.possible == one.may_be_absent] == list(found.undecided)
    assert [one.present for one in shown.labels] == [False, False, True]


def test_a_refusal_has_its_reason_and_no_labels() -> None:
    model = said("single", None)
    shown = classified_image(result(model), VOLUME, model)
    assert (shown.verdict, shown.reason, shown.labels) == ("refused", "unlike", ())


def test_only_the_slice_of_the_result_is_shown() -> None:
    model = said("single", None)
    shown = classified_image(result(model, 0.1, 0.2, 0.7, at=2), VOLUME, model)
    assert np.array_equal(shown.volume.voxels, VOLUME.voxels[2:3])
    assert shown.view == "slice 3 of 5"


def test_facts_are_those_of_the_model() -> None:
    model = said("multi", Conformal(0.9, (0.7, 0.7, 0.7)))
    facts = classification_facts((), model)
    assert (facts.kind, facts.level, facts.card) == ("multi", 0.9, card(model))
    assert (facts.card.images, facts.card.trained_on) == (40, "chests")
    assert classification_facts((), said("single", None)).level is None
