"""Who enters a study and when, what happened to them afterwards, their treatment arm and their split."""

from __future__ import annotations

from careloop.cohort.definition import CohortSection
from careloop.cohort.labels import label_outcomes, meds_labels
from careloop.cohort.select import Cohort, FlowStep, select_cohort

__all__ = ["Cohort", "CohortSection", "FlowStep", "label_outcomes", "meds_labels", "select_cohort"]
