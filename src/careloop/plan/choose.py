"""Who should get which option: the best single one, an individual choice only if it proves better, or none.

Doubly robust scores are regressed on a few summaries of the patient (the score-based pseudo-outcome regression of the
DR-learner: Kennedy 2023, Electron J Stat 17:3008; as best linear projection with robust intervals: Semenova &
Chernozhukov 2021, Econometrics Journal 24:264). Summaries are the prognosis (expected outcome averaged over options, as
benefit commonly grows with risk: PATH statement, Kent et al. 2020, Ann Intern Med 172:35) and the first
principal components of the covariates.

The rule. An individual choice departs from the best single option where the 95 % interval of the patient's own expected
gain lies above zero. It is used only if, chosen on other subjects' rows and valued by doubly robust scores, it beats
the best single option with the lower limit of its 95 % interval above zero. Otherwise everybody is advised the best
single option, and nobody is advised anything if that cannot be told from the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import Z_95, GoalEffect, Scores, mean_estimate
from careloop.plan.effect.goals import Array

COMPONENTS = 3


@dataclass(frozen=True)
class Summaries:
    """Centred and scaled prognosis and principal components; learned without looking at outcomes by arm."""

    centre: Array  # (p,)
    axes: Array  # (p, c)
    prognosis_mean: float
    prognosis_scale: float

    def transform(self, covariates: Array, prognosis: Array) -> Array:
        """Summaries (n, 1 + c) of covariates (n, p) and prognosis (n,)."""
        scaled = (prognosis - self.prognosis_mean) / self.prognosis_scale
        return np.column_stack([scaled, (covariates - self.centre) @ self.axes])


def fit_summaries(covariates: Array, prognosis: Array) -> Summaries:
    """Principal components of learning rows, scaled to unit variance, signs fixed."""
    centre = covariates.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(covariates - centre, rowvar=False)))
    kept = [i for i in np.argsort(values)[::-1][:COMPONENTS] if values[i] > 1e-9]
    axes = vectors[:, kept]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(kept))]) / np.sqrt(values[kept])
    return Summaries(centre, axes, float(prognosis.mean()), float(prognosis.std()) or 1.0)


@dataclass(frozen=True)
class Projection:
    """Expected value of each option as a line in the summaries, with the covariance of all coefficients."""

    coefficients: Array  # (K, 1 + s)
    covariance: Array  # (K, 1 + s, K, 1 + s)

    def expected(self, summaries: Array) -> Array:
        """Expected value (n, K)."""
        return _with_constant(summaries) @ self.coefficients.T

    def error(self, summaries: Array) -> Array:
        """Standard error of the expected value, (n, K)."""
        lines = _with_constant(summaries)
        own = np.einsum("kikj->kij", self.covariance)
        return np.sqrt(np.einsum("ni,kij,nj->nk", lines, own, lines))

    def difference_error(self, summaries: Array, option: int) -> Array:
        """Standard error of expected value minus that of `option`, (n, K)."""
        lines = _with_constant(summaries)
        own = np.einsum("kikj->kij", self.covariance)
        cross = self.covariance[:, :, option, :]
        spread = own + own[option] - cross - cross.transpose(0, 2, 1)
        return np.sqrt(np.maximum(np.einsum("ni,kij,nj->nk", lines, spread, lines), 0.0))


def _with_constant(summaries: Array) -> Array:
    return np.column_stack([np.ones(len(summaries)), summaries])


def project(
    summaries: Array, values: Array, subjects: Array, *, usable: Array, slopes: Literal["own", "shared"]
) -> Projection:
    """Least-squares lines of scores (n, K) on summaries (n, s), with a covariance that is robust and by subject.

    Slopes of their own let the difference between options vary with the patient; shared slopes (of the mean over usable
    options) let only the prognosis vary, all differences being those of the whole population.
    """
    lines = _with_constant(summaries)
    inverse = np.linalg.pinv(lines.T @ lines)
    leverage = lines @ inverse  # (n, 1 + s)
    if slopes == "own":
        coefficients = (leverage.T @ values).T
        residuals = values - lines @ coefficients.T
        influence = residuals[:, :, None] * leverage[:, None, :]
    else:
        centred = summaries - summaries.mean(axis=0)
        prognosis = values[:, usable].mean(axis=1)
        slope = (leverage.T @ prognosis)[1:]
        residual = prognosis - lines @ (leverage.T @ prognosis)
        means = values.mean(axis=0)
        constants = means - summaries.mean(axis=0) @ slope
        coefficients = np.column_stack([constants, np.tile(slope, (values.shape[1], 1))])
        own = residual[:, None] * leverage[:, 1:]
        influence = np.empty((*values.shape, lines.shape[1]))
        influence[:, :, 1:] = own[:, None, :]
        influence[:, :, 0] = (values - means - (centred @ slope)[:, None]) / len(values)
        influence[:, :, 0] -= (own @ summaries.mean(axis=0))[:, None]
    return Projection(coefficients, _covariance(influence, subjects))


def _covariance(influence: Array, subjects: Array) -> Array:
    unique, position = np.unique(subjects, return_inverse=True)
    each = np.zeros((len(unique), *influence.shape[1:]))
    np.add.at(each, position, influence)
    flat = each.reshape(len(unique), -1)
    shape = influence.shape[1:]
    return (flat.T @ flat * (len(unique) / max(len(unique) - 1, 1))).reshape(*shape, *shape)


@dataclass(frozen=True)
class Policy:
    """The decision, with the figures that led to it.

    `best` is the best single option, `tied` are those it cannot be told from and `worse` those it can, by the 95 %
    interval of the difference; options without overlap are in neither. `lead` is best minus next on the goal, `gain`
    the cross-fitted improvement of individual choice over `best` (positive is better), `departing` the share of
    patients for whom individual choice departs from `best`.
    """

    goal: str
    best: str | None
    next: str | None
    tied: tuple[str, ...]
    worse: tuple[str, ...]
    lead: Estimate | None
    gain: Estimate | None
    departing: float
    decision: Literal["individual", "best_single", "abstain"]
    reason: str


def individual_choice(projection: Projection, summaries: Array, *, best: int, better: str, allowed: Array) -> Array:
    """Option (n,) of each row: the one with most expected gain over `best`, if that gain's 95 % interval is above 0."""
    expected = projection.expected(summaries)
    gain = improvement(expected - expected[:, [best]], better)
    certain = gain > Z_95 * projection.difference_error(summaries, best)
    eligible = np.where(certain & allowed, gain, -np.inf)
    return np.where(np.isfinite(eligible).any(axis=1), eligible.argmax(axis=1), best)


