"""Predictions that were acted upon: the risk had nobody acted, beside the figures as they are.

An alarm that works prevents outcomes it foretold, and then looks wrong. What can be right or wrong about it is the risk
had nobody acted. It is estimated from the patients who remained without action as long as they did: follow-up ends at
the action, and those who go on without stand in for those who left, by the inverse of the probability of remaining so
long, given predicted risk and covariates. It holds only if these hold all reasons to act that also bear on the outcome.
A silent trial, in which predictions are recorded and not shown, needs no such assumption.

Sources: Keogh and van Geloven, Epidemiology 2024;35:329 (counterfactual performance under interventions); Pajouheshnia,
Peelen, Moons et al., BMC Med Res Methodol 2017;17:103 (treatment use in validation).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from careloop import InputError
from careloop.evaluate import Estimate, Outcomes
from careloop.evaluate.calibration import Spline, WeakStatistic, logit, weighted_logistic
from careloop.evaluate.censoring import CensoringCurve, HorizonWeights
from careloop.evaluate.discrimination import DiscriminationStatistic
from careloop.evaluate.estimate import Statistic, Support, estimate, replicate
from careloop.outcome.accuracy import FIGURES
from careloop.plan.effect.diagnostics.balance import effective_sample

RESAMPLES = 400
SEED = 0
# An action so soon is a decision on the prediction itself, and is taken as made at once.
DECISION_DAYS = 1.0
PERIODS = 5
FEWEST_ACTIONS = 20  # in a period, so that its hazard exists in every resample
# Under this probability of remaining without action hardly anybody stands in for a patient, who is left out; at most a
# tenth may be.
SMALLEST_REMAINING = 0.05
MOST_WITHOUT_STAND_IN = 0.1
FEWEST_EFFECTIVE = 50.0
TAILS = (0.01, 0.99)


@dataclass(frozen=True)
class UntreatedVerdict:
    """Figures as they are (`raw`) and for the risk without action (`untreated`), by name as in accuracy.FIGURES.

    `acted` of the `rows` were acted upon within the horizon, before any event. `effective_sample` is how many equally
    weighted rows the untreated figures rest on, `without_stand_in` the share of rows whose probability of remaining
    without action to the horizon is below 5 % and that the untreated figures leave out. `reason` is why there are no
    untreated figures, None where there are.
    """

    rows: int
    acted: int
    effective_sample: float
    without_stand_in: float
    raw: dict[str, Estimate]
    untreated: dict[str, Estimate]
    reason: str | None
    words: str


def acted_days(keys: pl.DataFrame, actions: pl.DataFrame) -> np.ndarray:
    """Days (n,) from each prediction of `keys` to the patient's first action at or after it, infinity without one.

    `keys`: subject_id, prediction_time; `actions`: subject_id, time, such as the record's events of a treatment's code.
    """
    found = (
        keys.select("subject_id", "prediction_time")
        .with_row_index("row")
        .sort("prediction_time")
        .join_asof(
            actions.select("subject_id", acted=pl.col("time")).drop_nulls().sort("acted"),
            left_on="prediction_time",
            right_on="acted",
            by="subject_id",
            strategy="forward",
            check_sortedness=False,  # both sides are sorted just above; with `by` polars cannot check it
        )
        .sort("row")
    )
    days = (found["acted"] - found["prediction_time"]).dt.total_microseconds() / 86_400_000_000
    return days.cast(pl.Float64).fill_null(np.inf).to_numpy()


def judge_untreated(
    probability: np.ndarray, outcomes: Outcomes, *, acted_days: np.ndarray, covariates: np.ndarray
) -> UntreatedVerdict:
    """Raw figures of predicted risks (n,) and those of the risk without action.

    `acted_days` (n,) days from prediction to action, infinity without; an action after the end of follow-up does not
    count. `covariates` (n, q) reasons to act besides the predicted risk, which is always one; q may be 0.
    Raises InputError for other shapes or missing values.
    """
    acted, covariates = _checked(acted_days, covariates, len(outcomes))
    end = np.minimum(outcomes.follow_up_days, outcomes.horizon_days)
    left = acted < end
    free = Outcomes(
        outcomes.subject_id,
        np.where(left, acted, outcomes.follow_up_days),
        np.where(left, 0, outcomes.event),
        outcomes.horizon_days,
    )
    remaining = Remaining.of(probability, covariates, acted=np.where(left, acted, np.inf), outcomes=outcomes, free=free)
    ones = np.ones((1, len(outcomes)))
    likely = remaining.to_horizon(ones)[0] >= SMALLEST_REMAINING  # False too where the action model has no estimate
    sample, alone = effective_sample(remaining(ones)[0] * likely) if likely.any() else 0.0, float(1 - likely.mean())
    raw = {}
    if _followed(outcomes):
        raw = _figures(probability, outcomes, weights=HorizonWeights.of(outcomes), rows=np.ones(len(outcomes)))
    reason = _not_identified(free, sample, alone)
    untreated = {} if reason else _figures(probability, free, weights=remaining, rows=likely.astype(float))
    verdict = UntreatedVerdict(len(outcomes), int(left.sum()), sample, alone, raw, untreated, reason, "")
    return replace(verdict, words=_words(verdict))


def _checked(acted_days: np.ndarray, covariates: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    acted, covariates = np.asarray(acted_days, dtype=float), np.asarray(covariates, dtype=float)
    if acted.shape != (rows,) or covariates.ndim != 2 or len(covariates) != rows:
        raise InputError(
            f"acted_days and covariates must have one row a prediction: got {acted.shape} and {covariates.shape} for "
            f"{rows} predictions"
        )
    if not (acted >= 0).all() or not np.isfinite(covariates).all():
        raise InputError(
            "acted_days must not be missing or negative, and covariates not be missing; use infinity where nobody "
            "acted and fill in missing covariates with an indicator beside them"
        )
    return acted, covariates


def _followed(outcomes: Outcomes) -> bool:
    return bool((outcomes.follow_up_days >= outcomes.horizon_days).any())


def _not_identified(free: Outcomes, sample: float, alone: float) -> str | None:
    """Why the risk without action cannot be told, or None."""
    if not _followed(free):
        return "nobody has been followed to the horizon without action"
    if alone > MOST_WITHOUT_STAND_IN:
        return f"{alone:.0%} of the patients had hardly a chance to remain without action, so nobody stands in for them"
    if sample < FEWEST_EFFECTIVE:
        return f"those who remained without action count as only {sample:.0f} patients (at least {FEWEST_EFFECTIVE:g})"
    return None


@dataclass(frozen=True, eq=False)
class Remaining:
    """Weights of rows that remained without action and in follow-up as long as needed, for many weightings at once.

    Action is a discrete-time hazard: a logistic regression over the periods at risk of each `row` (m,) on `design`
    (m, k), with `acted` (m,) and the share `seen` (m,) of the period that was at risk. Reasons to act have effects of
    their own on the decision at once. `everywhere` (periods * n, k) is the design of every row in every period, and
    `passed` (n, periods) the share of each period that the row must have remained for.
    """

    row: np.ndarray
    design: np.ndarray
    acted: np.ndarray
    seen: np.ndarray
    everywhere: np.ndarray
    passed: np.ndarray
    known: np.ndarray
    curve: CensoringCurve
    column: np.ndarray

    @classmethod
    def of(
        cls, probability: np.ndarray, covariates: np.ndarray, *, acted: np.ndarray, outcomes: Outcomes, free: Outcomes
    ) -> Remaining:
        """Lay out the times at risk; `acted` (n,) infinity where no action counts, `free` outcomes ended by action."""
        horizon = outcomes.horizon_days
        edges = _edges(acted, horizon)
        start, stop = edges[:-1], edges[1:]
        end = np.minimum(free.follow_up_days, horizon)[:, None]
        passed = np.clip((end - start) / (stop - start), 0.0, 1.0)
        if stop[0] <= DECISION_DAYS or len(start) == 1:
            passed[:, 0] = 1.0  # the decision on the prediction comes before all else
        here = (acted[:, None] >= start) & (acted[:, None] < stop)
        row, period = np.nonzero((passed > 0) | here)
        # The few most extreme risks are taken alike, or their tails would steer the fit.
        score = np.clip(logit(probability), *np.quantile(logit(probability), TAILS))
        patient = np.column_stack([Spline.of(score).design(score)[:, 1:], _standard(covariates)])
        decision = np.zeros(len(start))
        decision[0] = float(stop[0] <= DECISION_DAYS and len(start) > 1)
        everywhere = np.concatenate(
            [_period_design(patient, k, periods=len(start), decision=decision[k]) for k in range(len(start))]
        )
        curve = CensoringCurve.of(outcomes.follow_up_days, outcomes.event, until_days=horizon)
        return cls(
            row=row,
            design=everywhere[period * len(patient) + row],
            acted=here[row, period].astype(float),
            seen=np.where(here[row, period], 1.0, passed[row, period]),
            everywhere=everywhere,
            passed=passed,
            known=free.known.astype(float),
            curve=curve,
            column=curve.position(end[:, 0]),
        )

    def __call__(self, count: np.ndarray) -> np.ndarray:
        """Weights (b, n) for `count` (b, n) copies of each row; 0 where action or loss came first."""
        stayed = self._stayed(count, self.passed)
        followed = np.take(self.curve.uncensored(count), self.column, axis=1)
        together = stayed * followed
        # Where nobody could be followed so long the row has no copies, and 0 / 0 must stay 0.
        return count * self.known / np.where(together == 0, 1.0, together)

    def to_horizon(self, count: np.ndarray) -> np.ndarray:
        """Probability (b, n) of remaining without action to the horizon."""
        return self._stayed(count, np.ones_like(self.passed))

    def _stayed(self, count: np.ndarray, passed: np.ndarray) -> np.ndarray:
        """Probability (b, n) of no action during the shares `passed` (n, periods) of the periods."""
        if not self.acted.any():
            return np.ones_like(count)
        coefficients = weighted_logistic(self.design, self.acted, count[:, self.row] * self.seen)
        n, periods = passed.shape
        with np.errstate(invalid="ignore"):  # a resample without an estimate stays NaN
            log_stay = -np.logaddexp(0.0, coefficients @ self.everywhere.T).reshape(len(count), periods, n)
        return np.asarray(np.exp((log_stay * passed.T).sum(axis=1)))


def _edges(acted: np.ndarray, horizon: float) -> np.ndarray:
    """Borders of the periods: decisions at once, then later actions in parts of about equal numbers."""
    finite = acted[np.isfinite(acted)]
    at_once = finite < DECISION_DAYS
    apart = at_once.sum() >= FEWEST_ACTIONS and (~at_once).sum() >= FEWEST_ACTIONS
    later = finite[~at_once] if apart else finite
    parts = max(1, min(PERIODS, len(later) // FEWEST_ACTIONS)) if (~at_once).sum() >= FEWEST_ACTIONS else 1
    inner = np.quantile(later, np.arange(1, parts) / parts) if parts > 1 else np.zeros(0)
    decision = [DECISION_DAYS] if apart else []
    return np.unique(np.concatenate([[0.0], decision, inner[inner > DECISION_DAYS], [horizon]]))


def _period_design(patient: np.ndarray, period: int, *, periods: int, decision: float) -> np.ndarray:
    """Columns (n, k) of one period: which it is, patients' values, and those again where a decision is made at once."""
    which = np.zeros((len(patient), periods))
    which[:, period] = 1.0
    return np.column_stack([which, patient, patient * decision])


