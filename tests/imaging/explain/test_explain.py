"""From a model folder and its tested maps to explanations and their pictures; no map without a test on that model."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from planted_squares import SIZE, SMALL, learn, planted

from careloop import InputError
from careloop.imaging.classify.model import (
    Classifier,
    ClassifierFile,
    InputFormat,
    Intensities,
    Labels,
    write_classifier,
)
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.explain import check_explanations, explain
from careloop.imaging.explain.checked import CHECKED, read_checked
from careloop.imaging.explain.overlay import most_telling, overlay_figure, overlay_png
from careloop.imaging.volume import Volume

LOW, HIGH = -4.0, 4.0
SAID = ClassifierFile(
    name="squares",
    architecture=SMALL,
    input=InputFormat((SIZE, SIZE), intensities=Intensities("window", LOW, HIGH), mean=(0.5,), std=(1 / (HIGH - LOW),)),
    labels=Labels(("none", "square")),
)
TEST = planted(100, 1)
TARGET = np.stack([1 - TEST.label, TEST.label], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A model whose maps were tested by two methods."""
    torch.set_num_threads(1)
    made = write_classifier(learn(planted(640, 0), epochs=8), SAID, tmp_path_factory.mktemp("model"))
    check_explanations(made, TEST.images, TARGET, methods=("grad_cam", "occlusion"))
    return made


def volume(row: int) -> Volume:
    return Volume(TEST.images[row], np.eye(4))


def test_a_tested_method_explains_a_volume(classifier: Classifier) -> None:
    found = explain([volume(1), volume(3)], classifier, "grad_cam", label="square")
    assert [one.label for one in found] == ["square", "square"]
    assert found[0].map.shape == (SIZE, SIZE)
    assert found[0].probability > 0.9
    assert found[0].validity.verdict == "valid"
    assert found[0].made_by == classifier.made_by
    np.testing.assert_allclose(found[0].image, TEST.images[1].clip(LOW, HIGH), atol=1e-5)
    assert found[0].map[TEST.square[1]].mean() > 5 * found[0].map.mean()


def test_the_best_valid_method_and_the_label_are_chosen(classifier: Classifier) -> None:
    found = explain(volume(1), classifier)[0]
    checked = read_checked(classifier)
    assert found.label == "square"
    assert found.method == checked.best("square")
    assert checked.labels["square"][found.method].verdict == "valid"


def test_verdicts_come_back_as_they_were_written(classifier: Classifier) -> None:
    document = json.loads((classifier.folder / CHECKED).read_text())
    assert document["weights"] == classifier.said.weights
    assert read_checked(classifier).labels["square"]["grad_cam"].deletion is not None
    assert set(document["labels"]["none"]) == {"grad_cam", "occlusion"}


def test_no_map_without_a_test(classifier: Classifier, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier.folder, tmp_path / "copy")
    (folder / CHECKED).unlink()
    with pytest.raises(InputError, match="no map is shown without a test"):
        explain(volume(1), replace(classifier, folder=folder))
    with pytest.raises(InputError, match="were not tested"):
        explain(volume(1), classifier, "integrated_gradients", label="square")
    with pytest.raises(InputError, match="tells apart none, square"):
        explain(volume(1), classifier, label="lesion")


def test_a_test_of_other_weights_does_not_count(classifier: Classifier, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = write_classifier(build_classifier(SMALL, channels=1, outputs=2), SAID, tmp_path)
    shutil.copy(classifier.folder / CHECKED, tmp_path)
    with pytest.raises(InputError, match="tests other weights"):
        explain(volume(1), other)
    (tmp_path / CHECKED).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        explain(volume(1), other)


def test_a_model_with_randomised_weights_explains_nothing(tmp_path: Path) -> None:
    torch.manual_seed(6)
    made = write_classifier(build_classifier(SMALL, channels=1, outputs=2), SAID, tmp_path)
    found = check_explanations(made, TEST.images, TARGET, methods=("grad_cam", "occlusion"))
    assert {v.verdict for verdicts in found.labels.values() for v in verdicts.values()} == {"rejected"}
    with pytest.raises(InputError, match="no method's maps"):
        explain(volume(1), made)
    with pytest.raises(InputError, match="Maps rejected for this model"):
        explain(volume(1), made, "grad_cam", label="square")


def test_a_method_that_the_network_has_no_maps_for_is_rejected_with_its_reason(tmp_path: Path) -> None:
    config = {"model_type": "vit", "image_size": SIZE, "patch_size": 7, "hidden_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2, "intermediate_size": 16}  # fmt: skip
    shape = {"family": "transformers", "dimensions": 2, "config": config, "pooling": "token"}
    network = build_classifier(shape, channels=1, outputs=2).eval()
    from careloop.imaging.explain.maps import mapper
    from careloop.imaging.explain.scored import Scored

    with pytest.raises(InputError, match="class token"):
        mapper("grad_cam")(Scored(network), TEST.images[:2], 1)
    assert mapper("integrated_gradients")(Scored(network), TEST.images[:2], 1).shape == (2, SIZE, SIZE)


def test_shapes_must_be_the_models(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="tested on images"):
        check_explanations(classifier, TEST.images[:, :, 1:], TARGET)
    assert explain([], classifier) == []


def test_the_picture_says_what_it_is(classifier: Classifier) -> None:
    found = explain(volume(1), classifier, "occlusion", label="square")[0]
    figure = overlay_figure(found)
    texts = [text.get_text() for text in (*figure.texts, *(axes.title for axes in figure.axes))]
    texts += [axes.get_ylabel() for axes in figure.axes]
    assert any("NOT FOR CLINICAL USE" in text and classifier.made_by in text for text in texts)
    assert any("speaks against" in text for text in texts)
    picture = Image.open(io.BytesIO(overlay_png(found)))
    assert picture.format == "PNG"
    assert overlay_png(found) == overlay_png(found)
    shown = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(shown, axis=2) > 40).any()  # colour over the grey image


def test_of_a_volume_the_slice_with_most_of_the_map_is_drawn(classifier: Classifier) -> None:
    found = explain(volume(1), classifier, "grad_cam", label="square")[0]
    image, seen = np.random.default_rng(0).random((1, 6, 9, 9)), np.zeros((6, 9, 9))
    seen[4, 3:5, 3:5] = 1
    solid = replace(found, image=image.astype(np.float32), map=seen.astype(np.float32))
    plane = most_telling(solid)
    assert (plane.number, plane.of) == (4, 6)
    assert overlay_png(solid)[:4] == b"\x89PNG"
