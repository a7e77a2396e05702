"""The classic 784-256-128-1 network: careloop's loop beside Keras 3's own `fit` on torch, time a training sample.

    python benchmarks/network_keras.py --rows 12800 --epochs 3 --repeats 5

Relu, sigmoid, SGD 0.01, batches of 32, early stopping on validation loss (patience 3, best weights restored), the same
simulated rows for all, one whole `fit` timed, alternating; medians over the repeats, the least, and the processor time
(all threads), which other work on the machine disturbs less. Keras runs as it comes (all cores) and with one thread.
Losses are those of the validation rows after the last fit; Keras' fit and KerasClassifier start from the same weights.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch

from careloop.models import FullyConnected, KerasClassifier

Rows = tuple[np.ndarray, np.ndarray]


def simulate(rows: int, seed: int) -> Rows:
    """Rows of 784 pixels between 0 and 1, and a class that depends on sums of them."""
    random = np.random.default_rng(seed)
    X = random.random((rows, 784), dtype=np.float32)
    teacher = np.random.default_rng(0).normal(size=(784, 3))
    signal = (X - 0.5) @ teacher
    return X, (signal[:, 0] + np.abs(signal[:, 1]) - np.abs(signal[:, 2]) > 0).astype(np.float32)


def keras_model() -> Any:
    """The classic, compiled, always from the same weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(256, "relu"),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "binary_crossentropy")
    return model


def fit_keras(training: Rows, held: Rows, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """Keras' own fit."""
    model = keras_model()
    stop = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    model.fit(*training, validation_data=held, batch_size=32, epochs=epochs, callbacks=[stop], verbose=0)
    return lambda X: model.predict(X, verbose=0)[:, 0]


def fit_keras_one_thread(training: Rows, held: Rows, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """Keras' own fit with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    predict = fit_keras(training, held, epochs)
    torch.set_num_threads(threads)
    return predict


def fit_careloop(training: Rows, held: Rows, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """The network of this package."""
    net = FullyConnected(hidden=(256, 128), learning_rate=0.01, batch_size=32, patience=3, max_epochs=epochs)
    net.fit(*training, validation=held)
    return lambda X: net.predict_proba(X)[:, 1]


def fit_keras_classifier(training: Rows, held: Rows, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """The Keras model as it is, on careloop's loop."""
    classifier = KerasClassifier(keras_model(), batch_size=32, patience=3, max_epochs=epochs)
    classifier.fit(*training, validation=held)
    return lambda X: classifier.predict_proba(X)[:, 1]


FITS = {
    "Keras fit": fit_keras,
    "Keras fit, one thread": fit_keras_one_thread,
    "careloop FullyConnected": fit_careloop,
    "careloop KerasClassifier": fit_keras_classifier,
}


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean binary cross-entropy."""
    return float(-np.log(np.clip(np.where(y > 0, p, 1 - p), 1e-7, 1)).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    training, held = simulate(arguments.rows, 1), simulate(arguments.rows // 5, 2)
    small = tuple(part[:320] for part in training)
    wall: dict[str, list[float]] = {name: [] for name in FITS}
    processor: dict[str, list[float]] = {name: [] for name in FITS}
    losses: dict[str, float] = {}
    for fit in FITS.values():
        fit(small, small, 1)  # imports and first calls
    for _ in range(arguments.repeats):
        for name, fit in FITS.items():
            started, used = time.perf_counter(), time.process_time()
            predict = fit(training, held, arguments.epochs)
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
            losses[name] = log_loss(held[1], predict(held[0]))
    each = 1e6 / (arguments.rows * arguments.epochs)
    print(f"{'microseconds a sample':<26}{'median':>8}{'least':>8}{'CPU':>8}{'Keras / it':>12}{'validation loss':>17}")
    for name in FITS:
        figures = (np.median(wall[name]) * each, min(wall[name]) * each, np.median(processor[name]) * each)
        ratio = np.median(np.array(wall["Keras fit"]) / np.array(wall[name]))
        print(f"{name:<26}{''.join(f'{f:8.1f}' for f in figures)}{ratio:12.2f}{losses[name]:17.4f}")


if __name__ == "__main__":
    main()
