"""Do later events bear out predictions and plans: a verdict in figures and in words, written back to the record."""

from __future__ import annotations

from careloop.outcome.accuracy import PredictionVerdict
from careloop.outcome.events import recorded_predictions, verdict_events, verify_record
from careloop.outcome.treatment.value import Comparison, PlanVerdict, Value
from careloop.outcome.verdict import Verdict, verify

__all__ = [
    "Comparison",
    "PlanVerdict",
    "PredictionVerdict",
    "Value",
    "Verdict",
    "recorded_predictions",
    "verdict_events",
    "verify",
    "verify_record",
]
