"""Several labels or numbers at once over sequences: they learn, begin at base rates, leave out what is unknown."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.models.sequence.arrays import FIRST_CODE, Sequences, TokenSpace
from careloop.models.sequence.kinds import SequenceKind
from careloop.models.sequence.many_outputs import SequenceLabels, SequenceRegressor

pytest.importorskip("torch")
SMALL: dict[str, Any] = {"network": "gru", "width": 16, "layers": 1, "heads": 2, "tokens": 512, "device": "cpu"}
LEARNS: dict[str, Any] = {**SMALL, "learning_rate": 0.02, "max_epochs": 25, "dropout": 0.0}


def counts(sequences: Sequences, codes: int) -> np.ndarray:
    """How often each of the first codes occurs in each row (n, codes)."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    found = np.zeros((len(sequences), codes))
    for code in range(codes):
        found[:, code] = np.bincount(row, weights=sequences.code == FIRST_CODE + code, minlength=len(sequences))
    return found


def empty(rows: int) -> Sequences:
    """Rows without events, of which nothing can be learnt."""
    arrays = (np.empty(0, t) for t in (np.int32, np.uint8, np.float32))
    return Sequences(np.zeros(rows + 1, np.int64), *arrays, time=np.empty(0), at=np.zeros(rows))


def test_labels_are_learnt_where_they_are_known(space: TokenSpace, sequences: Sequences) -> None:
    truth = (counts(sequences, 4) > 0).astype(float)
    seen = np.where(np.random.default_rng(0).random(truth.shape) < 0.4, np.nan, truth)
    model = SequenceLabels(**LEARNS).fit(sequences, seen, space=space, names=list("abcd"))
    found = model.predict_proba(sequences)
    assert found.shape == (300, 4)
    assert model.names_ == tuple("abcd")
    for label in range(4):
        unseen = np.isnan(seen[:, label])
        assert ((found[unseen, label] > 0.5) == truth[unseen, label]).mean() > 0.9


def test_training_begins_at_the_base_rates_of_rare_labels_too(space: TokenSpace) -> None:
    rates = np.array([0.5, 0.1, 0.01, 0.0])
    labels = (np.arange(200)[:, None] < 200 * rates).astype(float)
    labels[150:, 1] = np.nan
    model = SequenceLabels(**{**SMALL, "learning_rate": 1e-12}, max_epochs=1).fit(empty(200), labels, space=space)
    expected = np.array([0.5, 20 / 150, 0.01, 0.5 / 200])  # of nobody: as if of half a row
    assert model.base_rates_ == pytest.approx(expected)
    bias = model.networks_[0].head.pooled.bias.detach().numpy()
    assert bias == pytest.approx(np.log(expected / (1 - expected)), rel=1e-5)


def test_weights_count_in_the_base_rates(space: TokenSpace) -> None:
    labels, weights = np.array([[1.0], [0.0], [np.nan]]), [3.0, 1.0, 9.0]
    model = SequenceLabels(**SMALL, max_epochs=1).fit(empty(3), labels, weights, space=space)
    assert model.base_rates_ == pytest.approx([0.75])


@pytest.mark.parametrize("kind", [SequenceLabels, SequenceRegressor])
def test_rows_of_which_nothing_is_known_change_nothing(kind: Any, space: TokenSpace, sequences: Sequences) -> None:
    """Here whole batches of them, of which a mean loss would be 0 / 0."""
    labels = (counts(sequences, 2) > 0).astype(float)
    known = np.random.default_rng(0).random(300) < 0.1
    labels[~known] = np.nan
    one = kind(**{**SMALL, "tokens": 16}, max_epochs=2).fit(sequences, labels, space=space)
    two = kind(**{**SMALL, "tokens": 16}, max_epochs=2).fit(sequences.take(known), labels[known], space=space)
    three = kind(**{**SMALL, "tokens": 16}, max_epochs=2)
    three.fit(sequences, np.where(known[:, None], labels, 1.0), known.astype(float), space=space)
    method = "predict_proba" if kind is SequenceLabels else "predict"
    found, *others = (getattr(model, method)(sequences) for model in (one, two, three))
    assert np.isfinite(found).all()
    for other in others:
        assert found == pytest.approx(other, abs=1e-6)


