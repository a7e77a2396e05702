"""Classifier and hazard model over sequences: they learn, weigh, adapt and are stored as they say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.models.sequence.arrays import FIRST_CODE, Sequences, TokenSpace
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard

pytest.importorskip("torch")
SMALL: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2, "tokens": 512, "device": "cpu"}


def has_code(sequences: Sequences, code: int) -> np.ndarray:
    """Whether each row has the code (n,)."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    return np.bincount(row, weights=sequences.code == code, minlength=len(sequences)) > 0


def survival_target(sequences: Sequences, seed: int = 0) -> np.ndarray:
    """Two competing causes with exponential times; the first is three times as frequent with the first code."""
    random = np.random.default_rng(seed)
    rate = np.where(has_code(sequences, FIRST_CODE), 3.0, 1.0)
    times = random.exponential(1 / np.column_stack([rate, np.ones(len(rate)), np.full(len(rate), 0.5)]))
    target = np.empty(len(rate), dtype=[("cause", np.int64), ("time", np.float64)])
    target["cause"], target["time"] = (times.argmin(axis=1) + 1) % 3, times.min(axis=1)
    return target


def test_a_classifier_learns_what_a_code_says(space: TokenSpace, sequences: Sequences) -> None:
    label = has_code(sequences, FIRST_CODE + 1).astype(int)
    model = SequenceClassifier(network="gru", **SMALL, learning_rate=0.02, max_epochs=25).fit(
        sequences, label, space=space
    )
    assert (model.predict(sequences) == label).mean() > 0.95


def test_balanced_classes_leave_probabilities_at_the_prevalence(space: TokenSpace, sequences: Sequences) -> None:
    """Nothing can be learnt, so that every risk should be the share of the outcome, weighted loss or not."""
    label = (np.random.default_rng(1).random(300) < 0.1).astype(int)
    rows = sequences.take(np.zeros(300, dtype=np.intp))
    for weight in (None, "balanced"):
        model = SequenceClassifier(**{**SMALL, "network": "gru", "tokens": 8192}, max_epochs=2, class_weight=weight)
        risk = model.fit(rows, label, space=space).predict_proba(rows)[:, 1]
        assert risk == pytest.approx(label.mean(), rel=0.1)


def test_three_classes(space: TokenSpace, sequences: Sequences) -> None:
    label = np.array(["none", "one", "two"])[has_code(sequences, 4).astype(int) + has_code(sequences, 5)]
    model = SequenceClassifier(network="gru", **SMALL, learning_rate=0.02, max_epochs=20).fit(
        sequences, label, space=space
    )
    probability = model.predict_proba(sequences)
    assert probability.sum(axis=1) == pytest.approx(1)
    assert (model.predict(sequences) == label).mean() > 0.8  # the largest class has half of the rows


def test_incidences_of_competing_causes_and_survival_add_up_and_follow_the_risk(
    space: TokenSpace, sequences: Sequences
) -> None:
    target = survival_target(sequences)
    model = SequenceHazard(network="gru", **SMALL, learning_rate=0.02, max_epochs=20, periods=6)
    model.fit(sequences, target, space=space)
    ends = model.unique_times_
    total = sum(model.predict_incidence(sequences, ends, cause=cause) for cause in (1, 2))
    assert total + model.predict_survival_function(sequences) == pytest.approx(1, abs=1e-6)
    curve = model.predict_incidence(sequences, np.linspace(0, ends[-1] * 1.5, 40))
    assert (np.diff(curve, axis=1) >= -1e-12).all()
    risk, first = model.predict(sequences), has_code(sequences, FIRST_CODE)
    assert risk[first].mean() > risk[~first].mean() + 0.1


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceHazard])
def test_state_round_trip_bit_for_bit(kind: Any, space: TokenSpace, sequences: Sequences) -> None:
    y = has_code(sequences, 4) if kind is SequenceClassifier else survival_target(sequences)
    model = kind(network="temporal_cnn", **SMALL, max_epochs=1, members=2).fit(sequences, y, space=space)
    state, arrays = model.get_state()
    again = kind.from_state(json.loads(json.dumps(state)), arrays)
    rows = sequences.take(np.arange(50))
    method = "predict_proba" if kind is SequenceClassifier else "predict_survival_function"
    assert (getattr(again, method)(rows) == getattr(model, method)(rows)).all()
    assert model.embed(rows).shape == (50, 2 * 2 * 16)


