"""Does the effect differ between patients: individual effects, and whether they hold on patients not learned from.

A wide spread of estimated individual effects is no evidence that effects differ, so they are judged on rows that
neither they nor their nuisances were fitted to. Each fold's are learned from the folds before it, never from those
after it: were all folds learned from all others, their errors would go together, and the RATE's interval would be too
short (Wager 2024, arXiv:2405.05534; simulated without any difference, by a fifth to a third). Figures are made within
folds and averaged.

- group effects: mean score of the fifths of patients in order of their estimated effect (GATES), and the slope of the
  score on the estimate (BLP; 1 where estimates are right, 0 where they say nothing): Chernozhukov, Demirer, Duflo &
  Fernandez-Val 2025, Econometrica 93:1121.
- RATE: what is gained by treating those with the largest estimates first, instead of anybody, averaged over the share
  treated (AUTOC): Yadlowsky, Fleming, Shah, Brunskill & Wager 2025, JASA 120:38; interval by half-sample bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import (
    Scores,
    cross_fit_propensity,
    cross_fit_scores,
    mean_estimate,
    normal_interval,
    standard_error,
)
from careloop.plan.effect.goals import Array, GoalData
from careloop.plan.effect.individual.dr_learner import EffectLearner, dr_learner
from careloop.plan.effect.nuisance import subject_folds

GROUPS = 5
INNER_FOLDS = 2  # of the nuisances behind each fold's individual effects
HALF_SAMPLES = 200


@dataclass(frozen=True)
class GroupEffect:
    """A fifth of the patients in order of their estimated effect, the smallest first: estimate, and what is found."""

    group: int
    patients: int
    estimated: float
    found: Estimate


@dataclass(frozen=True)
class Heterogeneity:
    """Whether the effect of option minus versus differs between patients.

    `spread` is the standard deviation of the estimated individual effects within folds, which by itself says nothing;
    `groups` the fifths (those that have patients), `extremes` the last minus the first of them, `slope` of score on
    estimate, `rate` the AUTOC, whose sign is that of effects that follow their estimates. `shown` where the interval
    of the RATE lies above 0.
    """

    option: str
    versus: str
    spread: float
    groups: tuple[GroupEffect, ...]
    extremes: Estimate
    slope: Estimate
    rate: Estimate
    shown: bool
    words: str


def individual_effects(
    covariates: Array,
    scores: Scores,
    goal: GoalData,
    *,
    fold: Array,
    assignment: Literal["randomised", "observed"],
    learner: EffectLearner = dr_learner,
) -> Array:
    """Each option minus the first for each row, (n, K), learned from rows of earlier folds; NaN in the first fold."""
    options = scores.value.shape[1]
    effects = np.full((len(fold), options), np.nan)
    for k in range(1, fold.max() + 1):
        train, test = np.flatnonzero(fold < k), fold == k
        own = _scores_of(covariates[train], scores, goal, train, assignment=assignment)
        effects[test, 0] = 0.0
        for a in range(1, options):
            effects[test, a] = learner(covariates[train], own, a)(covariates[test])
    return effects


def _scores_of(
    covariates: Array, scores: Scores, goal: GoalData, rows: Array, *, assignment: Literal["randomised", "observed"]
) -> Scores:
    """Scores of these rows, made without any other: those at hand have learned from the rows to be judged."""
    subjects, arm, options = scores.subjects[rows], scores.arm[rows], scores.value.shape[1]
    inner = subject_folds(subjects, INNER_FOLDS, 0)
    propensity = cross_fit_propensity(covariates, arm, options, fold=inner, assignment=assignment)
    return cross_fit_scores(covariates, arm, goal.take(rows), subjects=subjects, propensity=propensity, fold=inner)


def heterogeneity(
    effects: Array, scores: Scores, *, options: tuple[str, ...], pair: tuple[int, int], fold: Array
) -> Heterogeneity:
    """Judge `individual_effects` (n, K) of the pair's first option minus its second on the scores of their rows."""
    a, b = pair
    rows = np.flatnonzero(~np.isnan(effects[:, a] - effects[:, b]))
    estimated, found = effects[rows, a] - effects[rows, b], scores.value[rows, a] - scores.value[rows, b]
    subjects, fold = scores.subjects[rows], fold[rows]
    group = _fifths(estimated, fold)
    rate = _rate(estimated, found, subjects, fold)
    shown = rate.low is not None and rate.low > 0
    return Heterogeneity(
        option=options[a],
        versus=options[b],
        spread=float(_within(estimated, fold).std()),
        groups=tuple(_group_effect(g, estimated, found, subjects, group == g) for g in np.unique(group)),
        extremes=_extremes(found, subjects, group),
        slope=_slope(estimated, found, subjects, fold),
        rate=rate,
        shown=shown,
        words=_in_words(options[a], options[b], shown, rate),
    )


