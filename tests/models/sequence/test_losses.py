"""Losses against their definitions written out row by row, and against published estimators without features."""

from __future__ import annotations

import math

import numpy as np
import pytest

from careloop.evaluate import aalen_johansen
from careloop.models.sequence.arrays import Sequences, TokenSpace

torch = pytest.importorskip("torch")


def test_hazard_likelihood_written_out() -> None:
    from careloop.models.sequence.losses import HazardLoss

    random = np.random.default_rng(0)
    periods, causes = 4, 2
    outputs = random.normal(size=(50, periods * causes))
    last, cause, share = random.integers(0, 4, 50), random.integers(0, 3, 50), random.random(50)
    expected = 0.0
    for row in range(50):
        odds = np.exp(outputs[row].reshape(periods, causes))
        on = 1 / (1 + odds.sum(axis=1))
        value = sum(math.log(on[p]) for p in range(last[row]))
        if cause[row]:
            value += math.log(odds[last[row], cause[row] - 1] * on[last[row]])
        else:
            value += share[row] * math.log(on[last[row]])
        expected -= value
    targets = torch.tensor(np.column_stack([last, cause, share]))
    found, weights = HazardLoss(periods, causes)(torch.tensor(outputs), targets, torch.ones(50))
    assert float(found) == pytest.approx(expected)
    assert float(weights) == 50


def test_without_features_the_hazards_are_aalen_and_johansen_s(space: TokenSpace) -> None:
    """Events at the periods' ends only and censoring after them: the likelihood's maximum has a closed form."""
    from careloop.models.sequence.estimators import SequenceHazard
    from careloop.models.sequence.losses import HazardLoss
    from careloop.models.sequence.network import NetworkShape
    from careloop.models.sequence.training.fitting import Recipe, SupervisedWork
    from careloop.models.sequence.training.loop import LoopSettings

    random = np.random.default_rng(2)
    time, cause = random.integers(1, 6, 400).astype(float), random.integers(0, 3, 400)
    empty = Sequences(np.zeros(401, np.int64), *(np.empty(0, t) for t in (np.int32, np.uint8, np.float32)),
                      time=np.empty(0), at=np.zeros(400))  # fmt: skip
    model = SequenceHazard()
    model.cuts_, model.causes_ = np.arange(6.0), 2
    model.unique_times_ = model.cuts_[1:]
    work = SupervisedWork(
        model._targets(empty, cause, time), None, HazardLoss(5, 2), Recipe(NetworkShape("gru", 8, 1, 1), LoopSettings())
    )
    constant = work.best_constant(10).numpy().astype(np.float64)
    model._outputs = lambda X: [np.tile(constant, (1, 1))]  # type: ignore[method-assign]
    for wanted, competing in ((1, 2), (2, 1)):
        found = model.predict_incidence(empty, [1, 2, 3, 4, 5], cause=wanted)[0]
        times, expected = aalen_johansen(time, np.select([cause == wanted, cause == competing], [1, 2], 0))
        assert times.tolist() == [1, 2, 3, 4, 5]
        assert found == pytest.approx(expected, abs=1e-3)


def test_labels_and_numbers_count_where_they_are_known() -> None:
    from careloop.models.sequence.losses import labels_loss, squared_loss

    outputs = torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    targets, weights = torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), torch.tensor([1.0, 3.0])
    value, divisor = labels_loss(outputs, targets, weights)
    expected = math.log1p(math.exp(-0.5)) + 3 * math.log1p(math.exp(2.0)) + 3 * math.log(2)
    assert (float(value), float(divisor)) == pytest.approx((expected, 7.0))
    value, divisor = squared_loss(outputs, targets, weights)
    assert (float(value), float(divisor)) == pytest.approx((0.25 + 3 * 4 + 3 * 1, 7.0))
