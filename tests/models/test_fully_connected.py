"""The fully connected network: the classic in five lines, its gradient against autograd, scikit-learn's rules."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from careloop import InputError
from careloop.models import FullyConnected, LoopSettings
from careloop.models.fully_connected import logit_loss, make_network, written_out_step
from careloop.models.network_loop import Rows, autograd_step


def test_the_classic_network_in_five_lines() -> None:
    random = np.random.default_rng(0)
    X, Xv = random.normal(size=(600, 784)), random.normal(size=(200, 784))
    y, yv = X[:, :20].sum(axis=1) > 0, Xv[:, :20].sum(axis=1) > 0
    net = FullyConnected(hidden=(256, 128), optimizer="sgd", learning_rate=0.01, batch_size=32, patience=3)
    net.fit(X, y, validation=(Xv, yv))
    p = net.predict_proba(X)
    assert [tuple(layer.weight.shape) for layer in net.network_[::2]] == [(256, 784), (128, 256), (1, 128)]
    assert p.shape == (600, 2)
    assert p.sum(axis=1) == pytest.approx(1)
    best = int(np.argmin([epoch.validation_loss for epoch in net.epochs_]))
    assert len(net.epochs_) == min(100, best + 4)
    z = net.decision_function(Xv)
    assert np.logaddexp(0, np.where(yv, -z, z)).mean() == pytest.approx(net.epochs_[best].validation_loss, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_written_out_step_is_autograd_s(weighted: bool) -> None:
    from lightning_fabric import Fabric

    random = torch.Generator().manual_seed(0)
    X, y = torch.randn(160, 12, generator=random), (torch.rand(160, generator=random) < 0.3).float()
    weights = torch.rand(160, generator=random) if weighted else None
    first = make_network(12, (9, 7), "relu")
    second = make_network(12, (9, 7), "relu")
    second.load_state_dict(first.state_dict())
    settings, fabric = LoopSettings(learning_rate=0.3), Fabric(accelerator="cpu", devices=1)
    steps = [
        make(net, logit_loss, settings, fabric)[1] for make, net in ((written_out_step, first), (autograd_step, second))
    ]
    for start in range(0, 160, 32):
        part = slice(start, start + 32)
        batch = Rows(X[part], y[part], None if weights is None else weights[part])
        assert float(steps[0](batch)) == pytest.approx(float(steps[1](batch)), rel=1e-5)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.detach().numpy() == pytest.approx(other.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("activation", "optimizer"), [("tanh", "adam"), ("gelu", "adamw"), ("relu", "adam"), ("silu", "sgd")]
)
def test_other_activations_and_optimizers_learn(rows, activation: str, optimizer: str) -> None:
    X, y = rows
    rate = 0.1 if optimizer == "sgd" else 0.01
    net = FullyConnected(hidden=(16,), activation=activation, optimizer=optimizer, learning_rate=rate).fit(X, y)
    assert net.score(X, y) > 0.85


def test_weights_are_repeated_rows(rows) -> None:
    """In one whole batch, a row of weight 2 is the row twice; equal weights of any size are no weights."""
    X, y = rows
    plain = {"hidden": (8,), "learning_rate": 0.5, "max_epochs": 5, "validation_fraction": 0.0}
    twice = FullyConnected(**plain, batch_size=800).fit(np.vstack([X, X[:100]]), np.append(y, y[:100]))
    weight = np.where(np.arange(400) < 100, 2.0, 1.0)
    weighted = FullyConnected(**plain, batch_size=800).fit(X, y, weight)
    assert weighted.predict_proba(X) == pytest.approx(twice.predict_proba(X), abs=1e-5)
    unweighted = FullyConnected(**plain).fit(X, y)
    assert FullyConnected(**plain).fit(X, y, np.full(400, 7.0)).predict_proba(X) == pytest.approx(
        unweighted.predict_proba(X), abs=1e-5
    )


def test_weighting_a_rare_class_gives_its_weighted_share() -> None:
    """Nothing to tell rows apart by: the probability is the weighted share of the class."""
    X, y = np.zeros((300, 2)), np.arange(300) < 20
    net = FullyConnected(hidden=(4,), learning_rate=0.5, max_epochs=200, batch_size=300, validation_fraction=0.0)
    for weight in (1.0, 10.0):
        found = clone(net).fit(X, y, np.where(y, weight, 1.0)).predict_proba(X)[:, 1]
        assert found == pytest.approx(20 * weight / (20 * weight + 280), abs=0.02)


def test_same_seed_same_predictions_and_state_round_trip(rows) -> None:
    X, y = rows
    net = FullyConnected(hidden=(8, 4), max_epochs=5).fit(X, np.where(y, "dead", "alive"))
    assert np.array_equal(clone(net).fit(X, np.where(y, "dead", "alive")).predict_proba(X), net.predict_proba(X))
    plain, arrays = net.get_state()
    again = FullyConnected.from_state(json.loads(json.dumps(plain)), arrays)
    assert np.array_equal(again.predict_proba(X), net.predict_proba(X))
    assert np.array_equal(again.predict(X), net.predict(X))
    assert FullyConnected(hidden=(8, 4), max_epochs=5, seed=1).fit(X, y).predict_proba(X) != pytest.approx(
        net.predict_proba(X)
    )


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({}, lambda X, y: (np.where(X > 2, np.nan, X), y), "NaN.*Impute"),
        ({}, lambda X, y: (X, np.zeros(len(y))), "two classes"),
        ({}, lambda X, y: (X, np.arange(len(y))), "binary classification"),
        ({"activation": "relu6"}, lambda X, y: (X, y), "'relu6' is not known; choose one of relu"),
        ({"validation_fraction": 1.0}, lambda X, y: (X, y), "below 1"),
        ({"learning_rate": 1e30}, lambda X, y: (X, y), "diverged"),
    ],
)
def test_bad_input_is_named(rows, parameters, change, message: str) -> None:
    X, y = change(*rows)
    with pytest.raises(InputError, match=message):
        FullyConnected(**parameters).fit(X, y)


def test_validation_label_unseen_in_training_is_named(rows) -> None:
    X, y = rows
    with pytest.raises(InputError, match="draw the split again"):
        FullyConnected().fit(X, y, validation=(X, y + 1))


def expected_failures(_) -> dict[str, str]:
    return {"check_sample_weight_equivalence_on_dense_data": "rows are drawn into batches and validation one by one"}


@parametrize_with_checks(
    [FullyConnected(hidden=(16,), optimizer="adam", learning_rate=0.02, max_epochs=30)],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_s_rules(estimator, check) -> None:
    check(estimator)


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, careloop.models; print([m for m in ('torch', 'keras', 'lightning_fabric') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
