"""Several estimators of one contrast side by side, and whether they differ by more than chance.

Each adjusted estimator leans on other models: weighting on who got which option, standardisation on the outcome, the
doubly robust ones on either. Where all their models hold they estimate the same number, so that a gap between two of
them beyond chance says that some model does not hold (the idea of Hausman 1978, Econometrica 46:1251). The plain
difference estimates that number only where arms were given at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import NormalDist

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.evaluate.censoring import CENSORED, COMPETING, OUTCOME
from careloop.plan.effect.doubly_robust import Scores, normal_interval, standard_error
from careloop.plan.effect.goals import Array, GoalData, Kind, MeasureGoalData
from careloop.plan.effect.parametric.regression import DEGREE, OptionMeans
from careloop.plan.effect.parametric.standardisation import augmented_means, standardised_means
from careloop.plan.effect.parametric.weighting import event_codes, plain_means, weighted_means
from careloop.plan.words import number, with_interval

PLAIN, WEIGHTED, STANDARDISED = "plain difference", "inverse probability weighting", "g-formula"
AUGMENTED, CROSS_FITTED = "doubly robust, same models", "doubly robust, cross-fitted"
LEANS_ON = {
    PLAIN: "arms given at random",
    WEIGHTED: "a logistic regression of who was given which option",
    STANDARDISED: "a regression of the outcome",
    AUGMENTED: "either of these two regressions",
    CROSS_FITTED: "learned models of either, close enough",
}
PATIENTS_PER_TERM = 10  # fewer in the smallest arm (for survival: events) and regressions without penalty are not tried
FALSE_ALARMS = 0.05  # chance that estimators whose models all hold are said to disagree
NOTABLE_GAP = 0.5  # standard errors of the better known of the two: a smaller gap changes nothing


@dataclass(frozen=True)
class EstimatorRow:
    """One estimator's means under both options and their difference; without values, with the reason, if it abstains.

    `leans_on` is what must hold for the estimate to be right, beside no unmeasured confounding for the adjusted ones.
    """

    estimator: str
    leans_on: str
    option_mean: Estimate
    versus_mean: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Disagreement:
    """Two adjusted estimators whose differences are farther apart than chance makes them; `gap` is first - second."""

    first: str
    second: str
    gap: Estimate


@dataclass(frozen=True)
class EstimatorTable:
    """All estimates of option minus versus on one goal, what they disagree about, and that in words."""

    goal: str
    kind: Kind
    horizon_days: float | None
    option: str
    versus: str
    rows: tuple[EstimatorRow, ...]
    disagreements: tuple[Disagreement, ...]
    words: str


def compare_estimators(
    goal: GoalData, covariates: Array, scores: Scores, *, options: tuple[str, ...], reference: str
) -> tuple[EstimatorTable, ...]:
    """One table for each option against the reference, from the rows whose cross-fitted scores are given.

    The parametric estimators take the covariates (n, p) as they are. The g-formula lets their slopes differ between
    options where every arm has patients enough, and hazards change with time as finely as events allow. An estimator
    that cannot be fitted abstains with its reason.
    """
    estimated = _all_means(goal, covariates, scores)
    r = options.index(reference)
    tables = []
    for a in (a for a in range(len(options)) if a != r):
        rows = tuple(_row(goal, name, means, (a, r), scores.subjects) for name, means in estimated.items())
        usable = {name: means for name, means in estimated.items() if isinstance(means, OptionMeans) and name != PLAIN}
        found = _disagreements(usable, a, r, scores.subjects)
        tables.append(
            EstimatorTable(
                goal=goal.name,
                kind=goal.kind,
                horizon_days=None if isinstance(goal, MeasureGoalData) else goal.horizon_days,
                option=options[a],
                versus=options[r],
                rows=rows,
                disagreements=found,
                words=_in_words(rows, found, goal.kind),
            )
        )
    return tuple(tables)


def _all_means(goal: GoalData, covariates: Array, scores: Scores) -> dict[str, OptionMeans | str]:
    """Every estimator's means, or why it abstains, in the order in which they are shown."""
    arm = scores.arm
    support = _support(goal, arm)
    weighted = _or_reason(lambda: weighted_means(goal, covariates, arm), covariates, np.bincount(arm[arm >= 0]).min())
    most_terms = int(support.min()) // PATIENTS_PER_TERM
    interactions = range(covariates.shape[1]) if covariates.shape[1] <= most_terms else ()
    cases = support.min() if interactions else support.sum()
    for degree in range(_degree(goal, arm), -1, -1):  # where no event falls late, steep courses of time have no end
        fit = partial(standardised_means, goal, covariates, arm, interactions=interactions, degree=degree)
        standardised = _or_reason(fit, covariates, cases)
        if isinstance(standardised, OptionMeans):
            break
    augmented: OptionMeans | str = standardised if isinstance(standardised, str) else weighted
    if isinstance(standardised, OptionMeans) and isinstance(weighted, OptionMeans):
        augmented = augmented_means(goal, covariates, arm, standardised)
    crossed = scores.value.mean(axis=0)
    return {
        PLAIN: plain_means(goal, arm),
        WEIGHTED: weighted,
        STANDARDISED: standardised,
        AUGMENTED: augmented,
        CROSS_FITTED: OptionMeans(crossed, (scores.value - crossed) / len(arm)),
    }


