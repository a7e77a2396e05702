"""Whether predicted probabilities mean what they say: Brier score, intercept, slope, O:E, smooth curve, deciles.

Levels of calibration follow Van Calster et al., J Clin Epidemiol 2016;74:167 and BMC Med 2019;17:230: in the large
(intercept, observed:expected), weak (slope), moderate (curve, ICI). The intercept and slope come from logistic
recalibration weighted for censoring, the curve from a logistic restricted cubic spline of the logit (Austin,
Harrell and van Klaveren, Stat Med 2020;39:2714; Austin and Steyerberg, Stat Med 2019;38:4051 for the ICI).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.estimate import Band, Estimate, Support, band, estimate

# The logit of 0 and of 1 is infinite; a prediction nearer than this is moved here for recalibration only.
NEAREST_TO_CERTAIN = 1e-6
# Knots at Harrell's quantiles for four (Regression Modeling Strategies, 2015, table 2.3).
KNOT_QUANTILES = (0.05, 0.35, 0.65, 0.95)
CURVE_QUANTILES = (0.01, 0.99)
CURVE_POINTS = 50
GROUPS = 10
HISTOGRAM_BINS = 50
# Newton's error squares with each step, so a last change below this leaves an error near 1e-10.
NEWTON_STEPS, NEWTON_TOLERANCE = 30, 1e-5
# Largest step of a coefficient in one Newton step, so that a poor start does not overshoot into flat likelihood.
LONGEST_STEP = 5.0
# Added to the information matrix's diagonal, relative to it: a resample with one class only must not stop the rest.
RIDGE = 1e-12
# Coefficients (of directions with unit spread) beyond this mean separated classes: no finite estimate exists.
SEPARATED = 50.0
# Directions of the design with less spread, relative to the largest, are rounding: columns that repeat others.
SMALLEST_SPREAD = 1e-10


@dataclass(frozen=True)
class Group:
    """Rows with neighbouring predictions (a tenth of all): mean prediction and observed proportion."""

    n: int
    mean_predicted: float
    observed: Estimate


@dataclass(frozen=True)
class Histogram:
    """Rows by predicted probability: `edges` (k + 1), counts (k) of all rows and by known label."""

    edges: tuple[float, ...]
    n: tuple[int, ...]
    events: tuple[int, ...]
    event_free: tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """Calibration in the large, weak and moderate, and what a calibration plot needs.

    `intercept` (0 is perfect) with the slope fixed at 1; `slope` 1 is perfect; `observed_expected` 1 is perfect; `ici`
    mean absolute distance between curve and prediction. `curve` between the 1st and 99th percentile of predictions.
    """

    intercept: Estimate
    slope: Estimate
    observed_expected: Estimate
    ici: Estimate
    smoother: str
    curve: Band
    deciles: tuple[Group, ...]
    histogram: Histogram


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds, kept finite by `NEAREST_TO_CERTAIN`."""
    inside = np.clip(probability, NEAREST_TO_CERTAIN, 1 - NEAREST_TO_CERTAIN)
    return np.log(inside / (1 - inside))


def expit(log_odds: np.ndarray) -> np.ndarray:
    """Probability of log odds."""
    probability = np.negative(log_odds)
    np.exp(probability, out=probability)
    probability += 1
    return np.reciprocal(probability, out=probability)