def _standard(covariates: np.ndarray) -> np.ndarray:
    kept = covariates[:, np.ptp(covariates, axis=0) > 0] if covariates.size else covariates[:, :0]
    return np.asarray((kept - kept.mean(axis=0)) / kept.std(axis=0))


def _figures(
    probability: np.ndarray, outcomes: Outcomes, *, weights: HorizonWeights | Remaining, rows: np.ndarray
) -> dict[str, Estimate]:
    """Figures of the `rows` (n,) marked 1, with intervals in which the weights are fitted anew in each resample."""
    weak = WeakStatistic.of(probability, outcomes)
    rank = DiscriminationStatistic.of(probability, outcomes, threshold=0.5)

    def statistic(count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        own = np.where(np.isfinite(weight), weights(count) * rows, np.nan)
        return {**weak(count * rows, own), "auroc": rank(count * rows, own)["auroc"]}

    statistics: dict[str, Statistic] = {"figures": statistic}
    found = replicate(outcomes, statistics, resamples=RESAMPLES, seed=SEED)["figures"]
    support = Support.of(outcomes.take(rows > 0))
    return {name: estimate(found[name], support) for name in FIGURES}


def _words(verdict: UntreatedVerdict) -> str:
    acted = f"{verdict.acted} of {verdict.rows} predictions were acted upon"
    raw = _ratio(verdict.raw)
    if verdict.reason:
        return (
            f"{acted}; as they are, {raw}, but what would have been without action cannot be told: {verdict.reason}; "
            "a silent trial can tell."
        )
    return (
        f"{acted}; as they are, {raw}; had nobody acted, {_ratio(verdict.untreated)}, if predicted risk and the given "
        "covariates hold all reasons to act that bear on the outcome."
    )


def _ratio(figures: dict[str, Estimate]) -> str:
    ratio = figures.get("observed_expected", Estimate(None))
    if ratio.value is None:
        return "observed : expected is not known"
    if ratio.low is None or ratio.high is None:
        return f"observed : expected is {ratio.value:.2f}"
    return f"observed : expected is {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