def improvement(difference: Array, better: str) -> Array:
    """A difference in the goal, turned so that positive is better."""
    return -difference if better == "lower" else difference


def cross_fitted_choice(
    scores: Scores, summaries: Array, *, fold: Array, best: int, better: str, allowed: Array
) -> Array:
    """Individual choice (n,) of each row by lines fitted without its fold."""
    chosen = np.full(len(fold), best)
    usable = np.any(allowed, axis=0)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        lines = project(summaries[train], scores.value[train], scores.subjects[train], usable=usable, slopes="own")
        chosen[test] = individual_choice(lines, summaries[test], best=best, better=better, allowed=allowed[test])
    return chosen


def value_gain(scores: Scores, chosen: Array, against: Array, *, better: str) -> Estimate:
    """Mean improvement of giving `chosen` (n,) instead of `against` (n,), positive is better."""
    rows = np.arange(len(chosen))
    difference = scores.value[rows, chosen] - scores.value[rows, against]
    return mean_estimate(improvement(difference, better), scores.subjects)


def decide(
    scores: Scores,
    summaries: Array,
    *,
    effect: GoalEffect,
    allowed: Array,
    fold: Array,
) -> Policy:
    """Apply the rule of this module to learning rows with summaries (n, s) and options `allowed` (n, K)."""
    usable = np.any(allowed, axis=0)
    options = [option.option for option in effect.options]
    means = improvement(scores.value.mean(axis=0), effect.better)
    order = [int(a) for a in np.argsort(-means, kind="stable") if usable[a]]
    if len(order) < 2:
        return Policy(effect.goal, None, None, (), (), None, None, 0.0, "abstain", "")
    best = order[0]
    differences = [mean_estimate(scores.value[:, best] - scores.value[:, a], scores.subjects) for a in order[1:]]
    worse = tuple(options[a] for a, d in zip(order[1:], differences, strict=True) if _clear(d))
    tied = tuple(options[a] for a in order[1:] if options[a] not in worse)
    chosen = cross_fitted_choice(scores, summaries, fold=fold, best=best, better=effect.better, allowed=allowed)
    gain = value_gain(scores, chosen, np.full(len(chosen), best), better=effect.better)
    individual = gain.low is not None and gain.low > 0
    return Policy(
        goal=effect.goal,
        best=options[best],
        next=options[order[1]],
        tied=tied,
        worse=worse,
        lead=differences[0],
        gain=gain,
        departing=float((chosen != best).mean()),
        decision="individual" if individual else "abstain" if tied else "best_single",
        reason="",
    )


def _clear(difference: Estimate) -> bool:
    """Whether the interval leaves out 0."""
    return difference.low is not None and difference.high is not None and not difference.low <= 0 <= difference.high
