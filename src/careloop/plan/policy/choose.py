"""Who should get which option: the best single one, an individual choice only if it proves better, or none.

The rule. An individual choice departs from the best single option where the 95 % interval of the patient's own expected
gain lies above zero. It is used only if, chosen on other subjects' rows and valued by doubly robust scores, it beats
the best single option with the lower limit of its 95 % interval above zero. Otherwise everybody is advised the best
single option, and nobody is advised anything if that cannot be told from the next.

The best option is told from all others if each 95 % interval leaves out 0: all must hold, so none is widened. If not
all do, those that did worse are named only by limits that hold for all pairs of options at once, for it is by looking
at all that the best one was found (Hothorn, Bretz & Westfall 2008, Biometrical Journal 50:346, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import Z_95, GoalEffect, Scores, mean_estimate
from careloop.plan.effect.goals import Array
from careloop.plan.policy.projection import LINKS, Projection, project

LIMIT_DRAWS = 20_000  # the limit is then known within 0.03


@dataclass(frozen=True)
class Policy:
    """The decision, with the figures that led to it.

    `best` is the best single option, `tied` are those it cannot be told from and `worse` those it can; options without
    overlap are in neither. `lead` is best minus next on the goal, `gain` the cross-fitted improvement of individual
    choice over `best` (positive is better), `departing` the share of patients for whom it departs from `best`.
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


def best_first(scores: Scores, effect: GoalEffect, usable: Array) -> list[int]:
    """Positions of the usable options (K,), the one with the best mean score first."""
    means = improvement(scores.value.mean(axis=0), effect.better)
    return [int(a) for a in np.argsort(-means, kind="stable") if usable[a]]


def cross_fitted_choice(
    scores: Scores, summaries: Array, *, effect: GoalEffect, fold: Array, best: int, allowed: Array
) -> Array:
    """Individual choice (n,) of each row by lines fitted without its fold."""
    link = LINKS[effect.kind]
    chosen = np.full(len(fold), best)
    usable = np.any(allowed, axis=0)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        lines = project(
            summaries[train], scores.value[train], scores.subjects[train], usable=usable, slopes="own", link=link
        )
        chosen[test] = individual_choice(lines, summaries[test], best=best, better=effect.better, allowed=allowed[test])
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
    options = [option.option for option in effect.options]
    order = best_first(scores, effect, np.any(allowed, axis=0))
    if len(order) < 2:
        return Policy(effect.goal, None, None, (), (), None, None, 0.0, "abstain", "")
    best = order[0]
    told = told_apart(scores, order)
    worse = tuple(options[a] for a in told)
    tied = tuple(options[a] for a in order[1:] if a not in told)
    chosen = cross_fitted_choice(scores, summaries, effect=effect, fold=fold, best=best, allowed=allowed)
    gain = value_gain(scores, chosen, np.full(len(chosen), best), better=effect.better)
    individual = gain.low is not None and gain.low > 0
    return Policy(
        goal=effect.goal,
        best=options[best],
        next=options[order[1]],
        tied=tied,
        worse=worse,
        lead=mean_estimate(scores.value[:, best] - scores.value[:, order[1]], scores.subjects),
        gain=gain,
        departing=float((chosen != best).mean()),
        decision="individual" if individual else "abstain" if tied else "best_single",
        reason="",
    )


def told_apart(scores: Scores, order: list[int]) -> list[int]:
    """Options that did worse than the best one, order[0]: all others, or those by limits that hold for all pairs."""
    means = scores.value[:, order].mean(axis=0)
    influence = (scores.value[:, order] - means) / len(scores.value)
    each = np.zeros((len(np.unique(scores.subjects)), len(order)))
    np.add.at(each, np.unique(scores.subjects, return_inverse=True)[1], influence)
    covariance = each.T @ each * len(each) / max(len(each) - 1, 1)
    lead = np.abs(means[1:] - means[0])
    variance = np.diag(covariance)
    error = np.sqrt(np.maximum(variance[1:] + variance[0] - 2 * covariance[0, 1:], 0.0))
    if (lead > Z_95 * error).all():
        return order[1:]
    limit = limit_of_all_pairs(covariance)
    return [a for a, clear in zip(order[1:], lead > limit * error, strict=True) if clear]


def limit_of_all_pairs(covariance: Array) -> float:
    """Standard errors that the largest difference of any pair exceeds in 5 % where all are equal, by simulation."""
    first, second = np.triu_indices(len(covariance), 1)
    noise = np.random.default_rng(0).multivariate_normal(np.zeros(len(covariance)), covariance, size=LIMIT_DRAWS)
    difference = np.abs(noise[:, first] - noise[:, second])
    error = np.sqrt(np.diag(covariance)[first] + np.diag(covariance)[second] - 2 * covariance[first, second])
    standard = np.divide(difference, error, out=np.zeros(difference.shape), where=error > 0)
    return float(np.quantile(standard.max(axis=1), 0.95))
