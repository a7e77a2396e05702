"""From training rows to a package: preprocessing, fit, recalibration on tuning rows, and what intervals need."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError, __version__
from careloop.evaluate import horizon_weights
from careloop.evaluate.discrimination import youden_threshold
from careloop.models import build, survival_target
from careloop.train.definition import LabelledRows, ModelSection, TrainingData
from careloop.train.package import (
    Package,
    Recalibration,
    TrainingFacts,
    TuningScores,
    content_version,
    is_survival,
    raw_risk,
)
from careloop.train.preprocess import Preprocessing, Scheme, dense_values, fit_population, fit_preprocessing
from careloop.train.storage import decode_estimators, encode_estimators, to_document
from careloop.train.tune import tune

# Trees place missing values themselves; everything else gets imputed, standardised columns.
NATIVE_KINDS = ("lightgbm", "boosted_hazard")
SPARSE_KINDS = (*NATIVE_KINDS, "logistic_regression")
# Recalibration is left out unless the joint 95 % region of (intercept, slope) excludes (0, 1): chi-squared, 2 df.
JOINT_95 = 5.991
# A forest's risk of exactly 0 or 1 has no log-odds; it is recalibrated as if it were this far from them.
SMALLEST_RISK = 1e-3
LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "scikit-survival", "torch")

Progress = Callable[[str, int, int], None]


def train_model(
    section: ModelSection,
    data: TrainingData,
    *,
    seed: int = 0,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Package:
    """Tune (if the section says so), fit on the training rows, recalibrate on the tuning rows, and package.

    `journal` is the file that keeps finished tuning trials. The same section, data and library versions on the same
    machine give the same package, byte for byte. InputError if training or tuning rows have one class only.
    """
    training, tuning = data.part("train"), data.part("tuning")
    check_classes(training, "training")
    check_classes(tuning, "tuning")

    def fit_candidate(candidate: ModelSection, rows: LabelledRows) -> Callable[[Any], np.ndarray]:
        preprocessing, estimators = fit_rows(candidate, rows, tuning, data.matrix.names, seed)
        return lambda values: raw_risk(estimators, preprocessing.apply(values), data.horizon_days)

    chosen = tune(section, training, fit_candidate, seed=seed, journal=journal, progress=progress)
    section = section.model_copy(update={"parameters": chosen})
    preprocessing, fitted = fit_rows(section, training, tuning, data.matrix.names, seed)
    files = encode_estimators(section.kind, fitted)
    estimators = decode_estimators(section.kind, files)
    raw = raw_risk(estimators, preprocessing.apply(tuning.values), data.horizon_days)
    recalibration, note = recalibrate(raw, tuning)
    return packaged(section, data, preprocessing, estimators, files, recalibration=recalibration, raw=raw, note=note)


def fit_rows(
    section: ModelSection, rows: LabelledRows, tuning: LabelledRows, names: tuple[str, ...], seed: int
) -> tuple[Preprocessing, tuple[Any, ...]]:
    """Preprocessing and estimators fitted on `rows`; `tuning` only ends training early."""
    scheme: Scheme = "native" if section.kind in NATIVE_KINDS else "standardised"
    values = rows.values if section.kind in SPARSE_KINDS else dense_values(rows.values)
    preprocessing = fit_preprocessing(values, names, scheme)
    inputs = preprocessing.apply(values)
    estimator = build(section.kind, **seeded(section, seed))
    if is_survival(estimator):
        return preprocessing, fit_survival(section, seed, inputs, rows)
    if not hasattr(estimator, "predict_proba"):
        raise InputError(
            f"models: {section.kind} gives neither probabilities (predict_proba) nor survival curves "
            "(predict_survival_function): choose a classifier or a survival model"
        )
    label, weight, known = known_labels(rows)
    options: dict[str, Any] = {}
    accepted = inspect.signature(estimator.fit).parameters
    if "sample_weight" in accepted:
        options["sample_weight"] = weight
    elif not np.allclose(weight, 1.0):
        raise InputError(f"models: {section.kind} takes no sample weights, which censored labels need: choose another")
    if "validation" in accepted:
        held_label, held_weight, held_known = known_labels(tuning)
        options["validation"] = (preprocessing.apply(tuning.values)[held_known], held_label, held_weight)
    return preprocessing, (estimator.fit(inputs[known], label, **options),)


def fit_survival(section: ModelSection, seed: int, inputs: Any, rows: LabelledRows) -> tuple[Any, ...]:
    """The outcome's model and, where competing events happened, theirs: each cause's hazard, the other one censored."""
    event, time = rows.outcomes.event, rows.outcomes.follow_up_days
    causes = [1, 2] if (event == 2).any() else [1]
    return tuple(
        build(section.kind, **seeded(section, seed)).fit(inputs, survival_target(event == cause, time))
        for cause in causes
    )


def seeded(section: ModelSection, seed: int) -> dict[str, Any]:
    """The section's parameters, with the seed where the estimator has one that the study leaves open."""
    known = build(section.kind, **section.parameters).get_params()
    seeds = {name: seed for name in ("seed", "random_state") if name in known}
    return {**seeds, **section.parameters}