def _fifths(estimated: Array, fold: Array) -> Array:
    """Fifth (n,) from 0 of each row in its fold: folds' models need not share a scale; ties stay together."""
    from scipy.stats import rankdata

    group = np.empty(len(estimated), dtype=int)
    for k in np.unique(fold):
        own = fold == k
        group[own] = GROUPS * (rankdata(estimated[own]) - 0.5) / own.sum()
    return group


def _group_effect(g: int, estimated: Array, found: Array, subjects: Array, own: Array) -> GroupEffect:
    mean = mean_estimate(found[own], subjects[own])
    return GroupEffect(int(g) + 1, len(np.unique(subjects[own])), float(estimated[own].mean()), mean)


def _extremes(found: Array, subjects: Array, group: Array) -> Estimate:
    first, last = group == 0, group == GROUPS - 1
    if not first.any() or not last.any():
        return Estimate(None, reason="too many estimated effects are the same")
    difference = float(found[last].mean() - found[first].mean())
    influence = np.where(last, (found - found[last].mean()) / last.sum(), 0.0)
    influence -= np.where(first, (found - found[first].mean()) / first.sum(), 0.0)
    return normal_interval(difference, standard_error(influence, subjects))


def _slope(estimated: Array, found: Array, subjects: Array, fold: Array) -> Estimate:
    """Least squares of score on estimate with an intercept for each fold."""
    centred, left = _within(estimated, fold), _within(found, fold)
    variance = float((centred**2).sum())
    if variance <= 1e-12 * float((estimated**2).sum()):
        return Estimate(None, reason="all estimated effects are the same")
    slope = float((centred * left).sum() / variance)
    return normal_interval(slope, standard_error(centred * (left - slope * centred) / variance, subjects))


def _within(values: Array, fold: Array) -> Array:
    mean = np.bincount(fold, weights=values) / np.maximum(np.bincount(fold), 1)
    return values - mean[fold]


def autoc(priority: Array, found: Array) -> float:
    """Mean over shares q of the mean score among the q of rows with the highest priority minus that of all.

    Rows of the same priority count with the mean of the orders they could be taken in.
    """
    order, first = _highest_first(priority)
    return _autoc(found[order], first, np.ones(len(order)))


def _highest_first(priority: Array) -> tuple[Array, Array]:
    """Order of the rows, and where in it each new priority begins."""
    order = np.argsort(-priority, kind="stable")
    return order, np.append(0, np.flatnonzero(np.diff(priority[order])) + 1)


def _autoc(found: Array, first: Array, kept: Array) -> float:
    """AUTOC of the rows kept (n,), 1 or 0, given in order."""
    place = kept.cumsum()
    # The row at place r is among the first j, with weight 1 / j, for every j from r on.
    weight = (kept / np.maximum(place, 1.0))[::-1].cumsum()[::-1]
    tied_weight, tied_found, tied = (np.add.reduceat(kept * v, first) for v in (weight, found, np.ones(len(found))))
    return float(((tied_weight / np.maximum(tied, 1.0) - 1.0) * tied_found).sum() / place[-1])


def _rate(estimated: Array, found: Array, subjects: Array, fold: Array) -> Estimate:
    """AUTOC within folds, averaged over their rows."""
    if all(np.ptp(estimated[fold == k]) == 0 for k in np.unique(fold)):
        return Estimate(None, reason="all estimated effects are the same")
    value, variance = 0.0, 0.0
    for k in np.unique(fold):
        own = fold == k
        share = own.mean()
        value += share * autoc(estimated[own], found[own])
        variance += share**2 * _half_sample_variance(estimated[own], found[own], subjects[own])
    return normal_interval(value, float(np.sqrt(variance)))


def _half_sample_variance(priority: Array, found: Array, subjects: Array) -> float:
    """Variance of the AUTOC over draws of half of the subjects without replacement."""
    order, first = _highest_first(priority)
    unique, position = np.unique(subjects[order], return_inverse=True)
    random = np.random.default_rng(0)
    draws = np.empty(HALF_SAMPLES)
    for i in range(HALF_SAMPLES):
        drawn = random.permutation(len(unique)) < len(unique) // 2
        draws[i] = _autoc(found[order], first, drawn[position].astype(float))
    return float(draws.var(ddof=1))


def _in_words(option: str, versus: str, shown: bool, rate: Estimate) -> str:
    if rate.value is None:
        return f"the effect of {option} against {versus} is estimated to be the same for everybody"
    limits = f"RATE {rate.value:.3g}, {rate.low:.3g} to {rate.high:.3g}"
    if shown:
        return f"the effect of {option} against {versus} differs between patients in the order estimated ({limits})"
    return (
        f"that the effect of {option} against {versus} differs between patients is not shown: those with the larger "
        f"estimated effects did not clearly have larger ones ({limits})"
    )
