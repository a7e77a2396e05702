"""Whether a model should be recalibrated, and the recalibrated model beside the old one on later patients.

The least change that the data do not reject is advised, by closed testing: the largest model (log-odds with other
terms) against the old risks; if that differs, against a new intercept; if that differs too, against intercept and
slope; if even that differs, training anew. So the model stays as it is with probability 1 - alpha where it is right.
Tests are generalised score tests whose covariance is robust to censoring weights and to several rows of a patient.

Sources: Vergouwe, Nieboer, Oostenbrink et al., Stat Med 2017;36:4529 (closed testing of model updating); Boos, Am Stat
1992;46:327 (generalised score tests); Steyerberg et al., Stat Med 2004;23:2567 (updating methods).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from careloop.evaluate import Estimate, Outcomes, horizon_weights
from careloop.evaluate.calibration import Spline, WeakStatistic, expit, logit, weighted_logistic
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, Statistic, Support, estimate, replicate
from careloop.outcome.accuracy import RESAMPLES, SEED, outcomes_of, risk_of, used_rows
from careloop.train.calibration import Recalibration

Advice = Literal["keep", "intercept", "intercept and slope", "train anew", "cannot tell yet"]
FIGURES = ("observed_expected", "intercept", "slope", "brier")
LEVEL = 0.05


@dataclass(frozen=True)
class ClosedTest:
    """The advice, and p of each test that was made (None where an earlier one ended it), each with its df.

    `against_old`, `against_intercept`, `against_line`: the largest model against no change, a new intercept, and a new
    intercept and slope.
    """

    advice: Advice
    against_old: float | None
    against_intercept: float | None
    against_line: float | None
    degrees: tuple[int, int, int]
    recalibration: Recalibration


@dataclass(frozen=True)
class BesideOld:
    """The recalibrated model beside the old one, on `patients` predicted after the `fitted_until` date.

    `old` and `new` hold observed_expected, intercept, slope and brier; `brier_difference` is new minus old on the same
    resamples, below 0 where the new one is better.
    """

    fitted_until: str
    fitted_rows: int
    patients: int
    rows: int
    recalibration: Recalibration
    old: dict[str, Estimate]
    new: dict[str, Estimate]
    brier_difference: Estimate


@dataclass(frozen=True)
class Suggestion:
    """What to do with one model: the closed test on known outcomes, and how such a change fared on later patients."""

    model: str
    model_version: str
    test: ClosedTest
    beside: BesideOld | None
    words: str


def suggest_recalibration(
    rows: pl.DataFrame, *, horizon_days: float, as_of: datetime, since: datetime | None = None
) -> Suggestion:
    """The advice for rows of one model and version: prediction columns joined with follow_up_days and event.

    `since`: only predictions from then on, when an alarm says that things changed. Only predictions whose horizon has
    passed by `as_of` count.
    """
    known = used_rows(rows).filter(pl.col("prediction_time") + _days(horizon_days) <= as_of)
    if since is not None:
        known = known.filter(pl.col("prediction_time") >= since)
    known = known.sort("prediction_time", "subject_id")
    test = closed_test(*_arrays(known, horizon_days)) if known.height else _untested()
    beside = _beside_old(known, horizon_days) if test.advice != "cannot tell yet" else None
    model, version = rows["model"][0], rows["model_version"][0] or ""
    return Suggestion(model, version, test, beside, _words(model, version, test, beside))


def _days(days: float) -> pl.Expr:
    return pl.duration(microseconds=round(days * 86_400_000_000))


def _arrays(rows: pl.DataFrame, horizon_days: float) -> tuple[np.ndarray, Outcomes]:
    return risk_of(rows), outcomes_of(rows, horizon_days)


def _untested() -> ClosedTest:
    return ClosedTest("cannot tell yet", None, None, None, (0, 0, 0), Recalibration())


def closed_test(
    probability: np.ndarray, outcomes: Outcomes, *, terms: np.ndarray | None = None, level: float = LEVEL
) -> ClosedTest:
    """The least change that is not rejected, for predicted risks (n,).

    `terms` (n, k) are what the largest model has besides the log-odds, such as the model's own features; default: the
    curved terms of a restricted cubic spline of the log-odds, so that a line that does not suffice is found.
    """
    from scipy.stats import chi2

    if Support.of(outcomes).shortage() or not (outcomes.follow_up_days >= outcomes.horizon_days).any():
        return _untested()
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    design, label = _design(probability, terms), outcomes.label.astype(float)
    fits = _fits(design, label, weight)
    if not all(np.isfinite(coefficients).all() for coefficients in fits):
        return _untested()
    degrees = (design.shape[1], design.shape[1] - 1, design.shape[1] - 2)
    p: list[float | None] = [None, None, None]
    chosen = len(fits)
    for free, coefficients in enumerate(fits):
        if degrees[free]:
            statistic = _score(design, label, weight, outcomes.subject_id, coefficients, free)
            p[free] = float(chi2.sf(statistic, degrees[free]))
        if not degrees[free] or (p[free] or 0.0) >= level:
            chosen = free
            break
    advice: tuple[Advice, ...] = ("keep", "intercept", "intercept and slope", "train anew")
    intercept, slope = (float(value) for value in fits[min(chosen, 2)])
    return ClosedTest(advice[chosen], p[0], p[1], p[2], degrees, Recalibration(intercept, slope))


def _design(probability: np.ndarray, terms: np.ndarray | None) -> np.ndarray:
    """Columns (n, 2 + k): constant, log-odds, and the terms of the largest model, with mean 0 and unit spread."""
    score = logit(probability)
    more = Spline.of(score).design(score)[:, 2:] if terms is None else np.asarray(terms, dtype=float)
    more = more[:, np.ptp(more, axis=0) > 0]
    return np.column_stack([np.ones_like(score), score, (more - more.mean(axis=0)) / more.std(axis=0)])


def _fits(design: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coefficients (2,) of constant and log-odds: as they are, with a new constant, with both new."""
    score = design[:, 1]
    constant = weighted_logistic(design[:, :1], label, weight[None], offset=score)[0, 0]
    line = weighted_logistic(design[:, :2], label, weight[None])[0]
    return np.array([0.0, 1.0]), np.array([constant, 1.0]), line


