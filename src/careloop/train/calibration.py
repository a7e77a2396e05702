"""Calibration of a model's risks on the tuning rows: a monotone map, what the model card says of it, and honest scores.

Sources: Cox 1958, Biometrika 45:562 (logistic recalibration); Guo et al., ICML 2017, section 4.2 (temperature);
Zadrozny and Elkan, KDD 2002, section 3 (isotonic); Vovk and Petej, UAI 2014 (Venn-Abers).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from careloop.train.venn_abers import VennAbers, fit_venn_abers

Method = Literal["logistic", "temperature", "isotonic", "venn_abers", "none"]
# Recalibration is left out unless the joint 95 % region of (intercept, slope) excludes (0, 1): chi-squared, 2 df.
JOINT_95 = 5.991
# A forest's risk of exactly 0 or 1 has no log-odds; it is recalibrated as if it were this far from them.
SMALLEST_RISK = 1e-3
# A temperature beyond these limits speaks of rows that the model separates perfectly, or not at all.
SLOPES = (0.01, 100.0)
# Parts of the tuning subjects, each of which is calibrated by a map of the others where the map is flexible.
FOLDS = 10


@dataclass(frozen=True)
class Recalibration:
    """Log-odds become intercept + slope * log-odds; (0, 1) leaves risks as they are, intercept 0 is a temperature."""

    intercept: float = 0.0
    slope: float = 1.0

    def apply(self, risk: np.ndarray) -> np.ndarray:
        """Recalibrated risks of the same shape; 0 and 1 stay."""
        if (self.intercept, self.slope) == (0.0, 1.0):
            return risk
        with np.errstate(divide="ignore", over="ignore"):
            log_odds = self.intercept + self.slope * (np.log(risk) - np.log1p(-risk))
            return 1.0 / (1.0 + np.exp(-log_odds))


@dataclass(frozen=True, eq=False)
class Isotonic:
    """Calibrated `value` (k,) at the rising raw `risk` (k,), straight between them and level beyond them."""

    risk: np.ndarray
    value: np.ndarray

    def apply(self, risk: np.ndarray) -> np.ndarray:
        """Calibrated risks of the same shape."""
        return np.interp(risk, self.risk, self.value)


CalibrationMap: TypeAlias = Recalibration | Isotonic | VennAbers
FORMS: dict[str, type[Any]] = {"isotonic": Isotonic, "venn_abers": VennAbers}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A map, a sentence about it, and calibrated risks of the tuning rows (m,) for intervals.

    Where the map is flexible, `risk` is out of fold: each subject's by a map fitted without it.
    """

    map: CalibrationMap
    note: str
    risk: np.ndarray


def calibrate(
    method: Method, raw: np.ndarray, *, label: np.ndarray, weight: np.ndarray, subject_id: np.ndarray
) -> Calibrated:
    """Calibrate raw risks by the tuning rows with known label; all arrays (m,), weights those of censoring."""
    if method == "none":
        return Calibrated(Recalibration(), "Risks are the model's own, not recalibrated by the study's choice.", raw)
    if method in FORMS:
        found = fit_flexible(method, raw, label, weight)
        risk = out_of_fold(method, raw, label=label, weight=weight, subject_id=subject_id)
        return Calibrated(found, flexible_note(method, len(found.risk)), risk)
    recalibration, note = (
        recalibrate(raw, label, weight, subject_id) if method == "logistic" else temperature(raw, label, weight)
    )
    return Calibrated(recalibration, note, recalibration.apply(raw))


def recalibrate(
    raw: np.ndarray, label: np.ndarray, weight: np.ndarray, subject_id: np.ndarray
) -> tuple[Recalibration, str]:
    """Intercept and slope of the labels on the log-odds of the raw risks, (m,) each, if they are needed.

    Applied only when the joint 95 % confidence region of (intercept, slope), from a covariance that is robust to
    weights and to several rows of a subject, excludes (0, 1) and the slope is positive (Cox 1958).
    """
    score = log_odds(raw)
    found, covariance = logistic_fit(np.column_stack([np.ones(len(score)), score]), label, weight, subject_id)
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