def weighted_logistic(
    design: np.ndarray, label: np.ndarray, weight: np.ndarray, *, offset: np.ndarray | float = 0.0
) -> np.ndarray:
    """Maximum likelihood coefficients (b, k) of logistic regressions that share a design and differ in weights.

    `design` (n, k), `label` (n,) 0/1, `weight` (b, n). All are started from the fit to their mean weight, a few Newton
    steps away. NaN where there is no finite estimate (one class, or separation).
    """
    seen = np.isfinite(weight).all(axis=1)
    coefficients = np.full((len(weight), design.shape[1]), np.nan)
    if not seen.any():
        return coefficients
    usable = weight[seen]
    # In orthogonal directions of unit size one limit on coefficients finds separation whatever the columns' scales.
    directions, spread, axes = np.linalg.svd(design, full_matrices=False)
    real = spread > SMALLEST_SPREAD * spread[0]
    scaled = directions[:, real] * np.sqrt(len(design))
    start = np.zeros((1, scaled.shape[1]))
    start = _newton(scaled, label, usable.mean(axis=0, keepdims=True), start, offset)
    found = _newton(scaled, label, usable, np.nan_to_num(start), offset)
    coefficients[seen] = found * np.sqrt(len(design)) / spread[real] @ axes[real]
    return coefficients


def _newton(
    design: np.ndarray, label: np.ndarray, weight: np.ndarray, start: np.ndarray, offset: np.ndarray | float
) -> np.ndarray:
    """Newton's method for every row of `weight` at once from one `start` (1, k); NaN where it does not converge."""
    k = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), k * k)
    observed = weight @ (label[:, None] * design)
    coefficients, change = start, np.full(start.shape, np.inf)
    for _ in range(NEWTON_STEPS):
        fitted = coefficients @ design.T
        fitted += offset
        fitted = expit(np.clip(fitted, -SEPARATED, SEPARATED, out=fitted))
        expected = weight * fitted
        gradient = observed - expected @ design
        expected *= np.subtract(1, fitted, out=fitted)
        information = (expected @ products).reshape(-1, k, k)
        diagonal = np.trace(information, axis1=1, axis2=2)[:, None, None] * RIDGE + np.finfo(float).tiny
        change = np.linalg.solve(information + diagonal * np.eye(k), gradient[:, :, None])[:, :, 0]
        change = np.clip(change, -LONGEST_STEP, LONGEST_STEP)
        coefficients = coefficients + change
        if np.abs(change).max() < NEWTON_TOLERANCE:
            break
    failed = (np.abs(change).max(axis=1) > NEWTON_TOLERANCE) | (np.abs(coefficients).max(axis=1) > SEPARATED)
    return np.where(failed[:, None], np.nan, coefficients)


@dataclass(frozen=True, eq=False)
class Spline:
    """Restricted cubic spline of the logit, scaled to unit spread; a straight line where predictions are too few.

    `knots` are scaled logits; `scale` is infinite where all predictions are equal.
    Source: Harrell, Regression Modeling Strategies, 2015, section 2.4.5.
    """

    centre: float
    scale: float
    knots: tuple[float, ...]

    @classmethod
    def of(cls, log_odds: np.ndarray) -> Spline:
        """Place the knots at quantiles of the predictions."""
        centre, scale = float(log_odds.mean()), float(log_odds.std()) if np.ptp(log_odds) > 0 else np.inf
        knots = np.quantile((log_odds - centre) / scale, KNOT_QUANTILES)
        distinct = len(np.unique(log_odds)) > 2 * len(knots) and (np.diff(knots) > 1e-3).all()
        return cls(centre, scale, tuple(knots.tolist()) if distinct else ())

    @property
    def words(self) -> str:
        """What the curve is, for the plot's caption."""
        if not self.knots:
            return "logistic regression on the logit (too few distinct predictions for a spline)"
        return f"logistic restricted cubic spline of the logit, {len(self.knots)} knots"

    def design(self, log_odds: np.ndarray) -> np.ndarray:
        """(n, k) columns: constant, scaled logit, spline terms."""
        x = (log_odds - self.centre) / self.scale
        columns = [np.ones_like(x), x]
        if self.knots:
            *inner, before, last = self.knots
            for knot in inner:
                term = _cube(x - knot)
                term -= _cube(x - before) * (last - knot) / (last - before)
                term += _cube(x - last) * (before - knot) / (last - before)
                columns.append(term / (last - self.knots[0]) ** 2)
        return np.column_stack(columns)


def _cube(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) ** 3


