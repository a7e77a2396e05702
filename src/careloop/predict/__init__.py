"""Prediction: apply a package with interval, abstention and explanation; new patients from files; events."""

from __future__ import annotations

from careloop.predict.apply import PREDICTIONS, predict, prediction_events
from careloop.predict.explanation import Explanation, Factor, explain
from careloop.predict.recorded import record_patients, record_predictions
from careloop.predict.table import NewPatients, read_patients

__all__ = [
    "PREDICTIONS",
    "Explanation",
    "Factor",
    "NewPatients",
    "explain",
    "predict",
    "prediction_events",
    "read_patients",
    "record_patients",
    "record_predictions",
]
