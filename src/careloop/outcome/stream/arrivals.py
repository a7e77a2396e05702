"""The order in which predictions' outcomes become known, so that a test may look at them one after the other.

A prediction enters when its horizon has passed, also if the outcome happened sooner. Entering it on the day of its
outcome would let the bad news in first: those who stay well are only known at the horizon, so a right model would seem
to predict too little whenever predictions are recent. The order of entry is then the order of prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from careloop.evaluate import Outcomes
from careloop.evaluate.censoring import CensoringCurve
from careloop.outcome.accuracy import outcomes_of, risk_of, used_rows

# The censoring curve is fitted anew whenever the rows before have grown by this share: at every row while they are few.
REFIT_GROWTH = 0.05


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Predictions of one model whose horizon has passed, in order of entry (n,), and how many others there are.

    `prediction_time` and `known_time` datetime64[us] UTC; `outcomes` with follow-up and event; `weight` in [0, 1] the
    share of a row that counts: 0 where it was lost before the horizon (its outcome is never known), else the
    probability of being followed to the horizon over that of being followed as long as needed, from earlier rows alone.
    `waiting` predictions have not reached their horizon; `overlapping` were made for a patient while an earlier
    prediction of the patient was still open, so that the two are not two looks; `abstained` were not to be used.
    """

    prediction_time: np.ndarray
    known_time: np.ndarray
    probability: np.ndarray
    outcomes: Outcomes | None
    weight: np.ndarray
    waiting: int
    overlapping: int
    abstained: int

    def __len__(self) -> int:
        return len(self.probability)

    @property
    def label(self) -> np.ndarray:
        """(n,) bool: the outcome happened within the horizon; meaningless where `weight` is 0."""
        return self.outcomes.label if self.outcomes else np.zeros(0, dtype=bool)

    @property
    def lost(self) -> int:
        """Predictions whose patient was lost before the horizon."""
        return int((~self.outcomes.known).sum()) if self.outcomes else 0


def arrivals(rows: pl.DataFrame, *, horizon_days: float, as_of: datetime) -> Arrivals:
    """Predictions of one model and version in order of entry.

    `rows`: prediction columns joined with follow_up_days and event. `as_of`: up to when the record tells of outcomes.
    """
    usable = used_rows(rows)
    entry = pl.col("prediction_time") + pl.duration(microseconds=round(horizon_days * 86_400_000_000))
    ordered = in_order(usable.with_columns(entry=entry))
    single = ordered.filter(_first_of_open(ordered))
    entered = single.filter(pl.col("entry") <= as_of)
    outcomes = outcomes_of(entered, horizon_days) if entered.height else None
    return Arrivals(
        prediction_time=_moments(entered["prediction_time"]),
        known_time=_moments(entered["entry"]),
        probability=risk_of(entered),
        outcomes=outcomes,
        weight=past_weights(outcomes) if outcomes else np.zeros(0),
        waiting=single.height - entered.height,
        overlapping=ordered.height - single.height,
        abstained=rows.height - usable.height,
    )


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by prediction_time; those at one time in an order drawn by lot, but always the same.

    Identifiers often follow sites or years, and so does what is measured there: in their order, patients of one moment
    would look like a drift.
    """
    ordered = rows.sort("prediction_time", "subject_id")
    lot = pl.Series("lot", np.random.default_rng(0).random(ordered.height))
    return ordered.with_columns(lot).sort("prediction_time", "lot").drop("lot")


def _first_of_open(ordered: pl.DataFrame) -> pl.Series:
    """True for a patient's predictions that are made when none before that counts is still open."""
    closes: dict[object, datetime] = {}
    free = []
    for subject, made, entry in ordered.select("subject_id", "prediction_time", "entry").iter_rows():
        free.append(subject not in closes or made >= closes[subject])
        if free[-1]:
            closes[subject] = entry
    return pl.Series(free, dtype=pl.Boolean)


def _moments(times: pl.Series) -> np.ndarray:
    return times.dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy()


def past_weights(outcomes: Outcomes) -> np.ndarray:
    """Share (n,) of each row that counts, from the censoring curve of the rows before it; `outcomes` in order of entry.

    G(horizon) / G(min(follow-up, horizon)) for a row with known label, 0 for others: an outcome counts as far as it
    would have been followed to the horizon. Without earlier loss all known rows count 1.
    """
    known, follow_up, horizon = outcomes.known, outcomes.follow_up_days, outcomes.horizon_days
    weight = known.astype(float)
    if known.all():
        return weight
    for start, stop in pairwise([*_refits(len(outcomes)), len(outcomes)]):
        past = slice(0, start)
        curve = CensoringCurve.of(follow_up[past], outcomes.event[past], until_days=horizon)
        free = curve.uncensored(np.ones((1, start)))[0]
        until = free[curve.position(np.minimum(follow_up[start:stop], horizon))]
        share = np.divide(free[-1], until, out=np.zeros_like(until), where=until > 0)
        weight[start:stop] = known[start:stop] * share
    return weight


def _refits(rows: int) -> list[int]:
    """Rows before which the curve is fitted anew."""
    places, place = [], 1
    while place < rows:
        places.append(place)
        place = max(place + 1, int(place * (1 + REFIT_GROWTH)))
    return places
