"""How likely a row is to start, to stop or to be lost in each interval, given what was known at the interval's start.

Each process (a treatment's first start, a stop, loss to follow-up) is a pooled logistic regression over the
person-intervals at risk of it, with the interval, the confounders as of its start and those of time zero (Robins,
Hernan & Brumback 2000, Epidemiology 11:550). Starts at time zero itself are a regression of their own. Inside an
interval the hazard is constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from careloop.evaluate.calibration import expit
from careloop.evaluate.censoring import CENSORED
from careloop.plan.effect.goals import Array
from careloop.plan.effect.nuisance import fit_design
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import TrialData, treatment_key
from careloop.plan.trial.pooled import PooledLogistic, fit_pooled

LOSS = "loss to follow-up"
MOST_TIME_TERMS = 12
LARGEST_LOG_ODDS = 30.0
COVARIATE_PENALTY, TIME_PENALTY = 1.0, 0.1  # of standardised covariates: like one more observation each
Kind = Literal["over_time", "baseline"]


@dataclass(frozen=True)
class Process:
    """Something that happens once: rows are at risk from `enter` (n,) days on; `day` (n,) it happens, inf if never."""

    name: str
    enter: Array
    day: Array


@dataclass(frozen=True)
class Hazards:
    """By process: `rate` (n, K), the integrated hazard of a whole interval, and `at_zero` (n,), the chance at day 0."""

    rate: Mapping[str, Array] = field(default_factory=dict)
    at_zero: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSummary:
    """What one process's model rests on."""

    process: str
    person_intervals: int
    events: int
    at_zero: int
    covariates: int


@dataclass(frozen=True, eq=False)
class HazardModel:
    """One process's fit: `design` (m, p) over all person-intervals, `zero_design` (n, q) over rows; None: no events."""

    name: str
    design: Array
    fit: PooledLogistic | None
    zero_design: Array
    zero_fit: PooledLogistic | None
    summary: ModelSummary


@dataclass(frozen=True, eq=False)
class HazardModels:
    """All processes' models, and where their person-intervals belong in (n, K)."""

    models: tuple[HazardModel, ...]
    row: Array
    interval: Array
    shape: tuple[int, int]

    def hazards(self, counts: Array) -> Hazards:
        """Hazards with the coefficients of a resample in which the rows count `counts` (n,) times (all 1: the fit)."""
        rate, at_zero = {}, {}
        for model in self.models:
            each = np.zeros(self.shape)
            if model.fit is not None:
                log_odds = model.design @ model.fit.resampled(counts)
                each[self.row, self.interval] = np.log1p(np.exp(np.minimum(log_odds, LARGEST_LOG_ODDS)))
            rate[model.name] = each
            if model.zero_fit is not None:
                at_zero[model.name] = expit(model.zero_design @ model.zero_fit.resampled(counts))
        return Hazards(rate, at_zero)


def processes(data: TrialData, section: TrialSection) -> tuple[Process, ...]:
    """Every process whose hazard some strategy's weights need."""
    now, never = np.zeros(len(data)), np.full(len(data), np.inf)
    found = [Process(key, now, data.days[key]) for key in map(treatment_key, section.treatments)]
    for name, strategy in section.strategies.items():
        if strategy.start and strategy.not_stopping:
            found.append(Process(stop_name(name), data.days[treatment_key(strategy.start)], data.stops[name]))
    lost = (data.event == CENSORED) & (data.follow_up_days < data.grid.horizon_days)
    return (*found, Process(LOSS, now, np.where(lost, data.follow_up_days, never)))


def stop_name(strategy: str) -> str:
    """Name of the process of stopping what a strategy started."""
    return f"stopping ({strategy})"


