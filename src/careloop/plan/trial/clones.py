"""Clones: every row follows each strategy it is compatible with at time zero, until it departs from it.

Clone, censor (Cain et al. 2010, Int J Biostat 6:18; Hernan 2018, BMJ 360:k182): a patient who has not yet started by
the end of the grace period departs then; one who starts what a strategy forbids departs at once. Until they part, the
same follow-up counts under several strategies, so no time is immortal. What comes at the same time as a departure comes
before it, as events come before censoring everywhere in careloop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.plan.effect.goals import Array
from careloop.plan.trial.definition import Strategy, TrialSection
from careloop.plan.trial.emulate import TrialData, treatment_key

LOST, OUTCOME, COMPETING, DEPARTED, COMPLETED = range(5)


@dataclass(frozen=True, eq=False)
class Clones:
    """One strategy's clones among n rows.

    `member` (n,) bool: compatible at time zero. `end_days` (n,): when the clone's follow-up ends, 0 for others.
    `status` (n,): how it ends, one of LOST, OUTCOME, COMPETING, DEPARTED, COMPLETED. `start`, `never`, `stop` (n,):
    days of starting, of the first forbidden treatment and of stopping, inf where it did not happen or does not matter.
    """

    name: str
    strategy: Strategy
    member: Array
    end_days: Array
    status: Array
    start: Array
    never: Array
    stop: Array


@dataclass(frozen=True)
class StrategyFlow:
    """What became of one strategy's clones; counts of rows, `outcome` to `completed` adding up to `clones`.

    `started` counts clones that started the strategy's treatment in time. Departures are told by what came first.
    """

    strategy: str
    eligible: int
    clones: int
    started: int
    outcome: int
    competing: int
    lost: int
    completed: int
    not_started: int
    started_forbidden: int
    stopped: int


def clone(data: TrialData, section: TrialSection) -> tuple[Clones, ...]:
    """The clones of every strategy, censored where they depart."""
    return tuple(_clones_of(data, name, strategy) for name, strategy in section.strategies.items())


def _clones_of(data: TrialData, name: str, strategy: Strategy) -> Clones:
    start, never, stop = _course(data, name, strategy)
    departs = departure_days(start, never, stop, strategy=strategy)
    return _followed(data, name, strategy, member=departs > 0, departs=departs)


def _course(data: TrialData, name: str, strategy: Strategy) -> tuple[Array, Array, Array]:
    """Days of starting, of the first forbidden treatment, and of stopping; nothing counts after follow-up ends."""
    nothing = np.full(len(data), np.inf)
    start = data.days[treatment_key(strategy.start)] if strategy.start else nothing
    never = data.days[treatment_key(strategy.never)] if strategy.never else nothing
    stop = data.stops[name] if strategy.not_stopping else nothing
    start, never, stop = (np.where(days <= data.follow_up_days, days, np.inf) for days in (start, never, stop))
    return start, never, stop


def departure_days(start: Array, never: Array, stop: Array, *, strategy: Strategy) -> Array:
    """Day (n,) on which a row departs from a strategy, inf if it never does; 0 if it cannot follow it at all."""
    departs = np.minimum(never, stop)
    if strategy.start:
        departs = np.where(start > strategy.within_days, np.minimum(departs, strategy.within_days), departs)
    return departs


def _followed(data: TrialData, name: str, strategy: Strategy, *, member: Array, departs: Array) -> Clones:
    start, never, stop = _course(data, name, strategy)
    horizon = data.grid.horizon_days
    end = np.minimum(np.minimum(data.follow_up_days, departs), horizon)
    observed = (data.follow_up_days <= departs) & (data.follow_up_days <= horizon)
    status = np.select(
        [observed & (data.event == 1), observed & (data.event == 2), end >= horizon, data.follow_up_days <= departs],
        [OUTCOME, COMPETING, COMPLETED, LOST],
        DEPARTED,
    )
    return Clones(name, strategy, member, np.where(member, end, 0.0), status, start, never, stop)


def as_treated(data: TrialData, section: TrialSection) -> tuple[Clones, ...]:
    """The analysis that emulation replaces: groups by what was done later, all followed from time zero.

    A row belongs to a strategy if its whole known course agrees with it. Time before starting is counted as treated
    although nobody could die in it (immortal time: Suissa 2008, Am J Epidemiol 167:492).
    """
    groups = []
    for name, strategy in section.strategies.items():
        start, never, stop = _course(data, name, strategy)
        member = np.isinf(np.minimum(never, stop))
        if strategy.start:
            member &= start <= strategy.within_days
        groups.append(_followed(data, name, strategy, member=member, departs=np.full(len(data), np.inf)))
    return tuple(groups)


def flow_of(clones: Clones, data: TrialData) -> StrategyFlow:
    """Count what became of the clones."""
    status = clones.status[clones.member]
    departed = clones.member & (clones.status == DEPARTED)
    forbidden = departed & (clones.never == clones.end_days)
    stopped = departed & ~forbidden & (clones.stop == clones.end_days)
    in_time = clones.member & (clones.start <= np.minimum(clones.strategy.within_days, clones.end_days))
    outcome, competing, lost, completed = (int((status == s).sum()) for s in (OUTCOME, COMPETING, LOST, COMPLETED))
    return StrategyFlow(
        strategy=clones.name,
        eligible=len(data),
        clones=len(status),
        started=int(in_time.sum()) if clones.strategy.start else 0,
        outcome=outcome,
        competing=competing,
        lost=lost,
        completed=completed,
        not_started=int((departed & ~forbidden & ~stopped).sum()),
        started_forbidden=int(forbidden.sum()),
        stopped=int(stopped.sum()),
    )
