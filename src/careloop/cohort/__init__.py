"""Who enters a study and when, what happened to them afterwards, their treatment arm and their split."""

from __future__ import annotations

from careloop.cohort.aces import AcesTask, is_aces, read_aces
from careloop.cohort.aces_windows import aces_cohort
from careloop.cohort.definition import CohortSection
from careloop.cohort.diagnoses import DiagnosesSection, DiagnosisLabels, diagnosis_labels
from careloop.cohort.labels import label_outcomes, meds_labels
from careloop.cohort.select import Cohort, FlowStep, select_cohort

__all__ = [
    "AcesTask",
    "Cohort",
    "CohortSection",
    "DiagnosesSection",
    "DiagnosisLabels",
    "FlowStep",
    "aces_cohort",
    "diagnosis_labels",
    "is_aces",
    "label_outcomes",
    "meds_labels",
    "read_aces",
    "select_cohort",
]
