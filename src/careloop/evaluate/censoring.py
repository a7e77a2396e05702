"""Outcomes under censoring: labels at a horizon, censoring weights, Kaplan-Meier and Aalen-Johansen curves.

Whether the outcome happened within the horizon is known for a row that had the outcome or a competing event by then, or
was followed to it. Rows censored earlier are unknown: they get weight 0, and the known rows stand in for them with
weight 1 / P(still uncensored), the inverse probability of censoring weight (IPCW). Convention at ties, everywhere in
this room: events come before censoring, so P(still uncensored at t) is G(t-) = P(C >= t), and a row censored exactly at
the horizon is known to be event-free. The weights assume that censoring has nothing to do with who the subject is or
what would have happened, since one curve is fitted for all given rows.

Sources: Graf et al., Stat Med 1999;18:2529 (weights); Satten and Datta, Am Stat 2001;55:207 (weighted proportions equal
the product-limit estimate); Aalen and Johansen, Scand J Stat 1978;5:141.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError

CENSORED, OUTCOME, COMPETING = 0, 1, 2
# Weighted rows must add up to all rows; they fall short only when the last ones before the horizon are censored.
LOST_MASS = 1e-6


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What happened to each row: who it is, how long it was followed, how follow-up ended, and the horizon.

    `subject_id` (n,) any sortable dtype; `follow_up_days` (n,) days from prediction to event or censoring, not cut at
    the horizon; `event` (n,) 0 censored, 1 outcome, 2 competing event; `horizon_days` > 0.
    Raises InputError for lengths that differ, missing or negative follow-up, other event codes, or a bad horizon.
    """

    subject_id: np.ndarray
    follow_up_days: np.ndarray
    event: np.ndarray
    horizon_days: float

    def __post_init__(self) -> None:
        follow_up, event = checked_follow_up(self.follow_up_days, self.event, self.horizon_days)
        subject_id = np.asarray(self.subject_id)
        if subject_id.shape != follow_up.shape:
            raise InputError(
                f"subject_id must have one entry a row: got shape {subject_id.shape} for {len(follow_up)} rows"
            )
        for name, value in (("subject_id", subject_id), ("follow_up_days", follow_up), ("event", event)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.follow_up_days)

    @property
    def label(self) -> np.ndarray:
        """(n,) bool: outcome within the horizon; meaningless where `known` is False."""
        return horizon_labels(self.follow_up_days, self.event, self.horizon_days)

    @property
    def known(self) -> np.ndarray:
        """(n,) bool: the label is known, that is, the row was not censored before the horizon."""
        return (self.event != CENSORED) | (self.follow_up_days >= self.horizon_days)

    def take(self, rows: np.ndarray) -> Outcomes:
        """The same outcomes for chosen rows (mask or positions)."""
        return Outcomes(self.subject_id[rows], self.follow_up_days[rows], self.event[rows], self.horizon_days)


def checked_follow_up(
    follow_up_days: np.ndarray, event: np.ndarray, horizon_days: float
) -> tuple[np.ndarray, np.ndarray]:
    """Follow-up as float64 and event as int8, or an InputError that says which rule is broken."""
    follow_up = np.asarray(follow_up_days, dtype=np.float64)
    event = np.asarray(event)
    if follow_up.ndim != 1 or event.shape != follow_up.shape or not len(follow_up):
        raise InputError(
            f"follow_up_days and event must be equally long and not empty: got {follow_up.shape} and {event.shape}"
        )
    bad = np.flatnonzero(~(np.isfinite(follow_up) & (follow_up >= 0)))
    if len(bad):
        raise InputError(f"follow_up_days must be present and not negative: {len(bad)} rows are not, first {bad[0]}")
    if not np.isin(event, (CENSORED, OUTCOME, COMPETING)).all():
        raise InputError("event must be 0 (censored), 1 (outcome) or 2 (competing event) in every row")
    if not (np.isfinite(horizon_days) and horizon_days > 0):
        raise InputError(f"horizon_days must be positive: got {horizon_days}")
    return follow_up, event.astype(np.int8)


def horizon_labels(follow_up_days: np.ndarray, event: np.ndarray, horizon_days: float) -> np.ndarray:
    """(n,) bool: the outcome happened within the horizon. Use only with `horizon_weights`, which marks unknown rows."""
    return (np.asarray(event) == OUTCOME) & (np.asarray(follow_up_days) <= horizon_days)


