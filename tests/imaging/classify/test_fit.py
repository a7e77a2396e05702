"""The training work: losses against scikit-learn, batches that cover every row, and a body that stays frozen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from careloop.imaging.classify.augment import Changes
from careloop.imaging.classify.fit import ImageWork, freeze_body, outputs, release_body
from careloop.imaging.classify.networks import build_classifier
from careloop.models.sequence.training.loop import LoopSettings, train

TINY = {"name": "resnet-small", "depths": (1,), "widths": (8,)}


def ready(kind: str, target: np.ndarray) -> SimpleNamespace:
    images = np.random.default_rng(0).normal(size=(len(target), 1, 8, 8)).astype(np.float32)
    labels = SimpleNamespace(kind=kind)
    return SimpleNamespace(
        images=images, target=target, train=np.arange(10, 40), tuning=np.arange(40, 60),
        dataset=SimpleNamespace(labels=labels),
    )  # fmt: skip


def work_of(kind: str, target: np.ndarray, **changes) -> ImageWork:
    given = {"batch_size": 8, "seed": 0, "changes": Changes(), "head_only": False} | changes
    return ImageWork(ready(kind, target), **given)


def network(outputs: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_classifier(TINY, channels=1, outputs=outputs).eval()


def test_losses_are_those_of_scikit_learn() -> None:
    label = np.random.default_rng(1).integers(0, 3, 60)
    single = work_of("single", np.eye(3, dtype=np.float32)[label])
    logits, _ = outputs(network(), single.ready.images, single.ready.tuning)
    with torch.no_grad():
        assert single.validation_loss(network()) == pytest.approx(
            log_loss(label[40:], softmax(logits, axis=1)), rel=1e-4
        )
    target = np.random.default_rng(2).integers(0, 2, (60, 3)).astype(np.float32)
    target[45:55, 1] = np.nan
    several, known = work_of("multi", target), ~np.isnan(target[40:])
    with torch.no_grad():
        found = several.validation_loss(network())
    assert found == pytest.approx(log_loss(target[40:][known], expit(logits)[known]), rel=1e-4)


def test_an_epoch_has_every_training_row_once_and_each_epoch_another_order() -> None:
    work = work_of("single", np.eye(3, dtype=np.float32)[np.arange(60) % 3])
    first, again, second = (work.epoch_batches(epoch) for epoch in (0, 0, 1))
    assert np.sort(np.concatenate(first)).tolist() == list(range(10, 40))
    assert {len(batch) for batch in first} == {7, 8}
    assert np.concatenate(first).tolist() == np.concatenate(again).tolist()
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()


def test_random_changes_leave_what_is_common_to_all_images_in_its_place() -> None:
    seen: list[torch.Tensor] = []
    model = build_classifier({**TINY, "mean_image": (8, 8)}, channels=1, outputs=3)
    model.mean_image.copy_(torch.rand(1, 8, 8))
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    work = work_of("single", np.eye(3, dtype=np.float32)[np.arange(60) % 3], changes=Changes(0.0, mirrored=1.0))
    work.loss(model, np.arange(10, 14), seed=3)
    own = torch.from_numpy(work.ready.images[10:14]) - model.mean_image
    torch.testing.assert_close(seen[0], own.flip(3) + model.mean_image)


def test_only_the_head_of_a_frozen_network_changes() -> None:
    model = network()
    freeze_body(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    work = work_of("single", np.eye(3, dtype=np.float32)[np.arange(60) % 3], head_only=True)
    train(model, work, LoopSettings(max_epochs=1, learning_rate=0.1, device="cpu"))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}  # running means of the body stay as well
    release_body(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_logits_and_embeddings_belong_together() -> None:
    model, images = network(), np.random.default_rng(0).normal(size=(300, 1, 8, 8)).astype(np.float32)
    logits, embeddings = outputs(model, images, np.arange(290))
    weights = model.get_submodule(model.head_name)
    expected = embeddings @ weights.weight.detach().numpy().T + weights.bias.detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert len(logits) == 290
