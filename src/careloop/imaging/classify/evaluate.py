"""How good a classifier is on held-out images, beside logistic regression on the same rows: what evaluation.json holds.

    {"rows", "subjects", "bootstrap": {"resamples", "seed", "unit"},
     "labels": {NAME: the layout of careloop.evaluate.assess, or {"reason": why the label has none}},
     "together": null (one label of two), or the layout of careloop.evaluate.labels,
     "accuracy": null (several labels), or {MODEL: EST, "difference": EST of the network less logistic regression},
     "label_sets": {"level", "figures": {"coverage", "mean_size", "single", "empty", "several": EST},
                    "coverage_of": {LABEL: EST}},
     "refused": EST or null (no check), the part of held-out images that the model would refuse}

Of one label of two, only the second is evaluated, as the first is its absence; of more, each against the others. Of
several labels, rows of which one is unknown do not count for it. EST is {"value", "low", "high", "reason"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.evaluate.assess import Predictions, evaluate_all
from careloop.evaluate.conformal import LabelSets
from careloop.evaluate.discrimination import Threshold
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, PERCENTILES, Estimate, draw_counts, to_json
from careloop.evaluate.labels import LabelOutcomes, evaluate_labels
from careloop.imaging.classify.baseline import NAME as BASELINE
from careloop.imaging.classify.calibrate import present
from careloop.imaging.classify.data.dataset import Progress
from careloop.imaging.classify.model import Conformal, Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

NETWORK = "network"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out rows (n): whose they are, `target` (n, k) of 0, 1 and NaN, and variables that divide them."""

    labels: Labels
    subject_id: NDArray[np.str_]
    target: NDArray[np.float32]
    groups: Mapping[str, NDArray[np.str_]]


@dataclass(frozen=True, eq=False)
class Predicted:
    """One model's probabilities (n, k) of the held-out rows, and the thresholds (k) that tuning rows gave it."""

    probability: NDArray[np.float64]
    thresholds: Sequence[Threshold]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found."""

    resamples: int
    seed: int


def evaluate_held_out(
    rows: HeldOut,
    models: Mapping[str, Predicted],
    conformal: Conformal,
    *,
    refused: NDArray[np.bool_] | None,
    bootstrap: Bootstrap,
    progress: Progress,
) -> dict[str, Any]:
    """Everything, in the layout of this module's docstring; `models` are `NETWORK` and `BASELINE`."""
    labels, each = rows.labels, {}
    wanted = range(1, 2) if labels.kind == "single" and len(labels.names) == 2 else range(len(labels.names))
    for number, at in enumerate(wanted, start=1):
        each[labels.names[at]] = _label(rows, at, models, conformal, bootstrap)
        progress("evaluating", number, len(wanted))
    together = None
    if len(wanted) > 1:
        outcomes = LabelOutcomes.of_values(labels.names, rows.subject_id, rows.target)
        found = {name: model.probability for name, model in models.items()}
        together = to_json(evaluate_labels(found, outcomes, resamples=bootstrap.resamples, seed=bootstrap.seed))
    return {
        "rows": len(rows.target),
        "subjects": len(np.unique(rows.subject_id)),
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "unit": "subject", "level": 0.95},
        "labels": each,
        "together": together,
        "accuracy": _accuracy(rows, models, bootstrap) if labels.kind == "single" else None,
        "label_sets": _label_sets(rows, models[NETWORK].probability, conformal, bootstrap),
        "refused": None if refused is None else to_json(mean_by_subject(refused, rows.subject_id, bootstrap)),
    }


def _label(
    rows: HeldOut, at: int, models: Mapping[str, Predicted], conformal: Conformal, bootstrap: Bootstrap
) -> dict[str, Any]:
    """One label present or absent, by all models on the rows of which it is known."""
    known = ~np.isnan(rows.target[:, at])
    truth = rows.target[known, at] == 1
    if not truth.any() or truth.all():
        return {"reason": f"{int(truth.sum())} of {len(truth)} held-out images with a known label have it"}
    given = {}
    for name, model in models.items():
        sets = _binary_sets(model.probability[known], at, conformal, rows.labels) if name == NETWORK else None
        given[name] = Predictions(model.probability[known, at], model.thresholds[at], sets=sets)
    groups = {name: values[known] for name, values in rows.groups.items()}
    outcomes = present(rows.subject_id[known], truth)
    found = evaluate_all(given, outcomes, subgroups=groups, resamples=bootstrap.resamples, seed=bootstrap.seed)
    return found.to_json()


def _binary_sets(probability: NDArray[np.float64], at: int, conformal: Conformal, labels: Labels) -> LabelSets | None:
    """The sets of absence and presence; None for one of three or more labels, whose sets hold names of labels."""
    possible, absent = conformal.possible(probability)
    if labels.kind == "multi":
        return LabelSets(conformal.level, np.column_stack([absent[:, at], possible[:, at]]))
    return LabelSets(conformal.level, possible) if len(labels.names) == 2 else None


def _accuracy(rows: HeldOut, models: Mapping[str, Predicted], bootstrap: Bootstrap) -> dict[str, Any]:
    """The share of rows whose most probable label is theirs, and the paired difference."""
    truth = rows.target.argmax(axis=1)
    right = {name: (model.probability.argmax(axis=1) == truth).astype(float) for name, model in models.items()}
    values = right | ({"difference": right[NETWORK] - right[BASELINE]} if BASELINE in right else {})
    return {name: to_json(mean_by_subject(value, rows.subject_id, bootstrap)) for name, value in values.items()}


def _label_sets(
    rows: HeldOut, probability: NDArray[np.float64], conformal: Conformal, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Whether sets hold the truth, of all rows and of those with each label; of several labels over their pairs."""
    possible, absent = conformal.possible(probability)
    known, has = ~np.isnan(rows.target), rows.target == 1
    if rows.labels.kind == "single":
        held, size, subject = possible[has], possible.sum(axis=1), rows.subject_id
    else:
        held = np.where(has, possible, absent)[known]
        size = (possible.astype(int) + absent)[known]
        subject = np.broadcast_to(rows.subject_id[:, None], known.shape)[known]
    figures = {"coverage": held, "mean_size": size, "single": size == 1, "empty": size == 0, "several": size > 1}
    of_label = {
        name: to_json(mean_by_subject(possible[has[:, at], at], rows.subject_id[has[:, at]], bootstrap))
        for at, name in enumerate(rows.labels.names)
    }
    return {
        "level": conformal.level,
        "figures": {name: to_json(mean_by_subject(value, subject, bootstrap)) for name, value in figures.items()},
        "coverage_of": of_label,
    }


def mean_by_subject(values: NDArray[Any], subject_id: NDArray[np.str_], bootstrap: Bootstrap) -> Estimate:
    """The mean over rows, with the 95 % percentile interval of a bootstrap by subject."""
    if not len(values):
        return Estimate(None, reason="there are no such rows")
    numbers, subjects = np.asarray(values, np.float64), len(np.unique(subject_id))
    if subjects < FEWEST_FOR_INTERVAL:
        return Estimate(float(numbers.mean()), reason=f"{subjects} subjects: an interval needs {FEWEST_FOR_INTERVAL}")
    means = np.concatenate(
        [
            count @ numbers / count.sum(axis=1)
            for count in draw_counts(subject_id, resamples=bootstrap.resamples, seed=bootstrap.seed)
        ]
    )
    low, high = np.percentile(means[1:], PERCENTILES)
    return Estimate(float(means[0]), float(low), float(high))