def _support(goal: GoalData, arm: Array) -> Array:
    """What each arm (K,) has to fit a regression with: measures taken, the rarer of two values, or events."""
    options = int(arm.max()) + 1
    if not isinstance(goal, MeasureGoalData):
        return np.bincount(arm[(event_codes(goal) == OUTCOME) & (arm >= 0)], minlength=options)
    taken = goal.known & (arm >= 0)
    counts = np.bincount(arm[taken], minlength=options)
    if not np.isin(goal.value[taken], (0.0, 1.0)).all():
        return counts
    ones = np.bincount(arm[taken & (goal.value == 1.0)], minlength=options)
    return np.minimum(ones, counts - ones)


def _degree(goal: GoalData, arm: Array) -> int:
    """Powers of time that the rarest kind of event in any arm has enough cases for."""
    if isinstance(goal, MeasureGoalData):
        return DEGREE
    codes, options = np.where(arm >= 0, event_codes(goal), CENSORED), int(arm.max()) + 1
    counts = [np.bincount(arm[codes == code], minlength=options).min() for code in (OUTCOME, COMPETING)]
    return min(DEGREE, int(min((count for count in counts if count > 0), default=0)) // PATIENTS_PER_TERM)


def _or_reason(estimate: Callable[[], OptionMeans], covariates: Array, support: int) -> OptionMeans | str:
    terms = covariates.shape[1]
    if support < PATIENTS_PER_TERM * terms:
        return f"{terms} covariates need {PATIENTS_PER_TERM * terms} patients or events to fit, there are {support}"
    try:
        return estimate()
    except InputError as error:
        return str(error)


def _row(
    goal: GoalData, name: str, means: OptionMeans | str, contrast: tuple[int, int], subjects: Array
) -> EstimatorRow:
    if isinstance(means, str):
        unknown = Estimate(None, reason=means)
        return EstimatorRow(name, LEANS_ON[name], unknown, unknown, unknown)
    own, other = (means.mean(k, subjects, kind=goal.kind) for k in contrast)
    return EstimatorRow(name, LEANS_ON[name], own, other, means.difference(*contrast, subjects))


def _disagreements(usable: dict[str, OptionMeans], a: int, r: int, subjects: Array) -> tuple[Disagreement, ...]:
    """Pairs whose gap is beyond chance, allowing for the number of pairs, and large enough to matter."""
    pairs = list(combinations(usable, 2))
    certain = NormalDist().inv_cdf(1 - FALSE_ALARMS / 2 / max(len(pairs), 1))
    parts = {
        name: (means.value[a] - means.value[r], means.influence[:, a] - means.influence[:, r])
        for name, means in usable.items()
    }
    error = {name: standard_error(influence, subjects) for name, (_, influence) in parts.items()}
    found = []
    for first, second in pairs:
        gap = parts[first][0] - parts[second][0]
        gap_error = standard_error(parts[first][1] - parts[second][1], subjects)
        if abs(gap) > max(certain * gap_error, NOTABLE_GAP * min(error[first], error[second])):
            found.append(Disagreement(first, second, normal_interval(gap, gap_error)))
    return tuple(found)


def _in_words(rows: tuple[EstimatorRow, ...], found: tuple[Disagreement, ...], kind: Kind) -> str:
    values = [row.difference.value for row in rows if row.estimator != PLAIN and row.difference.value is not None]
    count, low, high = len(values), number(min(values), kind), number(max(values), kind)
    if found:
        gap = max(found, key=lambda pair: abs(pair.gap.value or 0.0))
        return (
            f"the adjusted estimates disagree: {gap.first} and {gap.second} differ by {with_interval(gap.gap, kind)}, "
            f"more than chance, so a model that one of them leans on does not hold"
        )
    if count < 2:
        return "there is one adjusted estimate, which no other can be held against"
    return f"the {count} adjusted estimates, from {low} to {high}, do not differ by more than chance"