@dataclass(frozen=True, eq=False)
class Covariates:
    """Standardised confounders: `now` (m, p) as of each person-interval's start, `first` (n, p) at time zero."""

    now: Array
    first: Array
    names: tuple[str, ...]

    @classmethod
    def of(cls, data: TrialData) -> Covariates:
        """Medians, scales and indicators of being missing are those over all person-intervals."""
        design = fit_design(data.values, data.names)
        now = design.transform(data.values)
        first = np.empty((len(data), now.shape[1]))
        first[data.row[data.interval == 0]] = now[data.interval == 0]
        return cls(now, first, design.names)

    def columns(self, row: Array, kind: Kind) -> Array:
        """Columns (m, .): confounders now, and at time zero those that change; or only at time zero."""
        first = self.first[row]
        if kind == "baseline":
            return first
        changing = (self.now != first).any(axis=0)
        return np.hstack([self.now, first[:, changing]])


def fit_hazards(data: TrialData, section: TrialSection, covariates: Covariates, *, kind: Kind) -> HazardModels:
    """Fit every process, with confounders over time or at time zero only."""
    columns = covariates.columns(data.row, kind)
    found = processes(data, section)
    starts = {key: data.days[key] for key in map(treatment_key, section.treatments)}
    models = []
    for process in found:
        others = [day for key, day in starts.items() if key != process.name] if kind == "over_time" else []
        begun = [(day[data.row] <= data.grid.starts[data.interval]).astype(float) for day in others]
        models.append(_fit(process, data, np.column_stack([columns, *begun]), covariates.first))
    return HazardModels(tuple(models), data.row, data.interval, (len(data), len(data.grid)))


def _fit(process: Process, data: TrialData, columns: Array, first: Array) -> HazardModel:
    label, weight = at_risk(process, data)
    time = _time_terms(data, data.interval[label > 0])
    design = np.hstack([time, columns])
    rows = weight > 0
    penalty = np.repeat([TIME_PENALTY, COVARIATE_PENALTY], [time.shape[1], columns.shape[1]])
    fit = None
    if label.any():
        fit = fit_pooled(design[rows], label[rows], weight[rows], row=data.row[rows], rows=len(data), penalty=penalty)
    zero = (process.day == 0).astype(float)
    zero_design = np.hstack([np.ones((len(data), 1)), first])
    zero_fit = None
    if zero.any():
        zero_penalty = np.repeat([TIME_PENALTY, COVARIATE_PENALTY], [1, first.shape[1]])
        every = np.arange(len(data))
        zero_fit = fit_pooled(zero_design, zero, np.ones(len(data)), row=every, rows=len(data), penalty=zero_penalty)
    summary = ModelSummary(process.name, int(rows.sum()), int(label.sum()), int(zero.sum()), columns.shape[1])
    return HazardModel(process.name, design, fit, zero_design, zero_fit, summary)


def at_risk(process: Process, data: TrialData) -> tuple[Array, Array]:
    """Whether the process happens in each person-interval (m,), and the fraction of it at risk (1 where it happens).

    What happens at day 0 is not part of the first interval; what comes when follow-up ends still counts.
    """
    grid, begin = data.grid, data.grid.starts[data.interval]
    finish = begin + grid.lengths[data.interval] * grid.interval_days
    end = np.minimum(data.follow_up_days, grid.horizon_days)[data.row]
    enter, day = np.maximum(process.enter[data.row], begin), process.day[data.row]
    label = (day > enter) & (day <= np.minimum(finish, end))
    fraction = np.clip(np.minimum(np.minimum(finish, end), day) - enter, 0.0, None) / grid.interval_days
    fraction[day == 0] = 0.0
    return label.astype(float), np.where(label, 1.0, fraction)


def _time_terms(data: TrialData, happened: Array) -> Array:
    """Indicators (m, g) of groups of intervals: single ones, or where there are many, with equally many events."""
    if len(data.grid) <= MOST_TIME_TERMS or not len(happened):
        groups = np.minimum(np.arange(len(data.grid)), MOST_TIME_TERMS - 1)
    else:
        cuts = np.unique(np.quantile(happened, np.linspace(0, 1, MOST_TIME_TERMS + 1)[1:-1], method="lower"))
        groups = np.searchsorted(cuts, np.arange(len(data.grid)), side="left")
    return np.eye(groups.max() + 1)[groups[data.interval]]
