"""A trained model with everything that its predictions depend on, as one immutable object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError
from careloop.evaluate import LabelSets
from careloop.features import FeatureMatrix, Recipe
from careloop.features.timelines import TimelineRecipe
from careloop.models import cumulative_incidence, survival_at
from careloop.train.calibration import CalibrationMap, Recalibration
from careloop.train.conformal import ConformalRule, conformal_rule
from careloop.train.definition import ModelSection
from careloop.train.inputs import model_inputs
from careloop.train.preprocess import Preprocessing, TrainingPopulation

# A survival of 0 has no logarithm; scaled to the horizon's calibrated risk it counts as this.
SMALLEST_SURVIVAL = 1e-12


@dataclass(frozen=True, eq=False)
class TuningScores:
    """Rising risks of the tuning rows with known label (m,), their labels and censoring weights; for intervals."""

    risk: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.risk)


@dataclass(frozen=True)
class TrainingFacts:
    """What the model card says about the rows: counts, the outcome in words, and where they came from."""

    outcome: str
    horizon_days: float
    record_version: int
    training_rows: int
    training_subjects: int
    training_events: int
    tuning_rows: int
    libraries: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Package:
    """A model, its feature recipe, preprocessing, population, calibration and versions; made by `train_model`.

    `estimators` holds one fitted estimator, or for a survival model with competing events two: the outcome's and the
    competing event's cause-specific hazard. They are read from `files` (the bytes that `save` writes), so predictions
    are the same bit for bit before and after saving. `version` is a hash of all the content. `conformal` is None in a
    package from before there were label sets; `timelines` says how a model of event sequences reads a history.
    """

    section: ModelSection
    facts: TrainingFacts
    recipe: Recipe
    preprocessing: Preprocessing
    population: TrainingPopulation
    estimators: tuple[Any, ...]
    recalibration: CalibrationMap
    tuning: TuningScores
    threshold: float
    version: str
    files: Mapping[str, bytes] = field(repr=False)
    conformal: ConformalRule | None = None
    timelines: TimelineRecipe | None = None

    @property
    def name(self) -> str:
        """The model's name in the study."""
        return self.section.name

    @property
    def horizon_days(self) -> float:
        """The horizon that `risk` is for."""
        return self.facts.horizon_days

    def risk(self, matrix: FeatureMatrix) -> np.ndarray:
        """P(outcome within the horizon) of each row (n,) float64."""
        return self.recalibration.apply(self.uncalibrated_risk(matrix))

    def uncalibrated_risk(self, matrix: FeatureMatrix) -> np.ndarray:
        """The model's own P(outcome within the horizon) (n,), before the map fitted on tuning rows."""
        return raw_risk(self.estimators, self.inputs(matrix), self.horizon_days)

    def survival(self, matrix: FeatureMatrix, times: np.ndarray) -> np.ndarray | None:
        """P(no outcome by each of `times`, in days) (n, len(times)); None where the model knows only the horizon."""
        if not is_survival(self.estimators[0]):
            return None
        inputs, times = self.inputs(matrix), np.asarray(times, dtype=np.float64)
        raw = incidence(self.estimators, inputs, times)
        if isinstance(self.recalibration, Recalibration):
            return 1.0 - self.recalibration.apply(raw)
        at_horizon = raw_risk(self.estimators, inputs, self.horizon_days)
        wanted = self.recalibration.apply(at_horizon)
        return meeting_horizon(1.0 - raw, 1.0 - at_horizon, 1.0 - wanted, times >= self.horizon_days)

    def label_sets(self, raw: np.ndarray, matrix: FeatureMatrix) -> LabelSets:
        """Which labels each row's set holds, from `uncalibrated_risk` (n,) and the row's subgroups.

        A package from before there were label sets has only calibrated risks of its tuning rows, of the same order.
        """
        if self.conformal is not None:
            return self.conformal.sets(raw, matrix)
        rule = conformal_rule(self.tuning.risk, self.tuning.label, weight=self.tuning.weight)
        return rule.sets(self.recalibration.apply(raw), matrix)

    def inputs(self, matrix: FeatureMatrix) -> Any:
        """What the estimators are given of the rows: preprocessed features (n, q), or sequences of events."""
        return model_inputs(self.section, self.preprocessing, self.aligned(matrix), matrix.timelines)

    def aligned(self, matrix: FeatureMatrix) -> Any:
        """The matrix's values (n, p) with its columns in the package's order; InputError if one is missing."""
        if tuple(matrix.names) == self.preprocessing.names:
            return matrix.values
        place = {name: j for j, name in enumerate(matrix.names)}
        absent = [name for name in self.preprocessing.names if name not in place]
        if absent:
            raise InputError(
                f"model {self.name} reads feature {absent[0]!r} ({len(absent)} absent), which the matrix lacks: "
                "extract features with the package's own recipe"
            )
        return matrix.values[:, [place[name] for name in self.preprocessing.names]]

    def save(self, path: Path, *, figures: str = "") -> None:
        """Write the package as folder `path`, at once or not at all; `figures` (Markdown) enters the model card."""
        from careloop.train.storage import save_package

        save_package(self, path, figures=figures)


def is_survival(estimator: Any) -> bool:
    """Whether the estimator follows scikit-survival (survival curves) and not scikit-learn's classifiers."""
    return hasattr(estimator, "predict_survival_function")


def raw_risk(estimators: tuple[Any, ...], inputs: Any, horizon_days: float) -> np.ndarray:
    """P(outcome within the horizon) (n,) before recalibration, for preprocessed rows."""
    if is_survival(estimators[0]):
        return incidence(estimators, inputs, np.array([horizon_days]))[:, 0]
    return np.asarray(estimators[0].predict_proba(inputs)[:, 1], dtype=np.float64)


def incidence(estimators: tuple[Any, ...], inputs: Any, times: np.ndarray) -> np.ndarray:
    """P(outcome by each time) (n, t) of an estimator that knows competing causes, or of one or two for one cause."""
    if hasattr(estimators[0], "predict_incidence"):
        return np.asarray(estimators[0].predict_incidence(inputs, times))
    if len(estimators) == 1:
        return 1.0 - survival_at(estimators[0], inputs, times)
    return cumulative_incidence(estimators[0], estimators[1], inputs, times)


def meeting_horizon(
    survival: np.ndarray, at_horizon: np.ndarray, wanted: np.ndarray, is_later: np.ndarray
) -> np.ndarray:
    """Survival (n, t) raised to the power by which `at_horizon` (n,) becomes `wanted` (n,): a constant hazard ratio.

    A map in steps knows only the horizon: applied to early times it would give everyone the lowest step at once. A
    row without any risk in the model has nothing to scale and falls to `wanted` at the horizon; `is_later` (t,) says
    which times are not before it.
    """
    kept = np.clip(at_horizon, SMALLEST_SURVIVAL, None)
    is_sure = kept >= 1.0
    power = np.log(wanted) / np.log(np.where(is_sure, 0.5, kept))
    scaled = np.clip(survival, SMALLEST_SURVIVAL, None) ** power[:, None]
    return np.where(is_sure[:, None], np.where(is_later, wanted[:, None], 1.0), scaled)


def content_version(document: dict[str, Any], files: Mapping[str, bytes]) -> str:
    """The first 12 hex digits of a SHA-256 over the package's document and its model files."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()[:12]
