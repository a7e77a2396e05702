"""The check says of explanations that are right that they matter, and in words when they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop.features import FeatureMatrix
from careloop.features.timelines import Timelines
from careloop.models.sequence.arrays import FIRST_CODE, Sequences, TokenSpace
from careloop.models.sequence.estimators import SequenceClassifier
from careloop.predict.explanation_check import ExplanationCheck, check_explanation

pytest.importorskip("torch")
ROWS, EVENTS = 240, 8


def checked(label_by_code: Any) -> ExplanationCheck:
    """The check of a GRU that was fitted to the labels that the codes (rows, events) give."""
    random = np.random.default_rng(0)
    code = random.integers(FIRST_CODE, FIRST_CODE + 6, ROWS * EVENTS).astype(np.int32)
    time = np.sort(random.uniform(0, 100, (ROWS, EVENTS)), axis=1).ravel()
    none = np.zeros(len(code), dtype=np.uint8), np.full(len(code), np.nan, dtype=np.float32)
    rows = Sequences(np.arange(ROWS + 1) * EVENTS, code, *none, time=time, at=np.full(ROWS, 101.0))
    label = label_by_code(code.reshape(ROWS, EVENTS))
    model = SequenceClassifier(
        network="gru", width=16, layers=1, learning_rate=0.02, max_epochs=25, tokens=512, device="cpu"
    )
    model.fit(rows, label, space=TokenSpace(FIRST_CODE + 6, 2, np.zeros((FIRST_CODE + 6, 0), dtype=np.int32)))
    keys = pl.DataFrame({"subject_id": range(ROWS), "prediction_time": range(ROWS)})
    matrix = FeatureMatrix(keys, (), np.zeros((ROWS, 0), dtype=np.float32), Timelines(keys, rows))
    package = SimpleNamespace(
        name="gru", estimators=(model,), horizon_days=None, inputs=lambda matrix: matrix.timelines.sequences
    )
    return check_explanation(package, matrix)  # type: ignore[arg-type]


def test_explanations_of_a_model_that_reads_one_code_matter() -> None:
    found = checked(lambda code: (code == FIRST_CODE).any(axis=1).astype(int))
    assert found.low > 0
    assert found.rows == 200
    assert found.text.startswith("The explanations name events that matter: without the 50% of a patient's events")


def test_the_sentence_says_when_they_do_not() -> None:
    found = ExplanationCheck("gru", (0.1, 0.5), (0.0, 0.01), (0.0, 0.02), area=0.0, low=-0.1, high=0.1, rows=48)
    assert found.text == (
        "The explanations are no better than chance: without the 50% of a patient's events that they say raise the "
        "risk most, the log-odds are 0.01 lower, without as many at random 0.02 (mean distance 0.00, 95 % interval "
        "-0.10 to 0.10; 48 patients)."
    )
