"""Parameters chosen by cross-validation inside the training rows: seeded TPE, pruned between folds, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError
from careloop.evaluate import horizon_weights
from careloop.models import build
from careloop.models.sequence.kinds import KINDS
from careloop.train.definition import LabelledRows, ModelSection, SearchRange

# Small spaces of the parameters that matter most, in ranges where the defaults lie well inside.
SEQUENCE_SPACE = {
    "learning_rate": SearchRange(low=1e-4, high=1e-2, scale="log"),
    "dropout": SearchRange(low=0.0, high=0.5),
    "weight_decay": SearchRange(low=1e-3, high=1.0, scale="log"),
}
SPACES: dict[str, dict[str, SearchRange]] = {
    **dict.fromkeys(KINDS, SEQUENCE_SPACE),
    "logistic_regression": {"C": SearchRange(low=1e-4, high=1e2, scale="log")},
    "lightgbm": {
        "learning_rate": SearchRange(low=0.01, high=0.2, scale="log"),
        "num_leaves": SearchRange(low=3, high=63, scale="log"),
        "min_child_samples": SearchRange(low=5, high=200, scale="log"),
        "reg_lambda": SearchRange(low=0.01, high=100.0, scale="log"),
        "colsample_bytree": SearchRange(low=0.3, high=1.0),
    },
    "fully_connected": {
        "learning_rate": SearchRange(low=1e-3, high=0.1, scale="log"),
        "hidden": SearchRange(choices=[[32], [64, 32], [256, 128]]),
        "batch_size": SearchRange(choices=[32, 128]),
    },
    "cox": {"l2": SearchRange(low=1e-5, high=1.0, scale="log")},
    "boosted_hazard": {
        "learning_rate": SearchRange(low=0.01, high=0.2, scale="log"),
        "num_leaves": SearchRange(low=3, high=15, scale="log"),
        "min_child_samples": SearchRange(low=5, high=200, scale="log"),
    },
    "hazard_network": {
        "learning_rate": SearchRange(low=1e-3, high=0.05, scale="log"),
        "hidden": SearchRange(choices=[[16], [32], [64, 32]]),
        "dropout": SearchRange(low=0.0, high=0.6),
        "weight_decay": SearchRange(low=0.01, high=3.0, scale="log"),
    },
}
# Trials before the median pruner may stop one after its first fold.
STARTUP_TRIALS = 5
SMALLEST_RISK = 1e-6

# (section with the parameters to try, training rows) -> function from other rows (n) to risks (n,)
Fit = Callable[[ModelSection, LabelledRows], Callable[[LabelledRows], np.ndarray]]
Progress = Callable[[str, int, int], None]


def tune(
    section: ModelSection,
    rows: LabelledRows,
    fit: Fit,
    *,
    seed: int = 0,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The parameters with the best cross-validated figure; the model's defaults are the first trial.

    With `journal` (a file) finished trials survive a kill and are not run again; each trial's sampler is seeded by its
    place, so an interrupted search ends where an uninterrupted one would.
    """
    import optuna

    tuning = section.tuning
    if tuning is None:
        return section.parameters
    space = search_space(section)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=journal_storage(journal),
        study_name=f"{section.name}-{fingerprint(section, rows, seed)}",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # left behind by a killed run
    study.enqueue_trial(first_trial(section, space), skip_if_exists=True)
    folds = subject_folds(rows.outcomes.subject_id, rows.outcomes.label, tuning.folds, seed=seed)
    while (done := finished(study)) < tuning.trials:
        if progress:
            progress(f"tuning {section.name}", done, tuning.trials)
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        run_trial(study, section, space, lambda candidate: fold_figures(candidate, rows, folds, fit))
    return parameters_of(section, space, study.best_trial.params)


def run_trial(
    study: Any, section: ModelSection, space: dict[str, SearchRange], figures: Callable[[ModelSection], Iterator[float]]
) -> None:
    """One setting, fold by fold; given up when its mean so far is worse than the median of earlier settings there."""
    import optuna

    trial = study.ask()
    drawn = {name: suggest(trial, name, one) for name, one in space.items()}
    candidate = section.model_copy(update={"parameters": parameters_of(section, space, drawn)})
    values: list[float] = []
    for fold, value in enumerate(figures(candidate)):
        values.append(value)
        trial.report(float(np.mean(values)), fold)
        if trial.should_prune() and fold + 1 < section.tuning.folds:  # type: ignore[union-attr]
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
    study.tell(trial, float(np.mean(values)))