@dataclass(frozen=True, eq=False)
class WeakStatistic:
    """Brier score and calibration in the large and weak, for counts and weights (b, n)."""

    probability: np.ndarray
    log_odds: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, probability: np.ndarray, outcomes: Outcomes) -> WeakStatistic:
        """Take one model's predictions."""
        return cls(probability, logit(probability), outcomes.label.astype(np.float64))

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """(b,) each."""
        total = weight.sum(axis=1)
        prevalence = weight @ self.label / total
        brier = weight @ (self.label - self.probability) ** 2 / total
        # Scaled to unit spread for Newton's sake; equal predictions have no slope.
        spread = float(self.log_odds.std()) if np.ptp(self.log_odds) > 0 else np.nan
        line = np.column_stack([np.ones_like(self.log_odds), (self.log_odds - self.log_odds.mean()) / spread])
        slope = weighted_logistic(np.nan_to_num(line), self.label, weight)[:, 1] / spread
        ones = np.ones((len(self.label), 1))
        return {
            "brier": brier,
            "scaled_brier": 1 - brier / (prevalence * (1 - prevalence)),
            "intercept": weighted_logistic(ones, self.label, weight, offset=self.log_odds)[:, 0],
            "slope": slope,
            # Every row has a prediction, so the expectation is over all rows, censored ones too.
            "observed_expected": prevalence / (count @ self.probability / count.sum(axis=1)),
        }


@dataclass(frozen=True, eq=False)
class ModerateStatistic:
    """The smooth calibration curve, its ICI, and observed proportions by tenth, for counts and weights (b, n)."""

    probability: np.ndarray
    label: np.ndarray
    spline: Spline
    design: np.ndarray
    grid: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, probability: np.ndarray, outcomes: Outcomes) -> ModerateStatistic:
        """Place knots, curve grid and tenths on one model's predictions."""
        low, high = np.quantile(probability, CURVE_QUANTILES)
        borders = np.unique(np.quantile(probability, np.linspace(0, 1, GROUPS + 1)[1:-1]))
        place = np.searchsorted(borders, probability, side="left")
        members = (place[:, None] == np.unique(place)).astype(np.float64)
        grid, log_odds = np.linspace(low, high, CURVE_POINTS), logit(probability)
        spline = Spline.of(log_odds)
        design = spline.design(log_odds)
        return cls(probability, outcomes.label.astype(np.float64), spline, design, grid, members)

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """ICI (b,), curve (b, 50), observed by tenth (b, <=10)."""
        coefficients = weighted_logistic(self.design, self.label, weight)
        distance = np.abs(expit(coefficients @ self.design.T) - self.probability)
        return {
            "ici": (count * distance).sum(axis=1) / count.sum(axis=1),
            "curve": expit(coefficients @ self.spline.design(logit(self.grid)).T),
            "deciles": (weight * self.label) @ self.groups / (weight @ self.groups),
        }


def summarise(statistic: ModerateStatistic, replicates: dict[str, np.ndarray], outcomes: Outcomes) -> Calibration:
    """Calibration of one model from the replicates of both statistics."""
    support = Support.of(outcomes)
    deciles = tuple(
        Group(int(member.sum()), float(statistic.probability[member].mean()), estimate(observed, support))
        for member, observed in zip(statistic.groups.T.astype(bool), replicates["deciles"].T, strict=True)
    )
    figures = {name: estimate(replicates[name], support) for name in ("intercept", "slope", "observed_expected", "ici")}
    return Calibration(
        **figures,
        smoother=statistic.spline.words,
        curve=band(statistic.grid, replicates["curve"], support),
        deciles=deciles,
        histogram=_histogram(statistic.probability, outcomes),
    )


def _histogram(probability: np.ndarray, outcomes: Outcomes) -> Histogram:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    known, label = outcomes.known, outcomes.label
    counts = [np.histogram(probability[rows], edges)[0].tolist() for rows in (slice(None), label, known & ~label)]
    return Histogram(tuple(edges.tolist()), *(tuple(c) for c in counts))
