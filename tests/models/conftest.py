"""Keras takes its backend from the environment when it is first imported; a small set of rows for classifiers."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"


@pytest.fixture(scope="session")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """400 rows of 6 columns; the first three decide the outcome, with noise."""
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 6)).astype(np.float32)
    return X, (X[:, 0] - X[:, 1] + 0.5 * X[:, 2] + 0.5 * random.normal(size=400) > 0).astype(int)
