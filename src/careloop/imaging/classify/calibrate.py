"""Calibration, decision thresholds and label sets, all from tuning rows, which no weight was fitted to.

Temperature and Platt's lines are fitted on one part of the tuning rows, conformal thresholds on another, so that the
promise of the label sets is not made by rows that the probabilities were bent to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from careloop.evaluate.calibration import weighted_logistic
from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.conformal import binary, conformal_thresholds, least_ambiguous
from careloop.evaluate.discrimination import Threshold, youden_threshold
from careloop.imaging.classify.model import Calibration, Conformal, Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Logits = NDArray[np.floating]

COLDEST, HOTTEST = 0.05, 20.0  # temperatures looked through
FEWEST_OF_EACH = 5  # tuning rows with and without a label, below which its line would be chance
NO_LINE = (1.0, 0.0)  # slope and intercept that change nothing
MIDDLE = Threshold(0.5, "0.5, as the tuning rows do not have the label both present and absent")


def fit_calibration(logits: Logits, target: NDArray[np.float32], labels: Labels) -> Calibration:
    """From logits and targets (n, k): a temperature for a single label, or a line for each of several labels.

    Guo et al. 2017 (ICML), section 4.2; Platt 1999. A label with too few rows, or one whose line would turn the order
    round, keeps its logits as they are.
    """
    if labels.kind == "single":
        return Calibration(temperature=temperature(logits, target.argmax(axis=1)))
    lines = [platt_line(logits[:, at], target[:, at]) for at in range(len(labels.names))]
    return Calibration(slope=tuple(a for a, _ in lines), intercept=tuple(b for _, b in lines))


def temperature(logits: Logits, label: NDArray[np.int64]) -> float:
    """The number by which logits (n, k) are divided to make the labels (n,) most likely."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    values, at = np.asarray(logits, np.float64), np.arange(len(label))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(values / np.exp(log_temperature), axis=1)[at, label].mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def platt_line(logits: Logits, label: NDArray[np.float32]) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of a label (n,) of 0, 1 and NaN on its logit (n,)."""
    known = ~np.isnan(label)
    values, truth = np.asarray(logits[known], np.float64), label[known].astype(np.float64)
    if min(truth.sum(), len(truth) - truth.sum()) < FEWEST_OF_EACH:
        return NO_LINE
    design = np.column_stack([np.ones_like(values), values])
    intercept, slope = weighted_logistic(design, truth, np.ones((1, len(truth))))[0]
    return (float(slope), float(intercept)) if np.isfinite(slope) and slope > 0 else NO_LINE


def fit_conformal(
    probability: NDArray[np.float64], target: NDArray[np.float32], labels: Labels, *, level: float
) -> Conformal:
    """Thresholds by which sets hold the truth with probability `level`, among the images of each label on its own."""
    if labels.kind == "single":
        scores = least_ambiguous(probability)
        found = conformal_thresholds(scores, target.argmax(axis=1), level=level, condition="label")
        return Conformal(level, tuple(found.overall))
    limits = []
    for at in range(len(labels.names)):
        known = ~np.isnan(target[:, at])
        scores = least_ambiguous(binary(probability[known, at]))
        limits.append(
            conformal_thresholds(scores, target[known, at].astype(int), level=level, condition="label").overall
        )
    return Conformal(level, tuple(present for _, present in limits), tuple(absent for absent, _ in limits))


def decision_thresholds(
    probability: NDArray[np.float64], target: NDArray[np.float32], subject_id: NDArray[np.str_]
) -> tuple[Threshold, ...]:
    """Of each label (k) the probability with the greatest Youden index; 0.5 where all known rows have it, or none."""
    found = []
    for at in range(target.shape[1]):
        known = ~np.isnan(target[:, at])
        truth = target[known, at] == 1
        if not truth.any() or truth.all():
            found.append(MIDDLE)
            continue
        found.append(youden_threshold(probability[known, at], present(subject_id[known], truth)))
    return tuple(found)


def present(subject_id: NDArray[np.str_], truth: NDArray[np.bool_]) -> Outcomes:
    """A label that an image shows or does not, as an outcome that all rows are followed to."""
    return Outcomes(subject_id, np.ones(len(truth)), truth.astype(np.int8), 1.0)
