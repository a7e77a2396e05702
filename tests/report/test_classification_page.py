"""The page of classified images: doubt in words, nothing of refused images or rejected maps, and no patient."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page, loaded_from_outside
from PIL import Image

from careloop import InputError
from careloop.imaging.finding import SIMULATED, Finding
from careloop.imaging.volume import Source, Volume
from careloop.report.classification_page import (
    ClassificationFacts,
    ClassifiedImage,
    ExplanationMap,
    LabelFacts,
    SimilarImage,
    classification_page,
    set_words,
    write_classification_page,
)
from careloop.report.image_windows import Window
from careloop.report.model_card import HeldOutFigures, ModelCard, card_of

EST = {"value": 0.874, "low": 0.851, "high": 0.896, "reason": None}
SLOPE = {"value": 1.02, "low": 0.93, "high": 1.11, "reason": None}
CARD = ModelCard(
    "nodules", "0123456789ab", intended_use="Tells nodule from none, for research.", trained_on="simulated chests",
    images=4000, patients=3100, takes=("CR", "PA"), held_out="1,000 images of 800 patients",
    figures=(HeldOutFigures("nodule", EST, SLOPE), HeldOutFigures("mass", reason="0 of 9 images have it")),
    warning="No regulator has reviewed this model.",
)  # fmt: skip


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), colour).save(file, format="png")
    return file.getvalue()


def image(**changes: object) -> ClassifiedImage:
    voxels = np.arange(400, dtype=np.float32).reshape(1, 20, 20)
    source = Source(patient_id="PAT-4711", study="1.2.840.77", files=("/data/Meier^Anna.dcm",))
    volume = Volume(voxels, np.eye(4), "CR", body_part="CHEST", placed=False, source=source)
    labels = (LabelFacts("none", 0.271), LabelFacts("nodule", 0.729), LabelFacts("mass", 0.0, possible=False))
    return replace(ClassifiedImage(volume, labels, view="PA"), **changes)  # type: ignore[arg-type]


def facts(*images: ClassifiedImage, **changes: object) -> ClassificationFacts:
    return replace(ClassificationFacts(CARD, images or (image(),), level=0.9), **changes)  # type: ignore[arg-type]


def shown(html: str, alt: str) -> list[bytes]:
    found = re.findall(rf'<img[^>]*alt="{re.escape(alt)}[^"]*"[^>]*base64,([^"]+)"', html)
    return [base64.b64decode(data) for data in found]


def test_it_is_whole_in_itself_and_has_no_patient(tmp_path: Path) -> None:
    write_classification_page(facts(), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not loaded_from_outside(html)
    assert "script" not in Page(html).tags
    for secret in ("PAT-4711", "1.2.840.77", "Meier"):
        assert secret not in html


def test_probabilities_and_doubt_are_in_words() -> None:
    text = Page(classification_page(facts())).text
    assert text.count("Research software. Not for clinical use.") == 2
    assert "nodules 0123456789ab" in text
    assert "Cannot exclude: none, nodule." in text
    assert "none 27.1 % cannot be excluded nodule 72.9 % cannot be excluded mass 0.0 % excluded" in text
    assert "hold the truth for 90 % of images" in text
    assert "CR, chest, PA" in text
    without = Page(classification_page(facts(level=None))).text
    assert "Cannot exclude" not in without
    assert "This model has no label sets." in without


def test_sets_of_one_label_in_words() -> None:
    def of(*possible: bool) -> str:
        return set_words([LabelFacts(n, 0.5, possible=p) for n, p in zip("ab", possible, strict=True)], "single", 0.9)

    assert of(True, False) == "Cannot exclude: a. All other labels are excluded at this level."
    assert of(True, True) == "Cannot exclude: a, b."
    assert of(False, False).startswith("No label fits at this level")


def test_sets_of_many_labels_in_words() -> None:
    labels = [
        LabelFacts("effusion", 0.97, possible=True, may_be_absent=False, present=True),
        LabelFacts("nodule", 0.4, possible=True, may_be_absent=True, present=False),
        LabelFacts("mass", 0.01, possible=False, may_be_absent=True, present=False),
        LabelFacts("oedema", 0.5, possible=False, may_be_absent=False, present=True),
    ]
    wanted = "Found: effusion. Cannot exclude: nodule. Excluded: mass. No answer fits: oedema."
    assert set_words(labels, "multi", 0.9) == wanted
    text = Page(classification_page(facts(image(labels=tuple(labels)), kind="multi"))).text
    assert wanted in text
    assert "effusion 97.0 % found above the threshold nodule 40.0 % cannot be excluded below the threshold" in text


def test_a_refused_image_has_a_reason_and_no_result() -> None:
    explained = (ExplanationMap("nodule", "Grad-CAM", True, "Valid.", png(77)),)
    html = classification_page(
        facts(image(verdict="refused", reason="the image is unlike those of training", maps=explained))
    )
    text = Page(html).text
    assert "Refused: no result for this image the image is unlike those of training" in text
    assert "72.9 %" not in text
    assert "Cannot exclude" not in text
    assert not shown(html, "Map")


def test_an_abstention_says_why_beside_the_probabilities() -> None:
    text = Page(classification_page(facts(image(verdict="abstained", reason="several labels are possible")))).text
    assert "No full answer: several labels are possible Cannot exclude: none, nodule." in text
    assert "72.9 %" in text


def test_only_maps_that_passed_their_test_are_shown() -> None:
    valid = ExplanationMap("nodule", "Grad-CAM", True, "New weights change the map.", png(77))
    rejected = ExplanationMap(
        "mass", "occlusion", False, "Maps rejected for this model: no better than random.", png(78)
    )
    html = classification_page(facts(image(maps=(valid, rejected))))
    assert shown(html, "Map of what spoke for nodule, by Grad-CAM") == [png(77)]
    assert base64.b64encode(png(78)).decode() not in html
    text = Page(html).text
    assert (
        "mass , occlusion: the map is not shown, because it was rejected by its validity test on this model. Maps"
        in text
    )
    assert "New weights change the map. The map shows what the model used, not where a disease is." in text


def test_pictures_given_must_be_png() -> None:
    given = image(maps=(ExplanationMap("nodule", "Grad-CAM", True, "Valid.", b"<svg onload=alert(1)>"),))
    with pytest.raises(InputError, match="must be PNG"):
        classification_page(facts(given))


def test_similar_images_have_labels_and_no_patient() -> None:
    similar = (SimilarImage(0.9134, ("nodule",), "training image", png(5)), SimilarImage(0.5))
    html = classification_page(facts(image(similar=similar)))
    assert "1 0.91 nodule training image 2 0.50 none known" in Page(html).text
    assert shown(html, "Similar image 1") == [png(5)]
    assert not shown(html, "Similar image 2")
    text = Page(classification_page(facts(image(none_similar="the nearest is too far")))).text
    assert "None is called similar: the nearest is too far" in text


def test_the_picture_is_the_image_in_its_window_and_proportions() -> None:
    window = Window("wide", 0, 399)
    tall = np.diag([1, 2.0, 1.0, 1])
    html = classification_page(facts(image(window=window, volume=replace(image().volume, affine=tall))))
    picture = Image.open(io.BytesIO(shown(html, "The image that was classified")[0]))
    assert picture.size == (20, 40)
    assert np.asarray(picture)[0, 0] == 0
    assert np.asarray(picture)[-1, -1] == 255
    assert "wide, 0 to 399 arbitrary units" in Page(html).text


def test_volumes_are_shown_in_slices_and_colour_as_it_is() -> None:
    volume = replace(image().volume, voxels=np.zeros((30, 8, 8), np.int16))
    assert len(shown(classification_page(facts(image(volume=volume))), "The image that was classified, slice")) == 6
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    html = classification_page(facts(image(volume=replace(image().volume, voxels=red))))
    picture = np.asarray(Image.open(io.BytesIO(shown(html, "The image that was classified")[0])))
    assert picture.shape == (8, 8, 3)
    assert (picture == [200, 0, 0]).all()
    assert "in colour, as stored" in Page(html).text


def test_a_large_picture_is_made_smaller() -> None:
    volume = replace(image().volume, voxels=np.random.default_rng(0).normal(size=(1, 3000, 2000)).astype(np.float32))
    html = classification_page(facts(image(volume=volume)))
    assert max(Image.open(io.BytesIO(shown(html, "The image that was classified")[0])).size) <= 1024
    assert len(html) < 2_000_000


def test_the_models_facts_are_on_the_page() -> None:
    text = Page(classification_page(facts())).text
    assert "Trained on simulated chests: 4,000 images of 3,100 patients" in text
    assert "Checked on 1,000 images of 800 patients" in text
    assert "Takes CR, PA" in text
    assert "nodule 0.874 0.851 to 0.896 1.020 0.930 to 1.110" in text
    assert "mass not evaluated: 0 of 9 images have it" in text
    assert "No regulator has reviewed this model." in text


def test_what_is_simulated_is_called_so() -> None:
    assert "Simulated images" not in Page(classification_page(facts())).text
    for given in (facts(simulated=True), facts(image(findings=(SIMULATED,)))):
        assert "Simulated images: they show no patient." in Page(classification_page(given)).text


def test_hostile_text_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    given = image(
        labels=(LabelFacts(evil, 0.5),), view=evil, findings=(Finding(evil, "noted", evil),),
        maps=(ExplanationMap(evil, evil, True, evil, png(1)), ExplanationMap(evil, evil, False, evil)),
        similar=(SimilarImage(0.5, (evil,), evil, png(1)),),
    )  # fmt: skip
    card = replace(CARD, name=evil, intended_use=evil, trained_on=evil, figures=(HeldOutFigures(evil, reason=evil),))
    for one in (given, replace(given, verdict="refused", reason=evil)):
        assert "script" not in Page(classification_page(facts(one, card=card))).tags


def test_a_card_is_read_from_model_json() -> None:
    document = {
        "name": "nodules", "version": "0123456789ab", "intended_use": "Research.", "warning": "Not for clinical use.",
        "modalities": ["CR"], "views": ["PA"], "body_parts": [],
        "training": {"data": "chests", "images": {"train": 4000}, "subjects": {"train": 3100}},
        "evaluation": {"rows": 1000, "subjects": 800, "labels": {
            "nodule": {"network": {"auroc": EST, "slope": SLOPE}, "logistic regression": {}},
            "mass": {"reason": "0 of 9"}}},
    }  # fmt: skip
    card = card_of(document)
    assert card.takes == ("CR", "PA")
    assert (card.images, card.patients) == (4000, 3100)
    assert card.held_out == "1,000 images of 800 patients"
    assert card.figures == (HeldOutFigures("nodule", EST, SLOPE), HeldOutFigures("mass", reason="0 of 9"))
    by_file = card_of({**document, "training": {**document["training"], "split by": "file"}})  # type: ignore[dict-item]
    assert (by_file.patients, by_file.held_out) == (None, "1,000 images")
    found = {"how": "held out", "nodule": {"froc": {}, "images": 50, "subjects": 45}}
    detector = card_of({"name": "d", "modality": "CT", "training": {"images": {"train": 40}}, "evaluation": found})
    assert (detector.images, detector.held_out) == (40, "50 images of 45 patients")
    assert detector.takes == ("CT",)
    assert detector.made_by == "d"
