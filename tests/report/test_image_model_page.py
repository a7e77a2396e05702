"""The page of a trained image model, from evaluations that the evaluation room itself made of simulated predictions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from html_page import Page, loaded_from_outside

from careloop import InputError
from careloop.evaluate.detection import Boxes, Hit, evaluate_detection
from careloop.evaluate.discrimination import Threshold
from careloop.evaluate.estimate import to_json
from careloop.imaging.classify.evaluate import Bootstrap, HeldOut, Predicted, evaluate_held_out
from careloop.imaging.classify.model import Conformal, Labels
from careloop.report import charts
from careloop.report.image_model_page import ImageModelFacts, image_model_page, write_image_model_page
from careloop.report.model_card import ModelCard
from careloop.report.report import with_interval

CARD = ModelCard("chests", "0123456789ab", trained_on="simulated chests", images=4000)
THRESHOLD = Threshold(0.3, "the prevalence in tuning rows")
EVIL = '"><script>alert(1)</script>'


@lru_cache
def classified(
    kind: str = "multi", names: tuple[str, ...] = ("nodule", "effusion"), rare: str = "", group: str = "sex"
) -> dict[str, Any]:
    """What training writes of 240 simulated rows of 120 patients; nobody has the label `rare`."""
    rng = np.random.default_rng(0)
    truth = rng.random((240, len(names))) < 0.35
    if kind == "single":
        truth = np.eye(len(names), dtype=bool)[rng.integers(len(names), size=240)]
    truth[:, [name == rare for name in names]] = False

    def guesses(noise: float) -> np.ndarray:
        logits = 2.5 * truth - 1.5 + rng.normal(0, noise, truth.shape)
        likely = 1 / (1 + np.exp(-logits))
        return likely / likely.sum(axis=1, keepdims=True) if kind == "single" else likely

    thresholds = [THRESHOLD] * len(names)
    models = {
        "network": Predicted(guesses(1.0), thresholds),
        "logistic regression": Predicted(guesses(2.5), thresholds),
    }
    many = (0.6,) * len(names)
    return evaluate_held_out(
        HeldOut(
            Labels(names, kind),  # type: ignore[arg-type]
            np.repeat(np.arange(120), 2).astype(str),
            truth.astype(np.float32),
            {group: np.tile(["female", "male"], 120)},
        ),
        models,
        Conformal(0.9, many, many if kind == "multi" else ()),
        refused=rng.random(240) < 0.05,
        bootstrap=Bootstrap(60, 0),
        progress=lambda *_: None,
    )


@lru_cache
def detected() -> dict[str, Any]:
    """Findings in 40 simulated pictures: most lesions found, and false findings in half of the pictures."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (40, 2))
    truth = Boxes(np.arange(40), np.hstack([corner, corner + 8]))
    false = rng.uniform(60, 80, (20, 2))
    found = Boxes(
        np.concatenate([np.arange(30), np.arange(20)]),
        np.vstack([truth.box[:30] + 1, np.hstack([false, false + 8])]),
        score=np.concatenate([rng.normal(2, 1, 30), rng.normal(0, 1, 20)]),
    )
    figures = evaluate_detection(found, truth, np.arange(40), hit=Hit(iou=0.1), resamples=60)
    return {"how": "In images of subjects that nothing was fitted to.", "nodule": to_json(figures)}


