"""Keras models as they are: the same training as Keras' own fit, and what they were compiled with is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import clone

from careloop import InputError
from careloop.models import KerasClassifier

keras = pytest.importorskip("keras")


def sequential(output: str | None = "sigmoid", **options):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu", **options), keras.layers.Dense(1, output)]
    )


def compiled(optimizer, loss, output: str | None = "sigmoid", **options):
    model = sequential(output, **options)
    model.compile(optimizer, loss)
    return model


CASES = {
    "plain": lambda: compiled(keras.optimizers.SGD(0.1), "binary_crossentropy"),
    "momentum": lambda: compiled(keras.optimizers.SGD(0.1, momentum=0.9), "binary_crossentropy"),
    "adam on log-odds": lambda: compiled("adam", keras.losses.BinaryCrossentropy(from_logits=True), None),
    "regularised": lambda: compiled(keras.optimizers.SGD(0.1), "binary_crossentropy", kernel_regularizer="l2"),
    "no bias": lambda: compiled(keras.optimizers.SGD(0.1), "mean_squared_error", use_bias=False),
}


@pytest.mark.parametrize("case", CASES)
def test_same_weights_as_keras_fit_on_whole_batches(rows, case: str) -> None:
    """With one batch an epoch the order of the rows does not matter: Keras' own fit must give the same weights."""
    X, y = rows
    weight = np.linspace(0.5, 1.5, len(y))
    peer, ours = CASES[case](), CASES[case]()
    peer.fit(X, y, sample_weight=weight, batch_size=len(y), epochs=4, shuffle=False, verbose=0)
    mine = KerasClassifier(ours, batch_size=len(y), max_epochs=4, validation_fraction=0.0).fit(X, y, weight)
    for one, other in zip(mine.model_.get_weights(), peer.get_weights(), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert ours.get_weights()[0] == pytest.approx(CASES[case]().get_weights()[0])  # the given model is left alone


def test_uncompiled_functional_and_layers_with_state(rows) -> None:
    X, y = rows
    given = keras.Input((6,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(given))
    model = keras.Model(given, keras.layers.Dense(1)(keras.layers.Dropout(0.1, seed=1)(hidden)))
    mine = KerasClassifier(model, learning_rate=0.1, max_epochs=30).fit(X, y)
    assert mine.score(X, y) > 0.85
    held = [epoch.validation_loss for epoch in mine.epochs_]
    assert len(held) == min(30, int(np.argmin(held)) + 4)


def test_unbuilt_model_is_deterministic_and_survives_its_state(rows) -> None:
    X, y = rows
    model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1, "sigmoid")])
    mine = KerasClassifier(model, max_epochs=2).fit(X, y)
    assert np.array_equal(clone(mine).fit(X, y).predict_proba(X), mine.predict_proba(X))
    plain, arrays = mine.get_state()
    again = KerasClassifier.from_state(json.loads(json.dumps(plain)), arrays)
    assert np.array_equal(again.predict_proba(X), mine.predict_proba(X))
    assert np.array_equal(again.predict(X), mine.predict(X))


def test_another_backend_and_a_model_without_configuration_are_named(rows, monkeypatch) -> None:
    class Unregistered(keras.Model):
        def call(self, inputs):
            return inputs[:, :1]

    with pytest.raises(InputError, match=r"Unregistered.*register_keras_serializable"):
        KerasClassifier(Unregistered()).fit(*rows)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError, match="KERAS_BACKEND=torch"):
        KerasClassifier(sequential()).fit(*rows)