def log_odds(raw: np.ndarray) -> np.ndarray:
    """Log-odds of risks, held `SMALLEST_RISK` away from 0 and 1."""
    kept = np.clip(raw, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(np.log(kept) - np.log1p(-kept))


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


def temperature(raw: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[Recalibration, str]:
    """One slope, 1 / temperature, of the log-odds without an intercept: the weighted likelihood's maximum."""
    from scipy.optimize import brentq
    from scipy.special import expit

    score = log_odds(raw)

    def gradient(slope: float) -> float:  # of the convex loss, so it rises with the slope
        return float(weight @ (score * (expit(slope * score) - label)))

    low, high = SLOPES
    if gradient(0.0) >= 0:
        return (
            Recalibration(),
            "Risks are not recalibrated: on the tuning rows the best slope of their log-odds is at or below 0, which "
            "no temperature can mend.",
        )
    slope = low if gradient(low) >= 0 else high if gradient(high) <= 0 else float(brentq(gradient, low, high))
    return Recalibration(slope=slope), (
        f"Risks are calibrated by temperature {1 / slope:.2f} on the tuning rows: their log-odds are divided by it."
    )


def fit_flexible(method: Method, raw: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Isotonic | VennAbers:
    """The map without a fixed shape, from risks, labels and weights (m,)."""
    return (isotonic if method == "isotonic" else fit_venn_abers)(raw, label, weight)


def isotonic(raw: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Isotonic:
    """The rising map nearest to the labels in weighted squares (pool adjacent violators); equal risks share one value.

    A lowest block without an event, or a highest with nothing else, would claim certainty (0 or 1) from few rows. It
    gets half an event among its rows and one more (Krichevsky and Trofimov 1981), yet never passes the block beside it.
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(raw, label, sample_weight=weight)
    risk, value = (np.asarray(a, dtype=np.float64) for a in (fitted.X_thresholds_, fitted.y_thresholds_))
    rows = np.interp(raw, risk, value)
    scaled = weight * (weight.sum() / (weight**2).sum())  # Kish's effective number of rows, as for Venn-Abers
    inner = value[(value > 0) & (value < 1)]
    least, most = (float(scaled[rows == end].sum()) for end in (0.0, 1.0))
    low = min(0.5 / (least + 1), float(inner.min(initial=0.5)))
    high = max(1 - 0.5 / (most + 1), float(inner.max(initial=0.5)))
    return Isotonic(risk, np.where(value <= 0, low, np.where(value >= 1, high, value)))


def out_of_fold(
    method: Method, raw: np.ndarray, *, label: np.ndarray, weight: np.ndarray, subject_id: np.ndarray
) -> np.ndarray:
    """Calibrated risk (m,) of each row by a map of the tuning subjects in other folds; folds are drawn by subject.

    A flexible map has seen its own rows' labels, so that their calibrated risks are nearer to the truth than a new
    row's: intervals made from them would be too narrow.
    """
    subjects, subject = np.unique(subject_id, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(subjects))[subject] % FOLDS
    risk = np.empty(len(raw))
    for part in range(FOLDS):
        held, others = fold == part, fold != part
        if held.any() and others.any():
            risk[held] = fit_flexible(method, raw[others], label[others], weight[others]).apply(raw[held])
        elif held.any():  # a single subject: no other is left to learn from
            risk[held] = fit_flexible(method, raw, label, weight).apply(raw[held])
    return risk


def flexible_note(method: Method, points: int) -> str:
    """The model card's sentences about a map without a fixed shape."""
    form = "isotonic regression" if method == "isotonic" else "a Venn-Abers predictor, p1 / (1 - p0 + p1)"
    intervals = (
        "are its pair p0 to p1"
        if method == "venn_abers"
        else f"use tuning risks calibrated out of fold ({FOLDS} folds by subject)"
    )
    return (
        f"Risks are calibrated by {form} on the tuning rows ({points} points); risks on one step become equal. Having "
        f"no fixed shape, such a map fits its own rows too well, so that intervals {intervals} and label sets use the "
        "risks before calibration. With few tuning rows intervals may still be somewhat too narrow: the held-out "
        "figures are the judge."
    )


def calibration_document(calibration: CalibrationMap) -> dict[str, Any]:
    """Plain JSON values; intercept and slope alone are the form of packages before there were others."""
    form = {name for name, known in FORMS.items() if isinstance(calibration, known)}
    values = {f.name: getattr(calibration, f.name) for f in fields(calibration)}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    return {"form": form.pop(), **plain} if form else plain


def calibration_from(document: dict[str, Any]) -> CalibrationMap:
    """The map that `calibration_document` described."""
    if "form" not in document:
        return Recalibration(**document)
    maker = FORMS[document["form"]]
    found: CalibrationMap = maker(**{f.name: np.array(document[f.name], dtype=np.float64) for f in fields(maker)})
    return found
