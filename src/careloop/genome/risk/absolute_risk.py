"""Absolute risk of a person by age: incidence in the population, what a score does to it, and death from other causes.

The baseline hazard is such that the population's average over scores, among those still free of the disease at each
age, is its incidence. Pal Choudhury et al. (iCARE), PLoS One 2020;15:e0228198; Pharoah et al., N Engl J Med
2008;358:2796; competing causes as in Gail et al., J Natl Cancer Inst 1989;81:1879.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.risk.incidence import Rates

LARGEST_LOG_RATIO = np.log(50.0)  # a hazard ratio a standard deviation beyond this is a slip of the unit
_NODES = 80  # of Gauss-Hermite quadrature over a normal score
_STEP_YEARS = 1.0  # the baseline hazard is constant within
_NORMAL = 1.959963984540054
_WITHIN = _NORMAL * np.array([0.0, -1.0, -0.5, 0.5, 1.0])  # a risk need not rise with the ratio all along its interval


@dataclass(frozen=True)
class ScoreEffect:
    """What one standard deviation of a score does to the hazard: the logarithm of the ratio, and its standard error.

    An odds ratio serves where the disease is rare. `population`: standardised scores (people,) that stand for the
    population; None for a standard normal distribution.
    """

    log_ratio: float
    standard_error: float = 0.0
    population: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not abs(self.log_ratio) <= LARGEST_LOG_RATIO or not 0 <= self.standard_error < np.inf:
            raise InputError(
                "the effect of a score is the logarithm of a hazard ratio per standard deviation, of a ratio of "
                f"{np.exp(LARGEST_LOG_RATIO):.0f} at most, with a standard error; got {self.log_ratio} "
                f"({self.standard_error})"
            )

    @classmethod
    def of_ratio(cls, ratio: float, interval: tuple[float, float] | None = None) -> ScoreEffect:
        """The effect by its hazard ratio and 95 % interval; without an interval it is taken as certain.

        Raises:
            InputError: a ratio not above 0, or outside of its interval.
        """
        low, high = interval or (ratio, ratio)
        if not 0 < low <= ratio <= high:
            raise InputError(f"a hazard ratio is above 0 and within its interval; got {ratio:g} ({low:g} to {high:g})")
        return cls(float(np.log(ratio)), float(np.log(high / low) / (2 * _NORMAL)))


@dataclass(frozen=True)
class RiskCurve:
    """Absolute risk up to each of `ages` (times,), from the first of them, in a person free of the disease then.

    `risk`, `low`, `high` (people, times): the risk, and its range over the 95 % interval of the score's effect.
    `average` (times,): of the population's people of that age. `relative` (people,): hazard at the first age against
    the average one there.
    """

    ages: NDArray[np.float64]
    risk: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    average: NDArray[np.float64]
    relative: NDArray[np.float64]


def absolute_risk(
    rates: Rates, effect: ScoreEffect, z: NDArray[np.float64], *, from_age: float, to_age: float
) -> RiskCurve:
    """The risk of people with standardised scores `z` (people,), from an age to a later one, both in years.

    The interval is of the score's effect alone: incidence, mortality and the score itself are taken as known.

    Raises:
        InputError: ages that the rates do not cover, or scores that are not finite.
    """
    if not rates.start[0] <= from_age < to_age <= rates.end[-1]:
        raise InputError(
            f"a risk goes from an age to a later one within the rates' ages, {rates.start[0]:g} to {rates.end[-1]:g}; "
            f"got {from_age:g} to {to_age:g}"
        )
    if not np.isfinite(z).all():
        raise InputError("an absolute risk needs a score of each person; leave those without one out")
    steps = _steps(rates, from_age, to_age)
    spread = _WITHIN * effect.standard_error if effect.standard_error else _WITHIN[:1]
    curves = np.stack([_risk(steps, effect, effect.log_ratio + away, z) for away in spread])
    population = _population(effect, effect.log_ratio)
    first = int(np.flatnonzero(steps.start >= from_age)[0])
    baseline, survivors = population.baseline(steps)
    mean_ratio = float(survivors[first] @ population.ratio)
    average = survivors[first] @ _accumulated(steps, baseline, population.ratio)
    return RiskCurve(
        ages=np.concatenate([[from_age], steps.end[first:]]),
        risk=curves[0],
        low=curves.min(axis=0),
        high=curves.max(axis=0),
        average=average,
        relative=np.exp(effect.log_ratio * z) / mean_ratio,
    )


@dataclass(frozen=True)
class _Steps:
    """Short spans of age (steps,) with constant rates, from the rates' first age; `counted` are those of the person."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    incidence: NDArray[np.float64]
    mortality: NDArray[np.float64]
    counted: NDArray[np.bool_]

    @property
    def years(self) -> NDArray[np.float64]:
        return self.end - self.start


