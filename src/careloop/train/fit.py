"""From training rows to a package: preprocessing, fit, recalibration on tuning rows, and what intervals need."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from careloop import InputError, __version__
from careloop.evaluate import horizon_weights
from careloop.evaluate.discrimination import youden_threshold
from careloop.models import build, survival_target
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard
from careloop.models.sequence.training.loop import Checkpoint, Listener
from careloop.train.calibration import calibrate
from careloop.train.conformal import conformal_rule
from careloop.train.definition import LabelledRows, ModelSection, TrainingData
from careloop.train.inputs import beside, model_inputs, reads_sequences
from careloop.train.package import (
    Package,
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
LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "scikit-survival", "torch")

Progress = Callable[[str, int, int], None]


class LoopOptions(TypedDict, total=False):
    """Where the training of a network keeps its state, and who hears of it."""

    checkpoint: Checkpoint
    listener: Listener


def train_model(
    section: ModelSection,
    data: TrainingData,
    *,
    seed: int = 0,
    journal: Path | None = None,
    progress: Progress | None = None,
    loop: LoopOptions | None = None,
) -> Package:
    """Tune (if the section says so), fit on the training rows, calibrate on the tuning rows, and package.

    `journal` is the file that keeps finished tuning trials; `loop` has `checkpoint` and `listener` for the training of
    networks over event sequences, which goes on from the checkpoint. The same section, data and library versions on
    the same machine give the same package, byte for byte. InputError if training or tuning rows have one class only.
    """
    training, tuning = data.part("train"), data.part("tuning")
    check_classes(training, "training")
    check_classes(tuning, "tuning")

    def fit_candidate(candidate: ModelSection, rows: LabelledRows) -> Callable[[LabelledRows], np.ndarray]:
        preprocessing, estimators = fit_rows(candidate, rows, tuning, data, seed=seed)
        return lambda others: raw_risk(
            estimators, model_inputs(candidate, preprocessing, others.values, others.timelines), data.horizon_days
        )

    chosen = tune(section, training, fit_candidate, seed=seed, journal=journal, progress=progress)
    section = section.model_copy(update={"parameters": chosen})
    preprocessing, fitted = fit_rows(section, training, tuning, data, seed=seed, loop=loop)
    files = encode_estimators(section.kind, fitted)
    estimators = decode_estimators(section.kind, files)
    inputs = model_inputs(section, preprocessing, tuning.values, tuning.timelines)
    raw = raw_risk(estimators, inputs, data.horizon_days)
    return packaged(section, data, preprocessing, estimators, files=files, raw=raw)


def fit_rows(
    section: ModelSection,
    rows: LabelledRows,
    tuning: LabelledRows,
    data: TrainingData,
    *,
    seed: int,
    loop: LoopOptions | None = None,
) -> tuple[Preprocessing, tuple[Any, ...]]:
    """Preprocessing and estimators fitted on `rows`; `tuning` only ends training early."""
    scheme: Scheme = "native" if section.kind in NATIVE_KINDS else "standardised"
    values = rows.values if section.kind in SPARSE_KINDS else dense_values(rows.values)
    preprocessing = fit_preprocessing(values, data.matrix.names, scheme)
    if reads_sequences(section):
        return preprocessing, (fit_sequences(section, preprocessing, rows, tuning, data, seeded(section, seed), loop),)
    inputs = preprocessing.apply(values)
    estimator = build(section.kind, **seeded(section, seed))
    if is_survival(estimator):
        held = (preprocessing.apply(tuning.values), tuning)
        return preprocessing, fit_survival(section, inputs, rows, held=held, seed=seed)
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


def fit_sequences(
    section: ModelSection,
    preprocessing: Preprocessing,
    rows: LabelledRows,
    tuning: LabelledRows,
    data: TrainingData,
    parameters: dict[str, Any],
    loop: LoopOptions | None,
) -> Any:
    """A network over event sequences, fitted on `rows`, from the study's pre-training where the section says so."""
    if data.timelines is None:
        raise InputError(f"model {section.name} reads event sequences, and the training data have no timelines")
    if section.start == "pretrained":
        if data.start is None:
            raise InputError(
                f"model {section.name} starts pretrained, and the study has no pretraining section; add it"
            )
        shape = data.start.shape
        parameters |= {"network": shape.trunk, "width": shape.width, "layers": shape.layers, "heads": shape.heads}
    estimator = build(section.kind, **parameters)
    if not isinstance(estimator, SequenceHazard | SequenceClassifier):
        raise InputError(f"models: {section.name}: a study predicts one outcome, by target hazard or label")
    options: dict[str, Any] = {"space": data.timelines.token_space(len(beside(section, preprocessing)))}
    options |= {"start": data.start if section.start == "pretrained" else None, **(loop or {})}

    def of(part: LabelledRows) -> tuple[Any, ...]:
        inputs = model_inputs(section, preprocessing, part.values, part.timelines)
        if is_survival(estimator):
            return inputs, causes(part)
        label, weight, known = known_labels(part)
        return inputs.take(known), label, weight

    return estimator.fit(*of(rows), validation=of(tuning), **options)


