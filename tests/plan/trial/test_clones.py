"""Clones against an example worked out by hand."""

from __future__ import annotations

import numpy as np

from careloop.plan.trial.clones import COMPETING, COMPLETED, DEPARTED, LOST, OUTCOME, as_treated, clone, flow_of
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import Grid, TrialData

# start, follow-up, event of each row: horizon 120 days, grace 60, intervals of 30
ROWS = [
    (10.0, 200.0, 0),  # 0 starts in time and is followed beyond the horizon
    (np.inf, 50.0, 1),  # 1 the outcome while both strategies are still open
    (np.inf, 100.0, 1),  # 2 the outcome after the grace period, never started
    (80.0, 200.0, 1),  # 3 starts too late; the outcome after the horizon
    (0.0, 90.0, 1),  # 4 starts at time zero
    (np.inf, 40.0, 0),  # 5 lost in the grace period
    (np.inf, 20.0, 2),  # 6 dies of something else in it
    (np.inf, 60.0, 1),  # 7 the outcome on the last day of grace
    (60.0, 200.0, 0),  # 8 starts on the last day of grace
    (50.0, 45.0, 0),  # 9 lost before what the record says of a later start
]
STRATEGIES = {"never": {"never": "A"}, "start": {"start": "A", "within_days": 60}}


def example(strategies: dict[str, dict[str, object]], stops: dict[str, np.ndarray] | None = None) -> TrialData:
    start, follow_up, event = (np.array(column) for column in zip(*ROWS, strict=True))
    n = len(ROWS)
    return TrialData(
        subjects=np.arange(n),
        follow_up_days=follow_up,
        event=event.astype(int),
        days={"A": start},
        stops=stops or {},
        grid=Grid.of(30.0, 120.0),
        row=np.arange(n),
        interval=np.zeros(n, dtype=int),
        values=np.zeros((n, 0)),
        names=(),
        eligible=n,
        prevalent=0,
    )


def test_clones_end_as_worked_out_by_hand() -> None:
    never, start = clone(example(STRATEGIES), TrialSection.model_validate({"strategies": STRATEGIES}))
    assert never.member.tolist() == [True] * 4 + [False] + [True] * 5
    assert never.end_days.tolist() == [10, 50, 100, 80, 0, 40, 20, 60, 60, 45]
    ends = [DEPARTED, OUTCOME, OUTCOME, DEPARTED, LOST, COMPETING, OUTCOME, DEPARTED, LOST]
    assert never.status[never.member].tolist() == ends
    assert start.member.all()
    assert start.end_days.tolist() == [120, 50, 60, 60, 90, 40, 20, 60, 120, 45]
    ends = [COMPLETED, OUTCOME, DEPARTED, DEPARTED, OUTCOME, LOST, COMPETING, OUTCOME, COMPLETED, LOST]
    assert start.status.tolist() == ends


def test_the_flow_adds_up() -> None:
    data, section = example(STRATEGIES), TrialSection.model_validate({"strategies": STRATEGIES})
    never, start = (flow_of(clones, data) for clones in clone(data, section))
    assert (never.clones, never.started_forbidden, never.outcome, never.competing, never.lost) == (9, 3, 3, 1, 2)
    assert (start.clones, start.started, start.not_started, start.completed) == (10, 3, 2, 2)
    for flow in (never, start):
        ended = flow.outcome + flow.competing + flow.lost + flow.completed
        assert ended + flow.not_started + flow.started_forbidden + flow.stopped == flow.clones


def test_starting_at_time_zero_leaves_no_grace() -> None:
    strategies = {"never": {"never": "A"}, "start": {"start": "A"}}
    _, start = clone(example(strategies), TrialSection.model_validate({"strategies": strategies}))
    assert np.flatnonzero(start.member).tolist() == [4]


def test_who_stops_departs_from_staying_on() -> None:
    strategies = {"never": {"never": "A"}, "stay": {"start": "A", "within_days": 60, "not_stopping": "S"}}
    stops = np.full(len(ROWS), np.inf)
    stops[0] = 70.0
    data = example(strategies, {"stay": stops})
    _, stay = clone(data, TrialSection.model_validate({"strategies": strategies}))
    assert (stay.end_days[0], stay.status[0]) == (70.0, DEPARTED)
    assert flow_of(stay, data).stopped == 1


def test_as_treated_groups_look_into_the_future() -> None:
    never, start = as_treated(example(STRATEGIES), TrialSection.model_validate({"strategies": STRATEGIES}))
    assert np.flatnonzero(start.member).tolist() == [0, 4, 8]
    assert np.flatnonzero(never.member).tolist() == [1, 2, 5, 6, 7, 9]
    assert never.end_days[2] == 100.0
