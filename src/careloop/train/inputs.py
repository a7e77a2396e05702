"""What an estimator is given of a row: its preprocessed features, or its event sequence with features beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from careloop import InputError
from careloop.features.timelines import Timelines
from careloop.models.sequence.kinds import KINDS
from careloop.train.definition import ModelSection
from careloop.train.preprocess import Preprocessing


def reads_sequences(section: ModelSection) -> bool:
    """Whether the model reads event sequences."""
    return section.kind in KINDS


def model_inputs(section: ModelSection, preprocessing: Preprocessing, values: Any, timelines: Timelines | None) -> Any:
    """The estimator's inputs for feature values (n, p): an array or CSR matrix (n, q), or sequences of n rows.

    InputError: a sequence model, and no timelines.
    """
    if not reads_sequences(section):
        return preprocessing.apply(values)
    if timelines is None:
        raise InputError(
            f"model {section.name} reads event sequences: give a record, or a file of events, not one row a patient"
        )
    chosen = beside(section, preprocessing)
    static = preprocessing.apply(values)[:, chosen] if len(chosen) else np.zeros((len(timelines), 0))
    return timelines.with_static(static).sequences


def beside(section: ModelSection, preprocessing: Preprocessing) -> np.ndarray:
    """Positions of the preprocessed columns that stand beside a model's event sequences."""
    names = preprocessing.names
    wanted = {
        "none": np.zeros(len(names), dtype=bool),
        "static": np.array([name == "age_years" or name.startswith("static|") for name in names], dtype=bool),
        "all": np.ones(len(names), dtype=bool),
    }[section.beside]
    return np.flatnonzero(wanted[preprocessing.owners]) if wanted.any() else np.empty(0, dtype=np.intp)