def horizon_weights(
    follow_up_days: np.ndarray,
    event: np.ndarray,
    horizon_days: float,
    *,
    fitted_on: Outcomes | None = None,
) -> np.ndarray:
    """Inverse probability of censoring weight of each row's label at the horizon.

    Returns (n,) float64: 0 for rows censored before the horizon, 1 / G(min(follow-up, horizon)-) for the others; events
    and competing events (known negatives) count when they happen. Without censoring before the horizon all are 1.
    G is the Kaplan-Meier curve of the censoring on these rows, or on `fitted_on` (say, the training rows).
    Raises InputError where nobody is followed to the horizon, since the label is then not identified.
    """
    follow_up, event = checked_follow_up(follow_up_days, event, horizon_days)
    source = fitted_on if fitted_on is not None else Outcomes(np.arange(len(follow_up)), follow_up, event, horizon_days)
    curve = CensoringCurve.of(source.follow_up_days, source.event, until_days=horizon_days)
    free = curve.uncensored(np.ones((1, len(source))))[0]
    if free[curve.position(np.float64(horizon_days))] <= 0:
        raise InputError(
            f"horizon_days must lie within the follow-up: got {horizon_days:g}, but every row without an event is "
            f"censored by day {source.follow_up_days.max():g}; choose a shorter horizon"
        )
    known = (event != CENSORED) | (follow_up >= horizon_days)
    return known / free[curve.position(np.minimum(follow_up, horizon_days))]


@dataclass(frozen=True, eq=False)
class CensoringCurve:
    """Follow-up sorted once, from which G(t-) = P(C >= t) follows for many weightings of the rows at a time.

    `times` (m,) distinct times at which rows are censored; `rows` (n,) all rows by time and `later` (m,) the first of
    them followed for longer than each time; `censored` the censored rows by time and `starts` (m,) the first at each.
    """

    times: np.ndarray
    rows: np.ndarray
    later: np.ndarray
    censored: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, follow_up_days: np.ndarray, event: np.ndarray, *, until_days: float = np.inf) -> CensoringCurve:
        """Sort follow-up; only censoring before `until_days` counts."""
        rows = np.argsort(follow_up_days, kind="stable")
        censored = rows[(event[rows] == CENSORED) & (follow_up_days[rows] < until_days)]
        times, starts = np.unique(follow_up_days[censored], return_index=True)
        return cls(times, rows, np.searchsorted(follow_up_days[rows], times, side="right"), censored, starts)

    def uncensored(self, count: np.ndarray) -> np.ndarray:
        """(b, m + 1) for weights `count` (b, n): P(C >= times[k]) in column k, P(C > last time) in the last."""
        free = np.ones((len(count), len(self.times) + 1))
        if not len(self.times):
            return free
        censored = np.add.reduceat(count[:, self.censored], self.starts, axis=1)
        up_to = np.cumsum(np.take(count, self.rows, axis=1), axis=1)
        # Who has an event at a time is no longer at risk of being censored at it.
        at_risk = up_to[:, -1:] - up_to[:, self.later - 1] + censored
        kept = 1 - np.divide(censored, at_risk, out=np.zeros_like(censored), where=at_risk > 0)
        np.cumprod(kept, axis=1, out=free[:, 1:])
        return free

    def position(self, days: np.ndarray | np.float64) -> np.ndarray:
        """Columns of `uncensored` that hold G(days-)."""
        return np.searchsorted(self.times, days, side="left")


@dataclass(frozen=True, eq=False)
class HorizonWeights:
    """Censoring weights at the horizon for many weightings of the rows at once, as the bootstrap needs them.

    The censoring curve is fitted anew for each weighting, so intervals carry its uncertainty.
    """

    curve: CensoringCurve
    column: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, outcomes: Outcomes) -> HorizonWeights:
        """Prepare the weights of these rows."""
        curve = CensoringCurve.of(outcomes.follow_up_days, outcomes.event, until_days=outcomes.horizon_days)
        column = curve.position(np.minimum(outcomes.follow_up_days, outcomes.horizon_days))
        return cls(curve, column, outcomes.known.astype(np.float64))

    def __call__(self, count: np.ndarray) -> np.ndarray:
        """(b, n) weights of the labels, for `count` (b, n) copies of each row."""
        if self.known.all():
            return count
        free = np.take(self.curve.uncensored(count), self.column, axis=1)
        # Where G is 0 the row itself has no copies in this weighting, and 0 / 0 must stay 0.
        return count * self.known / np.where(free > 0, free, 1.0)


def identified(count: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(b,) bool: the weighted rows stand for all rows, that is, somebody is followed to the horizon."""
    total = count.sum(axis=1)
    return np.abs(weight.sum(axis=1) - total) <= LOST_MASS * total


def kaplan_meier(follow_up_days: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct times (m,) and P(no event of any kind by then) (m,), by the product-limit estimate."""
    times, incidence = aalen_johansen(follow_up_days, np.where(np.asarray(event) == CENSORED, CENSORED, OUTCOME))
    return times, 1 - incidence


def aalen_johansen(follow_up_days: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct times (m,) and P(outcome by then) (m,) where competing events prevent the outcome for good."""
    follow_up, event = np.asarray(follow_up_days, dtype=np.float64), np.asarray(event)
    times, place = np.unique(follow_up, return_inverse=True)
    leaving, happened, outcome = (
        np.bincount(place, weights=chosen, minlength=len(times))
        for chosen in (np.ones(len(event)), (event != CENSORED) * 1.0, (event == OUTCOME) * 1.0)
    )
    at_risk = leaving[::-1].cumsum()[::-1]
    free = np.cumprod(1 - happened / at_risk)
    free_before = np.concatenate([[1.0], free[:-1]])
    return times, np.cumsum(free_before * outcome / at_risk)