@dataclass(frozen=True)
class _Population:
    """Hazard ratios (nodes,) of a population's people and their shares at birth."""

    ratio: NDArray[np.float64]
    share: NDArray[np.float64]

    def baseline(self, steps: _Steps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The hazard at a ratio of 1 (steps,), and who is free of the disease at each step's start (steps, nodes).

        In each step as many of the population fall ill as its incidence says.
        """
        hazard, survivors = np.zeros(len(steps.years)), np.zeros((len(steps.years), len(self.share)))
        share = self.share / self.share.sum()
        for step, (years, incidence) in enumerate(zip(steps.years, steps.incidence, strict=True)):
            survivors[step] = share
            hazard[step] = _hazard_for(incidence * years, self.ratio, share) / years
            share = share * np.exp(-hazard[step] * years * self.ratio)
            share = share / share.sum()
        return hazard, survivors


def _steps(rates: Rates, from_age: float, to_age: float) -> _Steps:
    whole = np.arange(np.ceil(rates.start[0]), to_age, _STEP_YEARS)
    edges = np.unique(np.concatenate([rates.start, rates.end, whole, [from_age, to_age]]))
    edges = edges[(edges >= rates.start[0]) & (edges <= to_age)]
    group = np.searchsorted(rates.start, edges[:-1], side="right") - 1
    start = edges[:-1]
    return _Steps(start, edges[1:], rates.incidence[group], rates.mortality[group], start >= from_age)


def _population(effect: ScoreEffect, log_ratio: float) -> _Population:
    if effect.population is not None:
        return _Population(np.exp(log_ratio * effect.population), np.full(len(effect.population), 1.0))
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return _Population(np.exp(log_ratio * nodes), weights)


def _hazard_for(cumulative: float, ratio: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """The cumulative hazard at ratio 1 at which people fall ill on average as `cumulative` says; Newton's method."""
    found = cumulative / float(share @ ratio)  # below the solution, from where Newton's steps never go too far
    wanted = np.exp(-cumulative)
    for _ in range(50):
        free = share * np.exp(-found * ratio)
        step = (float(free.sum()) - wanted) / float(free @ ratio)
        found += step
        if abs(step) <= 1e-14 * max(found, 1e-300):
            break
    return found


def _risk(steps: _Steps, effect: ScoreEffect, log_ratio: float, z: NDArray[np.float64]) -> NDArray[np.float64]:
    baseline, _ = _population(effect, log_ratio).baseline(steps)
    return _accumulated(steps, baseline, np.exp(log_ratio * z))


def _accumulated(steps: _Steps, baseline: NDArray[np.float64], ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Risk (people, times) of falling ill before death from other causes; exact for constant rates within a step."""
    counted = steps.counted
    years, mortality = steps.years[counted], steps.mortality[counted]
    ill = ratio[:, None] * baseline[counted]
    leaving = ill + mortality
    gone = np.cumsum(leaving * years, axis=1)
    before = np.exp(-np.concatenate([np.zeros((len(ratio), 1)), gone[:, :-1]], axis=1))
    share = np.divide(ill, leaving, out=np.zeros_like(ill), where=leaving > 0)
    risk = np.cumsum(share * before * -np.expm1(-leaving * years), axis=1)
    return np.concatenate([np.zeros((len(ratio), 1)), risk], axis=1)
