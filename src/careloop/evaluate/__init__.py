"""How good predictions are: discrimination, calibration, utility, survival, subgroups, each with an interval."""

from __future__ import annotations

from careloop.evaluate.censoring import Outcomes, horizon_labels, horizon_weights
from careloop.evaluate.definition import EvaluationSection, SubgroupSection

__all__ = ["EvaluationSection", "Outcomes", "SubgroupSection", "horizon_labels", "horizon_weights"]