def page(evaluation: dict[str, Any], **changes: Any) -> str:
    return image_model_page(ImageModelFacts(CARD, evaluation, **changes))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_image_model_page(ImageModelFacts(CARD, classified()), path)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pages whose tables are looked at: drawing takes most of the time."""
    for name in ("roc", "precision_recall", "calibration", "decision_curve", "forest"):
        monkeypatch.setattr(charts, name, lambda *_, **__: "")


def number(estimate: dict[str, float]) -> str:
    """An estimate as pages write it."""
    return Page(with_interval(estimate)).text


def test_it_is_whole_in_itself(html: str) -> None:
    assert not loaded_from_outside(html)
    assert "script" not in Page(html).tags
    assert len(html) < 2_000_000


def test_it_names_the_model_what_it_was_checked_on_and_its_purpose(html: str) -> None:
    text = Page(html).text
    assert text.count("Research software. Not for clinical use.") == 2
    assert "chests 0123456789ab on held-out images: 240 images of 120 patients" in text
    assert "Intervals: 60 bootstrap resamples by subject." in text
    assert "Simulated" not in text


@pytest.mark.usefixtures("no_charts")
def test_what_is_simulated_is_called_so() -> None:
    assert "these figures say nothing about patients" in Page(page(classified(), simulated=True)).text


def test_figures_are_those_of_the_evaluation_with_the_baseline_beside(html: str) -> None:
    text = Page(html).text
    models = classified()["labels"]["nodule"]["models"]
    network, baseline = (models[name]["figures"]["auroc"] for name in ("network", "logistic regression"))
    assert f"{number(network)} {number(baseline)}" in text
    assert f"Calibration slope {number(models['network']['calibration']['slope'])}" in text
    assert f"Recall {number(models['network']['decision']['recall'])}" in text
    assert "Thresholds: the prevalence in tuning rows" in text
    assert "network − logistic regression" in text


def test_each_label_has_its_charts(html: str) -> None:
    tags = Page(html).tags
    assert tags.count("details") == 3  # two labels, and averages over them
    assert tags.count("svg") == 2 * 6  # ROC, precision and recall, calibration of both models, decisions, subgroups
    text = Page(html).text
    for words in ("ROC curve, AUROC", "Decision curve", "observed probability", "tenths of the images"):
        assert words in text
    for model in ("network", "logistic regression"):
        assert f"Calibration, {model}" in text


def test_label_sets_refusals_and_subgroups_are_on_it(html: str) -> None:
    text, found = Page(html).text, classified()
    sets = found["label_sets"]["figures"]
    assert "Sets are made to hold the truth for 90 % of images." in text
    assert f"{number(sets['coverage'])} {number(sets['mean_size'])}" in text
    assert f"refuse as unlike those of its training: {number(found['refused'])}" in text
    female = found["labels"]["nodule"]["models"]["network"]["subgroups"][0]
    assert f"{female['variable']} {female['group']} {female['rows']['n']} {female['rows']['events']}" in text


@pytest.mark.usefixtures("no_charts")
def test_one_label_of_several_has_accuracy_and_averages() -> None:
    found = classified("single", ("none", "nodule", "mass"))
    text = Page(page(found)).text
    assert f"{number(found['accuracy']['network'])} {number(found['accuracy']['logistic regression'])}" in text
    macro = found["together"]["models"]["network"]["averages"]["macro"]["auroc"]
    assert f"macro network {number(macro)}" in text


@pytest.mark.usefixtures("no_charts")
def test_one_label_of_two_is_evaluated_once() -> None:
    text = Page(page(classified("single", ("none", "nodule")))).text
    assert "nodule 240" in text
    assert "Averages over labels" not in text
    assert "Does the set of answers hold the truth?" in text


@pytest.mark.usefixtures("no_charts")
def test_a_label_that_nobody_has_is_named_with_its_reason() -> None:
    text = Page(page(classified(rare="effusion"))).text
    assert "effusion was not evaluated: 0 of 240 held-out images with a known label have it." in text


@pytest.mark.usefixtures("no_charts")
def test_an_evaluation_of_one_outcome_is_read_too() -> None:
    text = Page(page(classified()["labels"]["nodule"])).text
    assert "the outcome: " in text
    assert "Decisions at the threshold" in text


def test_detectors_have_a_froc_curve() -> None:
    found = detected()
    html = page(found)
    text = Page(html).text
    assert "FROC curve, mean sensitivity" in text
    assert Page(html).tags.count("svg") == 1
    assert "40 lesions in 40 of 40 images of 40 subjects; 50 findings" in text
    assert number(found["nodule"]["cpm"]) in text
    assert "the finding's centre is closer to the lesion's than the lesion's radius" in text
    assert "intersection over union of at least 0.1" in text
    assert "In images of subjects that nothing was fitted to." in text
    assert not loaded_from_outside(html)
    assert "not estimable" in html  # JAFROC without images that are free of lesions


def test_an_evaluation_without_figures_is_refused() -> None:
    with pytest.raises(InputError, match="figures of labels or of findings"):
        page({"how": "nothing was held out"})


def test_hostile_text_is_escaped() -> None:
    found = {**classified(names=(EVIL, "effusion"), rare="effusion", group=EVIL), "how": EVIL}
    assert "script" not in Page(page(found)).tags
    assert "script" not in Page(page({"how": EVIL, EVIL: detected()["nodule"]})).tags
