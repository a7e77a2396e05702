"""How good predictions are: discrimination, calibration, utility, survival, subgroups, each with an interval."""

from __future__ import annotations

from careloop.evaluate.assess import (
    Comparison,
    Evaluation,
    ModelEvaluation,
    Predictions,
    compare,
    evaluate_all,
    evaluate_predictions,
)
from careloop.evaluate.censoring import (
    Outcomes,
    aalen_johansen,
    horizon_labels,
    horizon_weights,
    kaplan_meier,
)
from careloop.evaluate.conformal import LabelSets
from careloop.evaluate.definition import EvaluationSection, SubgroupSection
from careloop.evaluate.discrimination import Threshold, youden_threshold
from careloop.evaluate.estimate import Band, Estimate, to_json
from careloop.evaluate.fairness import Fairness, evaluate_fairness
from careloop.evaluate.labels import LabelOutcomes, evaluate_labels
from careloop.evaluate.reclassification import Reclassification, reclassify
from careloop.evaluate.sample_size import binary_sample_size, continuous_sample_size, time_to_event_sample_size
from careloop.evaluate.subgroups import cut_groups
from careloop.evaluate.survival import Survival, evaluate_survival, harrell_c, uno_c

__all__ = [
    "Band",
    "Comparison",
    "Estimate",
    "Evaluation",
    "EvaluationSection",
    "Fairness",
    "LabelOutcomes",
    "LabelSets",
    "ModelEvaluation",
    "Outcomes",
    "Predictions",
    "Reclassification",
    "SubgroupSection",
    "Survival",
    "Threshold",
    "aalen_johansen",
    "binary_sample_size",
    "compare",
    "continuous_sample_size",
    "cut_groups",
    "evaluate_all",
    "evaluate_fairness",
    "evaluate_labels",
    "evaluate_predictions",
    "evaluate_survival",
    "harrell_c",
    "horizon_labels",
    "horizon_weights",
    "kaplan_meier",
    "reclassify",
    "time_to_event_sample_size",
    "to_json",
    "uno_c",
    "youden_threshold",
]
