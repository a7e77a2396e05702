"""Predictions enter when their horizon has passed, once a patient, and lost patients are stood in for."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from careloop.outcome.stream.arrivals import Arrivals, arrivals, past_weights
from careloop.outcome.stream.calibration import watch_level


def test_outcomes_wait_for_the_horizon_whether_good_or_bad(stream) -> None:
    rows = stream(60, 0)
    as_of = rows["prediction_time"][20] + timedelta(days=30)
    found = arrivals(rows, horizon_days=30.0, as_of=as_of)
    assert (len(found), found.waiting) == (21, 39)
    assert found.label.tolist() == ((rows["event"] == 1) & (rows["follow_up_days"] <= 30))[:21].to_list()
    assert (np.diff(found.known_time) > np.timedelta64(0)).all()


def test_entering_outcomes_when_they_happen_would_raise_false_alarms(stream, after_all) -> None:
    """The order of becoming known puts early outcomes of recent patients first: a right model then looks wrong."""
    alarms = {"at the horizon": 0, "when they happen": 0}
    for seed in range(10):
        rows = stream(600, seed)
        as_of = rows["prediction_time"][199] + timedelta(days=15)
        known = rows.with_columns(
            day=pl.col("prediction_time") + pl.duration(seconds=86400 * pl.min_horizontal("follow_up_days", 30.0))
        ).filter(pl.col("day") <= as_of)
        everything = arrivals(known, horizon_days=30.0, as_of=after_all(rows))
        in_order = np.argsort(known["day"].to_numpy(), kind="stable")
        early = Arrivals(
            everything.prediction_time,
            everything.known_time,
            everything.probability[in_order],
            everything.outcomes.take(in_order),
            np.ones(len(everything)),
            0,
            0,
            0,
        )
        alarms["when they happen"] += watch_level(early, alpha=0.05).alarm
        right = arrivals(rows, horizon_days=30.0, as_of=as_of)
        alarms["at the horizon"] += watch_level(right, alpha=0.05).alarm
    assert alarms["at the horizon"] == 0
    assert alarms["when they happen"] >= 9


def test_a_patient_counts_once_until_the_outcome_is_known(stream, after_all) -> None:
    rows = stream(120, 1).with_columns(subject_id=pl.col("subject_id") % 3)
    found = arrivals(rows, horizon_days=30.0, as_of=after_all(rows))
    assert found.overlapping == 120 - len(found)
    # 20 days of predictions are shorter than the horizon.
    assert len(found) == 3


def test_abstained_predictions_do_not_enter(stream, after_all) -> None:
    rows = stream(50, 2).with_columns(abstained=pl.col("subject_id") < 10)
    found = arrivals(rows, horizon_days=30.0, as_of=after_all(rows))
    assert (len(found), found.abstained) == (40, 10)


def test_weights_are_from_the_censoring_curve_of_earlier_rows(entered) -> None:
    from lifelines import KaplanMeierFitter

    found = entered(400, 3, loss=0.4)
    outcomes = found.outcomes
    assert found.lost > 50
    assert (found.weight[~outcomes.known] == 0).all()
    # Row 15 and the rows before 20 are weighted by all rows before each: the curve is refitted at every row.
    row = 15 + int(np.argmax(outcomes.known[15:20]))
    past = slice(0, row)
    curve = KaplanMeierFitter().fit(outcomes.follow_up_days[past], (outcomes.event[past] == 0) & ~outcomes.known[past])
    until = min(outcomes.follow_up_days[row], 30.0)
    free = [float(curve.survival_function_at_times(t - 1e-9).iloc[0]) for t in (30.0, until)]
    assert found.weight[row] == pytest.approx(free[0] / free[1])


def test_nobody_lost_means_everybody_counts(entered) -> None:
    found = entered(30, 4)
    assert (past_weights(found.outcomes) == 1).all()


def test_loss_raises_no_false_alarm_but_leaving_lost_rows_out_does(entered) -> None:
    """With 60 % lost, those with a known outcome have had it far more often than predicted."""
    weighted, left_out = 0, 0
    for seed in range(10):
        each = entered(1200, seed, loss=0.6)
        weighted += watch_level(each, alpha=0.05).alarm
        kept = each.outcomes.known
        naive = Arrivals(
            each.prediction_time[kept],
            each.known_time[kept],
            each.probability[kept],
            each.outcomes.take(kept),
            np.ones(kept.sum()),
            0,
            0,
            0,
        )
        left_out += watch_level(naive, alpha=0.05).alarm
    assert weighted == 0
    assert left_out >= 8
