"""Training: preprocessing, tuning and fit on training rows, the leakage check, and model packages without pickle."""

from __future__ import annotations

from careloop.train.definition import (
    LabelledRows,
    ModelSection,
    SearchRange,
    TrainingData,
    TuningSection,
    default_models,
    with_references,
)
from careloop.train.fit import train_model
from careloop.train.leakage import check_leakage
from careloop.train.package import Package
from careloop.train.pretraining import PretrainingSection
from careloop.train.storage import open_package

__all__ = [
    "LabelledRows",
    "ModelSection",
    "Package",
    "PretrainingSection",
    "SearchRange",
    "TrainingData",
    "TuningSection",
    "check_leakage",
    "default_models",
    "open_package",
    "train_model",
    "with_references",
]
