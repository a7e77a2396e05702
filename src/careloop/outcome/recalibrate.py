"""Whether a model should be recalibrated, and the recalibrated model beside the old one on later patients.

The least change that the data do not reject is advised, by closed testing: the largest model (log-odds with other
terms) against the old risks; if that differs, against a new intercept; if that differs too, against intercept and
slope; if even that differs, training anew. So the model stays as it is with probability 1 - alpha where it is right.
Tests are score tests, which need no fit of the largest model; a patient's overlapping predictions count once, so that
rows are as good as independent.

Sources: Vergouwe, Nieboer, Oostenbrink et al., Stat Med 2017;36:4529 (closed testing of model updating, there with
likelihood ratios); Boos, Am Stat 1992;46:327 (score tests); Steyerberg et al., Stat Med 2004;23:2567 (updating).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl

from careloop.evaluate import Estimate, Outcomes, horizon_weights
from careloop.evaluate.calibration import Spline, WeakStatistic, expit, logit, weighted_logistic
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, Statistic, Support, estimate, replicate
from careloop.outcome.accuracy import RESAMPLES, SEED
from careloop.outcome.stream.arrivals import Arrivals, arrivals
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
    entered = arrivals(rows, horizon_days=horizon_days, as_of=as_of)
    known = np.arange(len(entered))
    if since is not None:
        known = known[entered.prediction_time >= np.datetime64(since.astimezone(UTC).replace(tzinfo=None), "us")]
    test, beside = _untested(), None
    if entered.outcomes is not None and len(known):
        test = closed_test(entered.probability[known], entered.outcomes.take(known))
        beside = _beside_old(entered, entered.outcomes, known) if test.advice != "cannot tell yet" else None
    model, version = rows["model"][0], rows["model_version"][0] or ""
    return Suggestion(model, version, test, beside, _words(model, version, test, beside))


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
            statistic = _score(design, label, weight, coefficients, free)
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


def _score(design: np.ndarray, label: np.ndarray, weight: np.ndarray, coefficients: np.ndarray, free: int) -> float:
    """Score statistic against the fit in which the first `free` columns were fitted and the others kept fixed."""
    fitted = expit(design[:, :2] @ coefficients)
    spread = fitted * (1 - fitted)
    tested = design[:, free:]
    if free:
        # What the fitted columns' own estimation takes from the others.
        weighed = design[:, :free] * (weight * spread)[:, None]
        tested = tested - design[:, :free] @ np.linalg.solve(weighed.T @ design[:, :free], weighed.T @ tested)
    total = tested.T @ (weight * (label - fitted))
    variance = (tested * (weight**2 * spread)[:, None]).T @ tested
    return float(total @ np.linalg.pinv(variance) @ total)


def _beside_old(entered: Arrivals, outcomes: Outcomes, known: np.ndarray) -> BesideOld | None:
    """Recalibrate by the predictions known at a date, and compare on those made after it; None where too few."""
    cut = _cut(entered.prediction_time[known], entered.known_time[known])
    before = known[entered.known_time[known] <= cut]
    after = known[entered.prediction_time[known] > cut]
    if min(len(before), len(after)) < 2 * FEWEST_FOR_INTERVAL:
        return None
    test = closed_test(entered.probability[before], outcomes.take(before))
    probability, later = entered.probability[after], outcomes.take(after)
    support = Support.of(later)
    if test.advice == "cannot tell yet" or not support.followed:
        return None
    statistics: dict[str, Statistic] = {
        "old": WeakStatistic.of(probability, later),
        "new": WeakStatistic.of(test.recalibration.apply(probability), later),
    }
    found = replicate(later, statistics, resamples=RESAMPLES, seed=SEED)
    old, new = ({name: estimate(found[side][name], support) for name in FIGURES} for side in ("old", "new"))
    return BesideOld(
        fitted_until=str(cut.astype("datetime64[D]")),
        fitted_rows=len(before),
        patients=support.subjects,
        rows=len(after),
        recalibration=test.recalibration,
        old=old,
        new=new,
        brier_difference=estimate(found["new"]["brier"] - found["old"]["brier"], support),
    )


def _cut(made: np.ndarray, known: np.ndarray) -> np.datetime64:
    """The moment that leaves as many predictions with a known outcome before it as predictions made after it."""
    later = len(made) - np.searchsorted(made, known, side="right")
    enough = np.arange(1, len(made) + 1) >= later
    cut: np.datetime64 = known[int(np.argmax(enough))]
    return cut


def _words(model: str, version: str, test: ClosedTest, beside: BesideOld | None) -> str:
    name = f"{model} ({version})" if version else model
    new = f"intercept {test.recalibration.intercept:.2f}, slope {test.recalibration.slope:.2f}"
    advice = {
        "keep": "the outcomes known so far call for no recalibration",
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