def known_labels(rows: LabelledRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """0/1 labels and censoring weights of the rows with a known label (m,), and which those are (positions, (m,))."""
    outcomes = rows.outcomes
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    known = np.flatnonzero(weight > 0)
    return outcomes.label[known].astype(np.int64), weight[known], known


def check_classes(rows: LabelledRows, part: str) -> None:
    """InputError unless both classes occur among the rows with a known label."""
    label, _, _ = known_labels(rows)
    for value, what in ((1, "had the outcome within the horizon"), (0, "is known to be free of it at the horizon")):
        if not (label == value).any():
            raise InputError(
                f"none of the {len(rows.outcomes)} {part} rows {what}, so no model can be fitted: "
                "check cohort.outcome's codes and horizon_days, or enlarge the cohort"
            )


def recalibrate(raw: np.ndarray, tuning: LabelledRows) -> tuple[Recalibration, str]:
    """Intercept and slope of the tuning rows' labels on the log-odds of the raw risks (n,), if they are needed.

    Applied only when the joint 95 % confidence region of (intercept, slope), from a covariance that is robust to
    weights and to several rows of a subject, excludes (0, 1) and the slope is positive (Cox 1958, Biometrika 45:562).
    """
    label, weight, known = known_labels(tuning)
    kept = np.clip(raw[known], SMALLEST_RISK, 1 - SMALLEST_RISK)
    design = np.column_stack([np.ones(len(kept)), np.log(kept) - np.log1p(-kept)])
    found, covariance = logistic_fit(design, label, weight, tuning.outcomes.subject_id[known])
    away = found - np.array([0.0, 1.0])
    with np.errstate(all="ignore"):
        distance = float(away @ np.linalg.pinv(covariance) @ away)
    figures = f"intercept {found[0]:.2f}, slope {found[1]:.2f} on the tuning rows"
    if not np.isfinite(found).all() or not np.isfinite(distance) or distance <= JOINT_95:
        return Recalibration(), f"Risks are not recalibrated: {figures}, compatible with 0 and 1."
    if found[1] <= 0:
        return (
            Recalibration(),
            f"Risks are not recalibrated although {figures}: a slope at or below 0 cannot be mended.",
        )
    return Recalibration(
        float(found[0]), float(found[1])
    ), f"Risks are recalibrated by {figures} (0 and 1 excluded at 95 %)."


def logistic_fit(
    design: np.ndarray, label: np.ndarray, weight: np.ndarray, subject_id: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted logistic regression of label (n,) on design (n, 2): coefficients and their cluster-robust covariance."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        score = design @ at
        value = float(weight @ (np.logaddexp(0.0, score) - label * score))
        return value, design.T @ (weight * (expit(score) - label))

    at = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    fitted = expit(design @ at)
    inverse = np.linalg.pinv((design * (weight * fitted * (1 - fitted))[:, None]).T @ design)
    _, subject = np.unique(subject_id, return_inverse=True)
    scores = np.zeros((subject.max() + 1, 2))
    np.add.at(scores, subject, design * (weight * (label - fitted))[:, None])
    return at, inverse @ (scores.T @ scores) @ inverse


def packaged(
    section: ModelSection,
    data: TrainingData,
    preprocessing: Preprocessing,
    estimators: tuple[Any, ...],
    files: dict[str, bytes],
    *,
    recalibration: Recalibration,
    raw: np.ndarray,
    note: str,
) -> Package:
    """The package with its version, which hashes everything else."""
    from dataclasses import replace

    training, tuning = data.part("train"), data.part("tuning")
    risk = recalibration.apply(raw)
    label, weight, known = known_labels(tuning)
    order = np.lexsort((weight, label, risk[known]))
    threshold = data.threshold if data.threshold != "youden" else youden_threshold(risk, tuning.outcomes).value
    package = Package(
        section=section,
        facts=facts_of(data, training, tuning, (note, threshold_note(data, threshold))),
        recipe=data.recipe,
        preprocessing=preprocessing,
        population=fit_population(training.values),
        estimators=estimators,
        recalibration=recalibration,
        tuning=TuningScores(risk[known][order], label[order].astype(np.float64), weight[order]),
        threshold=float(threshold),
        version="",
        files=files,
    )
    return replace(package, version=content_version(to_document(package), files))


def threshold_note(data: TrainingData, threshold: float) -> str:
    """How the decision threshold came about."""
    rule = (
        "from the study file" if data.threshold != "youden" else "largest recall + specificity - 1 on the tuning rows"
    )
    return f"A risk of at least {threshold:.4f} counts as a predicted outcome ({rule})."


def facts_of(data: TrainingData, training: LabelledRows, tuning: LabelledRows, notes: tuple[str, ...]) -> TrainingFacts:
    """Counts and versions for the model card."""
    return TrainingFacts(
        outcome=data.outcome,
        horizon_days=data.horizon_days,
        record_version=data.record_version,
        training_rows=len(training.outcomes),
        training_subjects=len(np.unique(training.outcomes.subject_id)),
        training_events=int((training.outcomes.label & training.outcomes.known).sum()),
        tuning_rows=len(tuning.outcomes),
        libraries={"careloop": __version__, "python": platform.python_version(), **installed_versions()},
        notes=notes,
    )


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that can shape a prediction, as far as they are installed."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