def causes(rows: LabelledRows) -> np.ndarray:
    """Structured array (n,) of cause (0 censored, 1 the outcome, 2 a competing event) and follow-up in days."""
    target = np.empty(len(rows.outcomes), dtype=[("cause", np.int64), ("time", np.float64)])
    target["cause"], target["time"] = rows.outcomes.event, rows.outcomes.follow_up_days
    return target


def fit_survival(
    section: ModelSection, inputs: Any, rows: LabelledRows, *, held: tuple[Any, LabelledRows], seed: int
) -> tuple[Any, ...]:
    """The outcome's model and, where competing events happened, theirs: each cause's hazard, the other one censored.

    `held` are the tuning rows' inputs and outcomes, on which a network stops early.
    """
    fitted = []
    for cause in [1, 2] if (rows.outcomes.event == 2).any() else [1]:
        estimator = build(section.kind, **seeded(section, seed))
        options: dict[str, Any] = {}
        if "validation" in inspect.signature(estimator.fit).parameters:
            options["validation"] = (held[0], cause_target(held[1], cause))
        fitted.append(estimator.fit(inputs, cause_target(rows, cause), **options))
    return tuple(fitted)


def cause_target(rows: LabelledRows, cause: int) -> np.ndarray:
    """Survival target (n,) with one cause as the event."""
    return survival_target(rows.outcomes.event == cause, rows.outcomes.follow_up_days)


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


def packaged(
    section: ModelSection,
    data: TrainingData,
    preprocessing: Preprocessing,
    estimators: tuple[Any, ...],
    *,
    files: dict[str, bytes],
    raw: np.ndarray,
) -> Package:
    """The package, calibrated by the raw risks of the tuning rows, with its version, which hashes everything else."""
    training, tuning = data.part("train"), data.part("tuning")
    label, weight, known = known_labels(tuning)
    calibrated = calibrate(
        section.calibration, raw[known], label=label, weight=weight, subject_id=tuning.outcomes.subject_id[known]
    )
    risk = calibrated.map.apply(raw)
    threshold = data.threshold if data.threshold != "youden" else youden_threshold(risk, tuning.outcomes).value
    groups = {grouping: names[data.is_in("tuning")][known] for grouping, names in data.groups.items()}
    conformal = conformal_rule(raw[known], label, weight=weight, level=data.conformal_level, groups=groups)
    order = np.lexsort((weight, label, calibrated.risk))
    package = Package(
        section=section,
        facts=facts_of(data, training, tuning, (calibrated.note, conformal.note, threshold_note(data, threshold))),
        recipe=data.recipe,
        preprocessing=preprocessing,
        population=fit_population(training.values),
        estimators=estimators,
        recalibration=calibrated.map,
        tuning=TuningScores(calibrated.risk[order], label[order].astype(np.float64), weight[order]),
        threshold=float(threshold),
        version="",
        files=files,
        conformal=conformal,
        timelines=data.timelines if reads_sequences(section) else None,
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