def _score(
    design: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    subject_id: np.ndarray,
    coefficients: np.ndarray,
    free: int,
) -> float:
    """Generalised score statistic against the fit in which the first `free` columns were fitted, the others fixed."""
    fitted = expit(design[:, :2] @ coefficients)
    scores = design * (weight * (label - fitted))[:, None]
    information = (design * (weight * fitted * (1 - fitted))[:, None]).T @ design
    tested = scores[:, free:]
    if free:
        # What the fitted columns' own estimation takes from the others.
        tested = tested - scores[:, :free] @ np.linalg.solve(information[:free, :free], information[:free, free:])
    _, subject = np.unique(subject_id, return_inverse=True)
    sums = np.zeros((subject.max() + 1, tested.shape[1]))
    np.add.at(sums, subject, tested)
    total = sums.sum(axis=0)
    return float(total @ np.linalg.pinv(sums.T @ sums) @ total)


def _beside_old(known: pl.DataFrame, horizon_days: float) -> BesideOld | None:
    """Recalibrate by the predictions known at a date, and compare on those made after it; None where too few."""
    cut = _cut(known, horizon_days)
    before = known.filter(pl.col("prediction_time") + _days(horizon_days) <= cut)
    after = known.filter(pl.col("prediction_time") > cut)
    if min(before.height, after.height) < 2 * FEWEST_FOR_INTERVAL:
        return None
    test = closed_test(*_arrays(before, horizon_days))
    probability, outcomes = _arrays(after, horizon_days)
    support = Support.of(outcomes)
    if test.advice == "cannot tell yet" or not support.followed:
        return None
    statistics: dict[str, Statistic] = {
        "old": WeakStatistic.of(probability, outcomes),
        "new": WeakStatistic.of(test.recalibration.apply(probability), outcomes),
    }
    found = replicate(outcomes, statistics, resamples=RESAMPLES, seed=SEED)
    old, new = ({name: estimate(found[side][name], support) for name in FIGURES} for side in ("old", "new"))
    return BesideOld(
        fitted_until=f"{cut:%Y-%m-%d}",
        fitted_rows=before.height,
        patients=after["subject_id"].n_unique(),
        rows=after.height,
        recalibration=test.recalibration,
        old=old,
        new=new,
        brier_difference=estimate(found["new"]["brier"] - found["old"]["brier"], support),
    )


def _cut(known: pl.DataFrame, horizon_days: float) -> datetime:
    """The date that leaves as many predictions with a known outcome before it as predictions after it."""
    made = known["prediction_time"].to_list()
    entry = known.select(entry=pl.col("prediction_time") + _days(horizon_days))["entry"].to_list()
    low, high = 0, len(made) - 1
    while low < high:
        middle = (low + high) // 2
        later = sum(moment > entry[middle] for moment in made)
        low, high = (middle + 1, high) if middle + 1 < later else (low, middle)
    cut: datetime = entry[low]
    return cut


def _words(model: str, version: str, test: ClosedTest, beside: BesideOld | None) -> str:
    name = f"{model} ({version})" if version else model
    new = f"intercept {test.recalibration.intercept:.2f}, slope {test.recalibration.slope:.2f}"
    advice = {
        "keep": "the risks can stay as they are; no recalibration is needed",
        "intercept": f"a new intercept is enough ({new})",
        "intercept and slope": f"recalibrate intercept and slope ({new})",
        "train anew": f"train the model anew; until then recalibrate ({new}), which does not mend it wholly",
        "cannot tell yet": "too few outcomes are known to say whether to recalibrate",
    }[test.advice]
    return f"{name}: {advice}{_comparison(beside)}."


def _comparison(beside: BesideOld | None) -> str:
    if beside is None or beside.recalibration == Recalibration():
        return ""
    difference, ratio, was = (beside.brier_difference, beside.new["observed_expected"], beside.old["observed_expected"])
    if difference.low is None or difference.high is None or ratio.value is None or was.value is None:
        return ""
    better = "better" if difference.high < 0 else "worse" if difference.low > 0 else "not clearly different"
    return (
        f"; recalibrated by the outcomes known on {beside.fitted_until} it was {better} on the {beside.patients} "
        f"patients predicted after that (Brier score {difference.value:+.4f}, {difference.low:+.4f} to "
        f"{difference.high:+.4f}; observed : expected {was.value:.2f} before, {ratio.value:.2f} after)"
    )