def test_numbers_are_learnt_in_their_own_units(space: TokenSpace, sequences: Sequences) -> None:
    many = counts(sequences, 2)
    truth = np.column_stack([1000 + 500 * many[:, 0], -0.002 * many[:, 1]])
    seen = np.where(np.random.default_rng(0).random(truth.shape) < 0.3, np.nan, truth)
    model = SequenceRegressor(**{**LEARNS, "max_epochs": 40}).fit(sequences, seen, space=space)
    assert model.means_ == pytest.approx(np.nanmean(seen, axis=0))
    assert model.spreads_ == pytest.approx(np.nanstd(seen, axis=0))
    found = model.predict(sequences)
    for number in range(2):
        unseen = np.isnan(seen[:, number])
        error = np.mean((found[unseen, number] - truth[unseen, number]) ** 2)
        assert error < 0.5 * truth[unseen, number].var()


def test_without_anything_to_learn_a_number_is_its_weighted_mean(space: TokenSpace) -> None:
    numbers, weights = np.array([5.0, 7.0, np.nan, 100.0]), [1.0, 3.0, 1.0, 0.0]
    model = SequenceRegressor(**SMALL, learning_rate=0.01, dropout=0.0, max_epochs=150, patience=150)
    found = model.fit(empty(4), numbers, weights, space=space).predict(empty(4))
    assert found.shape == (4, 1)
    assert found == pytest.approx(6.5, abs=0.05)


def test_a_number_that_never_differs_is_not_divided_by_its_rounding(space: TokenSpace) -> None:
    model = SequenceRegressor(**SMALL, max_epochs=1).fit(empty(4), np.full(4, 0.1), space=space)
    assert model.means_ == pytest.approx(0.1)
    assert model.spreads_ == 1.0


@pytest.mark.parametrize(
    ("target", "kind", "method"),
    [("labels", SequenceLabels, "predict_proba"), ("numbers", SequenceRegressor, "predict")],
)
def test_state_round_trip_bit_for_bit(
    target: str, kind: Any, method: str, space: TokenSpace, sequences: Sequences
) -> None:
    y = (counts(sequences, 3) > 0).astype(float)
    made = SequenceKind("temporal_cnn")
    model = made(target=target, **{**SMALL, "network": "temporal_cnn"}, max_epochs=1, members=2)
    assert isinstance(model, kind)
    held = sequences.take(np.arange(50))
    model.fit(sequences, y, space=space, names=("x", "y", "z"), validation=(held, y[:50]))
    state, arrays = model.get_state()
    again = made.from_state(json.loads(json.dumps(state)), arrays)
    assert isinstance(again, kind)
    assert again.names_ == ("x", "y", "z")
    assert (getattr(again, method)(held) == getattr(model, method)(held)).all()
    assert again.get_params() == model.get_params()


def test_wrong_targets_are_refused(space: TokenSpace) -> None:
    rows, y = empty(4), np.array([[0, 1], [1, 0], [0, np.nan], [1, np.nan]])
    with pytest.raises(InputError, match="labels must be 0, 1, or NaN"):
        SequenceLabels(**SMALL).fit(rows, 2 * y, space=space)
    with pytest.raises(InputError, match="b is known of no training row; leave this column out"):
        SequenceLabels(**SMALL).fit(rows, np.where([[True, False]], y, np.nan), space=space, names=["a", "b"])
    with pytest.raises(InputError, match="2 different ones"):
        SequenceLabels(**SMALL).fit(rows, y, space=space, names=["a", "a"])
    with pytest.raises(InputError, match="as many columns as there are names, 2; got 1"):
        SequenceLabels(**SMALL).fit(rows, y, space=space, validation=(rows, y[:, :1]))
    with pytest.raises(InputError, match="y must have 4 rows"):
        SequenceRegressor(**SMALL).fit(rows, y[:3], space=space)
    with pytest.raises(InputError, match="finite numbers"):
        SequenceRegressor(**SMALL).fit(rows, np.array([1.0, np.inf, 2.0, 3.0]), space=space)
    with pytest.raises(InputError, match="class_weight is for SequenceClassifier only"):
        SequenceLabels(**SMALL, class_weight="balanced").fit(rows, y, space=space)