def fold_figures(candidate: ModelSection, rows: LabelledRows, folds: np.ndarray, fit: Fit) -> Iterator[float]:
    """The metric on each fold, lower is better, of a model fitted on the other folds."""
    outcomes = rows.outcomes
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    for fold in range(folds.max() + 1):
        held = folds == fold
        risk = fit(candidate, rows.take(~held))
        yield figure(candidate.tuning.metric, risk(rows.take(held)), outcomes.label[held], weight[held])  # type: ignore[union-attr]


def figure(metric: str, risk: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    """Censoring-weighted log loss, Brier score, or 1 - AUROC; all (n,) arrays, lower is better."""
    known = weight > 0
    risk, label, weight = risk[known], label[known].astype(float), weight[known]
    if metric == "auroc":
        from sklearn.metrics import roc_auc_score

        return 1.0 - float(roc_auc_score(label, risk, sample_weight=weight)) if 0 < label.sum() < len(label) else 0.5
    if metric == "brier":
        return float(np.average((risk - label) ** 2, weights=weight))
    kept = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return float(-np.average(label * np.log(kept) + (1 - label) * np.log1p(-kept), weights=weight))


def subject_folds(subject_id: np.ndarray, label: np.ndarray, folds: int, *, seed: int = 0) -> np.ndarray:
    """Fold (n,) of each row: all rows of a subject together, subjects with the outcome spread evenly."""
    subjects, subject = np.unique(subject_id, return_inverse=True)
    had_outcome = np.bincount(subject, weights=label, minlength=len(subjects)) > 0
    if had_outcome.sum() < folds:
        raise InputError(
            f"cross-validation needs a subject with the outcome in each of {folds} folds, and {int(had_outcome.sum())} "
            "training subjects have it: use fewer folds or leave tuning out"
        )
    order = np.lexsort((np.random.default_rng(seed).random(len(subjects)), had_outcome))
    fold_of = np.empty(len(subjects), dtype=np.int64)
    fold_of[order] = np.arange(len(subjects)) % folds
    return fold_of[subject]


def search_space(section: ModelSection) -> dict[str, SearchRange]:
    """The study's space, or the kind's own without the parameters that the study fixes."""
    given = section.tuning.space if section.tuning else None
    if given is not None:
        return given
    if section.kind not in SPACES:
        raise InputError(
            f"models: {section.name} ({section.kind}) has no search space of its own: give tuning.space, "
            "such as {max_depth: {low: 2, high: 10}}"
        )
    space = {name: one for name, one in SPACES[section.kind].items() if name not in section.parameters}
    if not space:
        raise InputError(f"models: {section.name} fixes every parameter that tuning would search; leave tuning out")
    return space


def suggest(trial: Any, name: str, one: SearchRange) -> Any:
    """A value from optuna in a form that its journal can hold: a number, or the place of a choice."""
    if one.choices is not None:
        return trial.suggest_categorical(name, list(range(len(one.choices))))
    log = one.scale == "log"
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(name, one.low, one.high, log=log)
    return trial.suggest_float(name, one.low, one.high, log=log)


def parameters_of(section: ModelSection, space: dict[str, SearchRange], drawn: dict[str, Any]) -> dict[str, Any]:
    """The section's parameters with the drawn ones in place."""
    chosen = {name: one.choices[drawn[name]] if one.choices else drawn[name] for name, one in space.items()}
    return {**section.parameters, **chosen}


def first_trial(section: ModelSection, space: dict[str, SearchRange]) -> dict[str, Any]:
    """The parameters that the model would have without tuning, as far as they lie in the space."""
    start = {**build(section.kind).get_params(), **section.parameters}
    inside: dict[str, Any] = {}
    for name, one in space.items():
        value = list(start[name]) if isinstance(start.get(name), tuple) else start.get(name)
        if one.choices is not None and value in one.choices:
            inside[name] = one.choices.index(value)
        elif one.choices is None and isinstance(value, int | float) and one.low <= value <= one.high:  # type: ignore[operator]
            inside[name] = value
    return inside


def finished(study: Any) -> int:
    """Trials that ended with a value or were pruned."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def journal_storage(journal: Path | None) -> Any:
    """Optuna's append-only journal file, or memory."""
    if journal is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    journal.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))


def fingerprint(section: ModelSection, rows: LabelledRows, seed: int) -> str:
    """What the search depends on, so that a journal of other data or settings is not taken up; trials may be added."""
    settings = section.model_dump(mode="json")
    settings["tuning"].pop("trials")
    digest = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode())
    values = rows.values
    for array in (values.data, values.indices) if hasattr(values, "tocsr") else (values,):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(rows.outcomes.follow_up_days.tobytes() + rows.outcomes.event.tobytes())
    return digest.hexdigest()[:16]