def test_the_same_seed_gives_the_same_model_and_members_differ(space: TokenSpace, sequences: Sequences) -> None:
    label = has_code(sequences, 4)
    one, again = (
        SequenceClassifier(network="gru", **SMALL, max_epochs=2, members=2).fit(sequences, label, space=space)
        for _ in range(2)
    )
    assert (one.predict_proba(sequences) == again.predict_proba(sequences)).all()
    assert not np.allclose(*(outputs for outputs in one._outputs(sequences)))


@pytest.mark.parametrize("adaptation", ["full", "frozen", "lora"])
def test_adaptation_trains_what_it_says(adaptation: str, space: TokenSpace, sequences: Sequences) -> None:
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork
    from careloop.models.sequence.training.fitting import Start

    shape = NetworkShape("transformer", 16, 1, 2)
    start = Start(shape, {n: v.numpy() for n, v in SequenceNetwork(space, shape).state_dict().items()})
    model = SequenceClassifier(**SMALL, learning_rate=0.01, max_epochs=2, adaptation=adaptation)
    model.fit(sequences, has_code(sequences, 4), space=space, start=start)
    learnt = model.networks_[0].state_dict()
    assert sorted(learnt) == sorted(start.weights)
    changed = {name for name, value in learnt.items() if not np.allclose(value.numpy(), start.weights[name])}
    parts = {name.split(".")[0] for name in changed}
    assert parts == {"full": {"embedding", "trunk", "head"}, "frozen": {"head"}, "lora": {"trunk", "head"}}[adaptation]
    if adaptation == "lora":
        assert not {name for name in changed if "norm" in name}


def test_a_start_of_another_shape_or_vocabulary_is_refused(space: TokenSpace, sequences: Sequences) -> None:
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork
    from careloop.models.sequence.training.fitting import Start

    shape, other = NetworkShape("transformer", 16, 1, 2), TokenSpace(9, 5, np.zeros((9, 1), dtype=np.int32))
    start = Start(shape, {n: v.numpy() for n, v in SequenceNetwork(other, shape).state_dict().items()})
    label = has_code(sequences, 4)
    with pytest.raises(InputError, match=r"weights do not fit .*pre-train with the timelines of this study"):
        SequenceClassifier(**SMALL).fit(sequences, label, space=space, start=start)
    with pytest.raises(InputError, match="make them alike"):
        SequenceClassifier(**{**SMALL, "width": 32}).fit(sequences, label, space=space, start=start)


def test_wrong_targets_are_refused(space: TokenSpace, sequences: Sequences) -> None:
    with pytest.raises(InputError, match="one class"):
        SequenceClassifier(**SMALL).fit(sequences, np.zeros(300), space=space)
    with pytest.raises(InputError, match="among the training rows' classes"):
        SequenceClassifier(**SMALL).fit(
            sequences, np.arange(300) % 2, space=space, validation=(sequences, np.full(300, 7))
        )
    with pytest.raises(InputError, match="at least one row must have an event"):
        SequenceHazard(**SMALL).fit(sequences, np.zeros(300, dtype=[("c", int), ("t", float)]), space=space)
    wide = TokenSpace(space.tokens, space.quantiles, space.ancestors, statics=2)
    with pytest.raises(InputError, match="static columns"):
        SequenceClassifier(**SMALL).fit(sequences, np.arange(300) % 2, space=wide)
