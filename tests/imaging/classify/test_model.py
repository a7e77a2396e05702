"""Model folders: written and read again, damaged ones refused; calibration and label sets against closed forms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from careloop import InputError
from careloop.imaging.classify.model import (
    Calibration,
    Classifier,
    ClassifierFile,
    Conformal,
    InputFormat,
    Labels,
    is_classifier,
    read_classifier,
    write_classifier,
)
from careloop.imaging.classify.networks import build_classifier
from careloop.imaging.familiar import fit_familiar

ARCHITECTURE = {"name": "resnet-small", "depths": [1, 1], "widths": [8, 16]}
SAID = ClassifierFile("demo", ARCHITECTURE, InputFormat((16, 16)), Labels(("a", "b")), conformal=Conformal(0.9, (1, 1)))


def written(folder: Path, said: ClassifierFile = SAID) -> Classifier:
    torch.manual_seed(0)
    return write_classifier(build_classifier(said.architecture, channels=1, outputs=2), said, folder)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_classifier(ARCHITECTURE, channels=1, outputs=2).eval()
    rng = np.random.default_rng(0)
    images, embeddings = rng.random((60, 1, 16, 16), dtype=np.float32), rng.standard_normal((60, 16))
    familiar = fit_familiar(embeddings, images)
    model = write_classifier(network, SAID, tmp_path, familiar=familiar)
    again = read_classifier(tmp_path)
    assert again == model
    assert is_classifier(tmp_path)
    assert replace(again.said, weights="", familiar="", version="", embedding_size=0) == SAID
    assert again.said.embedding_size == 16
    x = torch.from_numpy(images[:3])
    assert torch.equal(again.network()(x), network(x))
    assert not again.network().training
    check = again.familiar()
    assert check is not None
    np.testing.assert_array_equal(check.score(embeddings, images), familiar.score(embeddings, images))


def test_equal_models_have_one_version_and_others_another(tmp_path: Path) -> None:
    one, same = written(tmp_path / "1"), written(tmp_path / "2")
    assert one.said.version == same.said.version
    assert one.said.version != written(tmp_path / "3", replace(SAID, views=("PA",))).said.version
    rewritten = write_classifier(one.network(), one.said, tmp_path / "4")
    assert rewritten.said == one.said
    assert one.familiar() is None


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_or_changed_file_is_refused(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-9])
    with pytest.raises(InputError):
        read_classifier(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError):
        read_classifier(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format": "careloop segmentation model"}, "format"),
        ({"thresholds": [0.5]}, "thresholds must have 2 values"),
        ({"calibration": {"slope": [1, 1, 1], "intercept": [0, 0]}}, "slope must have 2 values"),
        ({"conformal": {"level": 0.9, "thresholds": [0.1]}}, "thresholds must have 2 values"),
        ({"input": {"size": [1, 2, 3, 4]}}, "size"),
    ],
)
def test_a_description_that_cannot_be_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_classifier(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = written(tmp_path)
    other = replace(model, said=replace(model.said, architecture=ARCHITECTURE | {"widths": [8, 24]}))
    with pytest.raises(InputError, match="does not fit the network"):
        other.network()


def test_probabilities_are_those_of_scipy() -> None:
    logits = np.random.default_rng(1).standard_normal((6, 3)) * 30
    labels = ("a", "b", "c")
    lines = Calibration(slope=(0.5, 2, 1), intercept=(1, 0, -1))
    moved = logits * lines.slope + lines.intercept
    np.testing.assert_allclose(Calibration(2.0).probability(logits, Labels(labels)), softmax(logits / 2, axis=1))
    np.testing.assert_allclose(lines.probability(logits, Labels(labels)), softmax(moved, axis=1))
    independent = lines.probability(logits, Labels(labels, "multi"))
    np.testing.assert_allclose(independent, expit(moved), atol=1e-12)


def test_label_sets() -> None:
    present, absent = Conformal(0.9, (0.7, 0.4), (0.5, 0.2)).possible(np.array([[0.3, 0.5], [0.4, 0.7], [0.6, 0.1]]))
    assert present.tolist() == [[True, False], [True, True], [True, False]]
    assert absent.tolist() == [[True, False], [True, False], [False, True]]
    assert Conformal(0.9, (0.7, 0.4)).possible(np.array([[0.5, 0.5]]))[1].all()


@pytest.mark.parametrize("names", [(), ("a",), ("a", "a")])
def test_labels_that_tell_nothing_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        Labels(names)
