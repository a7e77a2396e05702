"""The training loop: early stopping, best weights, determinism, any module and any loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from careloop import InputError
from careloop.models.network_loop import (
    LoopSettings,
    Rows,
    cpu_threads,
    make_optimizer,
    shuffled_batches,
    train_network,
)


def squared_error(outputs, targets, weights):
    errors = (outputs.squeeze(1) - targets) ** 2
    return errors.mean() if weights is None else (errors * weights).mean()


def linear_rows(rows: int = 200, noise: float = 0.0) -> Rows:
    random = torch.Generator().manual_seed(0)
    X = torch.randn(rows, 3, generator=random)
    return Rows(X, X @ torch.tensor([1.0, -2.0, 0.5]) + noise * torch.randn(rows, generator=random))


def test_any_module_and_loss_reach_least_squares() -> None:
    rows = linear_rows(noise=0.3)
    network = torch.nn.Linear(3, 1, bias=False)
    settings = LoopSettings(learning_rate=0.05, max_epochs=60, batch_size=200)
    epochs = train_network(network, rows, None, loss=squared_error, settings=settings)
    exact = np.linalg.lstsq(rows.inputs.numpy(), rows.targets.numpy(), rcond=None)[0]
    assert network.weight.detach().numpy()[0] == pytest.approx(exact, abs=0.01)
    assert len(epochs) == 60
    assert epochs[-1].validation_loss is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_stops_after_patience_and_keeps_the_best_weights(optimizer: str) -> None:
    """Validation targets are noise: their loss turns up while the training loss falls."""
    training = linear_rows(64)
    held = Rows(training.inputs[:16], 0.5 * training.targets[:16])
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    settings = LoopSettings(optimizer=optimizer, learning_rate=0.01, patience=4, max_epochs=500, batch_size=16)
    epochs = train_network(network, training, held, loss=squared_error, settings=settings)
    losses = [epoch.validation_loss for epoch in epochs]
    assert len(epochs) < 500
    assert len(epochs) - 1 - int(np.argmin(losses)) == 4
    with torch.no_grad():
        assert float(squared_error(network(held.inputs), held.targets, None)) == pytest.approx(min(losses))
    assert not network.training


def test_same_seed_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> np.ndarray:
        network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        torch.nn.init.constant_(network[0].weight, 0.1)
        torch.nn.init.constant_(network[0].bias, 0.1)
        torch.nn.init.constant_(network[2].weight, 0.1)
        torch.nn.init.constant_(network[2].bias, 0.1)
        settings = LoopSettings(seed=seed, max_epochs=3)
        train_network(network, linear_rows(), None, loss=squared_error, settings=settings)
        return network[0].weight.detach().numpy()

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_neither_the_caller_s_random_state_nor_its_threads_change() -> None:
    network = torch.nn.Linear(3, 1)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train_network(network, linear_rows(), None, loss=squared_error, settings=LoopSettings(max_epochs=1, threads=2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    with cpu_threads(threads + 1):
        assert torch.get_num_threads() == threads + 1
    assert torch.get_num_threads() == threads


def test_every_row_is_in_one_batch_with_its_target_and_weight() -> None:
    numbers = torch.arange(10.0)
    rows = Rows(numbers[:, None], 2 * numbers, 3 * numbers)
    batches = list(shuffled_batches(rows, 4, torch.Generator().manual_seed(0)))
    assert [len(batch.targets) for batch in batches] == [4, 4, 2]
    inputs = torch.cat([batch.inputs for batch in batches])[:, 0]
    assert inputs.tolist() != numbers.tolist()
    assert sorted(inputs.tolist()) == numbers.tolist()
    assert torch.equal(torch.cat([batch.targets for batch in batches]), 2 * inputs)
    assert torch.equal(torch.cat([batch.weights for batch in batches if batch.weights is not None]), 3 * inputs)


@pytest.mark.parametrize(("optimizer", "default"), [("sgd", 0), ("adam", 0), ("adamw", 0.01)])
def test_weight_decay_is_the_optimizer_s_unless_given(optimizer: str, default: float) -> None:
    network = torch.nn.Linear(3, 1)
    for given, expected in ((None, default), (0.0, 0), (0.5, 0.5)):
        made = make_optimizer(network, LoopSettings(optimizer=optimizer, weight_decay=given))
        assert made.defaults["weight_decay"] == expected


def test_divergence_and_unknown_optimizer_are_named() -> None:
    with pytest.raises(InputError, match=r"diverged.*lower learning_rate"):
        train_network(
            torch.nn.Linear(3, 1), linear_rows(), None, loss=squared_error, settings=LoopSettings(learning_rate=1e6)
        )
    with pytest.raises(InputError, match="'rprop' is not known; choose one of sgd"):
        train_network(
            torch.nn.Linear(3, 1), linear_rows(), None, loss=squared_error, settings=LoopSettings(optimizer="rprop")
        )
