"""Does the effect differ between patients: individual effects by the DR-learner, and whether they hold out of fold.

Individual effects: doubly robust scores of the difference, regressed on the covariates (DR-learner: Kennedy 2023,
Electron J Stat 17:3008). A wide spread of them is no evidence that effects differ, so they are judged on rows that
neither they nor their nuisances were fitted to:

- group effects: mean score of the fifths of patients in order of their estimated effect (GATES), and the slope of the
  score on the estimate (BLP; 1 where estimates are right, 0 where they say nothing): Chernozhukov, Demirer, Duflo &
  Fernandez-Val 2025, Econometrica 93:1121.
- RATE: what is gained by treating those with the largest estimates first, instead of anybody, averaged over the share
  treated (AUTOC): Yadlowsky, Fleming, Shah, Brunskill & Wager 2025, JASA 120:38; interval by half-sample bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
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
from careloop.plan.effect.nuisance import fit_regression, subject_folds

GROUPS = 5
INNER_FOLDS = 2  # of the nuisances behind each fold's individual effects
HALF_SAMPLES = 200
FEWEST_TREATED_FIRST = 0.02  # share of patients from which the advantage of treating them first is averaged

Learner = Callable[[Array, Array], Callable[[Array], Array]]


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

    `spread` is the standard deviation of the estimated individual effects, which by itself says nothing; `groups` the
    fifths, `extremes` the last minus the first of them, `slope` of score on estimate, `rate` the AUTOC, whose sign is
    that of effects that follow their estimates. `shown` where the interval of the RATE lies above 0.
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


def dr_learner(covariates: Array, difference: Array) -> Callable[[Array], Array]:
    """Individual effects from scores of the difference (n,): a ridge regression or small trees, whichever is closer."""
    return fit_regression(covariates, difference, np.ones(len(difference)), kind="mean")


def individual_effects(
    covariates: Array,
    scores: Scores,
    goal: GoalData,
    *,
    fold: Array,
    assignment: Literal["randomised", "observed"],
    learner: Learner = dr_learner,
) -> Array:
    """Each option minus the first for each row, (n, K), from scores of which no part has seen the row's fold."""
    effects = np.zeros(scores.value.shape)
    options = scores.value.shape[1]
    for k in range(fold.max() + 1):
        train, test = np.flatnonzero(fold != k), fold == k
        value = _scores_of(covariates[train], scores, goal, train, assignment=assignment).value
        for a in range(1, options):
            effects[test, a] = learner(covariates[train], value[:, a] - value[:, 0])(covariates[test])
    return effects


def _scores_of(covariates: Array, scores: Scores, goal: GoalData, rows: Array, *, assignment: str) -> Scores:
    subjects, arm, options = scores.subjects[rows], scores.arm[rows], scores.value.shape[1]
    inner = subject_folds(subjects, INNER_FOLDS, 0)
    kind: Literal["randomised", "observed"] = "randomised" if assignment == "randomised" else "observed"
    propensity = cross_fit_propensity(covariates, arm, options, fold=inner, assignment=kind)
    return cross_fit_scores(covariates, arm, goal.take(rows), subjects=subjects, propensity=propensity, fold=inner)


def heterogeneity(
    effects: Array, scores: Scores, *, options: tuple[str, ...], pair: tuple[int, int], fold: Array
) -> Heterogeneity:
    """Judge `individual_effects` (n, K) of the pair's first option minus its second on the scores of their rows."""
    a, b = pair
    estimated, found = effects[:, a] - effects[:, b], scores.value[:, a] - scores.value[:, b]
    group = _fifths(estimated, fold)
    groups = tuple(_group_effect(g, estimated, found, scores.subjects, group) for g in range(GROUPS))
    slope, rate = (
        _slope(estimated, found, scores.subjects),
        _rate(_within_fold(estimated, fold), found, scores.subjects),
    )
    shown = rate.low is not None and rate.low > 0
    return Heterogeneity(
        option=options[a],
        versus=options[b],
        spread=float(estimated.std()),
        groups=groups,
        extremes=_extremes(found, scores.subjects, group),
        slope=slope,
        rate=rate,
        shown=shown,
        words=_in_words(options[a], options[b], shown, rate),
    )


def _within_fold(estimated: Array, fold: Array) -> Array:
    """Share (n,) of the rows of the same fold with a smaller estimate: folds' models need not share a scale."""
    share = np.empty(len(estimated))
    for k in np.unique(fold):
        own = fold == k
        share[own] = np.argsort(np.argsort(estimated[own], kind="stable"), kind="stable") / own.sum()
    return share


def _fifths(estimated: Array, fold: Array) -> Array:
    return np.minimum((_within_fold(estimated, fold) * GROUPS).astype(int), GROUPS - 1)


def _group_effect(g: int, estimated: Array, found: Array, subjects: Array, group: Array) -> GroupEffect:
    own = group == g
    mean = mean_estimate(found[own], subjects[own])
    return GroupEffect(g + 1, len(np.unique(subjects[own])), float(estimated[own].mean()), mean)


def _extremes(found: Array, subjects: Array, group: Array) -> Estimate:
    first, last = group == 0, group == GROUPS - 1
    difference = float(found[last].mean() - found[first].mean())
    influence = np.where(last, (found - found[last].mean()) / last.sum(), 0.0)
    influence -= np.where(first, (found - found[first].mean()) / first.sum(), 0.0)
    return normal_interval(difference, standard_error(influence, subjects))


def _slope(estimated: Array, found: Array, subjects: Array) -> Estimate:
    centred = estimated - estimated.mean()
    variance = float((centred**2).sum())
    if variance < 1e-12 * len(estimated):
        return Estimate(None, reason="all estimated effects are the same")
    slope = float((centred * found).sum() / variance)
    residual = found - found.mean() - slope * centred
    return normal_interval(slope, standard_error(centred * residual / variance, subjects))


def autoc(priority: Array, found: Array, weight: Array) -> float:
    """Mean over shares q of the mean score among the q with the highest priority minus that of all, by row weight."""
    order = np.argsort(-priority, kind="stable")
    value, w = found[order], weight[order]
    total = w.cumsum()
    share = total / total[-1]
    advantage = (w * value).cumsum() / np.maximum(total, 1e-12) - (w * value).sum() / total[-1]
    counted = w * (share >= FEWEST_TREATED_FIRST)
    return float((advantage * counted).sum() / counted.sum())


def _rate(priority: Array, found: Array, subjects: Array) -> Estimate:
    """AUTOC with the half-sample bootstrap's standard error, subjects being drawn."""
    if np.ptp(priority) == 0:
        return Estimate(None, reason="all estimated effects are the same")
    unique, position = np.unique(subjects, return_inverse=True)
    random = np.random.default_rng(0)
    draws = np.empty(HALF_SAMPLES)
    for i in range(HALF_SAMPLES):
        kept = np.zeros(len(unique))
        kept[random.permutation(len(unique))[: len(unique) // 2]] = 1.0
        draws[i] = autoc(priority, found, kept[position])
    return normal_interval(autoc(priority, found, np.ones(len(found))), float(draws.std(ddof=1)))


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
