"""Gaps between groups of patients in error rates and calibration, each with its interval, flagged where they matter.

Every group of a variable is compared with the rest of the rows on the same resamples of subjects; of two groups the
first is compared with the second. Each side has its own censoring weights, as in `subgroups`, so its figures are those
of the subgroup. Which criterion of fairness counts is a choice (equal opportunity: recall; equalised odds: recall and
false positive rate; predictive parity: precision; demographic parity: called positive; calibration), and where the
outcome is not equally common in two groups an imperfect model cannot meet them all.

Sources: Hardt, Price and Srebro, NeurIPS 2016 (equal opportunity, equalised odds); Chouldechova, Big Data 2017;5:153,
and Kleinberg, Mullainathan and Raghavan, ITCS 2017 (criteria that exclude each other); Holm, Scand J Stat 1979;6:65.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from careloop.evaluate.calibration import logit, weighted_logistic
from careloop.evaluate.censoring import HorizonWeights, Outcomes, identified
from careloop.evaluate.discrimination import Ranking, Threshold, auroc, decisions
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, Estimate, Statistic, Support, estimate, replicate
from careloop.evaluate.gap import MARGINS, Gap, Side, sentence
from careloop.evaluate.subgroups import group_names, ordered

LEVEL = 0.05
CAUTION = (
    "A gap says where to look, not why: groups may differ in how common, how well recorded or how predictable the "
    "outcome is. Where it is not equally common, no imperfect model has equal error rates, equal precision and equal "
    "calibration at once, and the shares called positive should differ."
)


@dataclass(frozen=True)
class Fairness:
    """All gaps of one model; in words what was found, by which rule, and for whom there is too little to say."""

    gaps: tuple[Gap, ...]
    margins: Mapping[str, float]
    too_few: tuple[str, ...]
    rule: str
    words: tuple[str, ...]


def evaluate_fairness(
    probability: np.ndarray,
    outcomes: Outcomes,
    groups: Mapping[str, np.ndarray],
    *,
    threshold: Threshold,
    resamples: int,
    seed: int,
) -> Fairness | None:
    """The gaps between the groups of every variable in the figures of `MARGINS`; None where nothing divides the rows.

    `groups` maps a variable to each row's group (n,), as for `evaluate_subgroups`; errors are its errors too.
    """
    compared = [pair for variable, values in groups.items() for pair in _pairs(variable, values, outcomes)]
    if not compared:
        return None
    statistics: dict[str, Statistic] = {}
    for pair in compared:
        for key, rows in ((pair.key, pair.rows), (pair.others_key, pair.others_rows)):
            if key not in statistics:
                statistics[key] = _SideStatistic.of(probability, outcomes, rows, threshold=threshold.value)
    found = replicate(outcomes, statistics, resamples=resamples, seed=seed)
    called = probability >= threshold.value
    gaps = [
        gap
        for pair in compared
        for gap in _gaps(pair, found[pair.key], found[pair.others_key], outcomes=outcomes, called=called)
    ]
    return _summary(_adjusted(gaps), compared)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A group of a variable and the rows it is compared with; the keys name their figures among the replicates."""

    variable: str
    group: str
    others: str | None
    rows: np.ndarray
    others_rows: np.ndarray

    @property
    def key(self) -> str:
        return f"{self.variable}\0{self.group}"

    @property
    def others_key(self) -> str:
        return f"{self.variable}\0{self.others}" if self.others else f"{self.key}\0others"

    @property
    def words(self) -> str:
        return f"patients with {self.variable} {self.group}"

    @property
    def others_words(self) -> str:
        return f"those with {self.variable} {self.others}" if self.others else "the others"


def _pairs(variable: str, values: np.ndarray, outcomes: Outcomes) -> list[_Pair]:
    """Each group with the rest; the first with the second where there are two; none where there is one."""
    names = group_names(variable, values, len(outcomes))
    present = ordered(names)
    if len(present) == 2:
        first, second = present
        return [_Pair(variable, first, second, np.flatnonzero(names == first), np.flatnonzero(names == second))]
    if len(present) < 2:
        return []
    return [_Pair(variable, g, None, np.flatnonzero(names == g), np.flatnonzero(names != g)) for g in present]


@dataclass(frozen=True, eq=False)
class _SideStatistic:
    """The compared figures among some `rows` of all, for counts (b, n) of all rows; they are weighted by themselves."""

    rows: np.ndarray
    weights: HorizonWeights
    ranking: Ranking
    threshold: float
    probability: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, probability: np.ndarray, outcomes: Outcomes, rows: np.ndarray, *, threshold: float) -> _SideStatistic:
        """Sort the rows once."""
        mine, chosen = probability[rows], outcomes.take(rows)
        ranking = Ranking.of(mine, chosen.label)
        return cls(rows, HorizonWeights.of(chosen), ranking, threshold, mine, chosen.label.astype(np.float64))

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """(b,) each; NaN where a resample has none of the rows or nobody of them followed to the horizon."""
        mine = count[:, self.rows]
        own = self.weights(mine)
        own = np.where((identified(mine, own) & (mine.sum(axis=1) > 0))[:, None], own, np.nan)
        events, others = self.ranking.above(own)
        at = self.ranking.column(self.threshold)
        decided = decisions(events[:, at], others[:, at], events[:, -1], others[:, -1])
        prevalence = events[:, -1] / (events[:, -1] + others[:, -1])
        log_odds, ones = logit(self.probability), np.ones((len(self.rows), 1))
        return {
            "prevalence": prevalence,
            "auroc": auroc(events, others),
            "recall": decided["recall"],
            "false_positive_rate": 1 - decided["specificity"],
            "precision": decided["precision"],
            "called_positive": decided["called_positive"],
            "intercept": weighted_logistic(ones, self.label, own, offset=log_odds)[:, 0],
            "observed_expected": prevalence / (mine @ self.probability / mine.sum(axis=1)),
        }


def _gaps(
    pair: _Pair,
    mine: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    *,
    outcomes: Outcomes,
    called: np.ndarray,
) -> list[Gap]:
    """Every figure's gap of one pair, not yet adjusted for how many are looked at."""
    supports = [Support.of(outcomes.take(rows)) for rows in (pair.rows, pair.others_rows)]
    sides = [
        Side(name, support.n, support.events, _finite(found["prevalence"][0]))
        for name, support, found in zip((pair.words, pair.others_words), supports, (mine, theirs), strict=True)
    ]
    fewest_called = min(called[rows].sum() for rows in (pair.rows, pair.others_rows))
    gaps = []
    for figure, margin in MARGINS.items():
        difference = _difference(mine[figure] - theirs[figure], supports)
        if figure == "precision" and difference.low is not None and fewest_called < FEWEST_FOR_INTERVAL:
            difference = Estimate(difference.value, reason=f"one side has {fewest_called} rows called positive")
        p = _p_value(mine[figure] - theirs[figure]) if difference.low is not None else None
        gap = Gap(
            variable=pair.variable,
            group=pair.group,
            figure=figure,
            first=sides[0],
            others=sides[1],
            value=_finite(mine[figure][0]),
            others_value=_finite(theirs[figure][0]),
            difference=difference,
            margin=margin,
            p=p,
            adjusted_p=None,
            flagged=False,
            words="",
        )
        gaps.append(replace(gap, words=sentence(gap)))
    return gaps


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _difference(replicates: np.ndarray, supports: Sequence[Support]) -> Estimate:
    """The difference with its interval, or the reason of the side that has too few."""
    found = [estimate(replicates, support) for support in supports]
    return min(found, key=lambda e: e.low is not None)


def _p_value(differences: np.ndarray) -> float:
    """Two-sided p of no difference, from the bootstrap's standard error (Efron and Tibshirani 1993, section 13.2)."""
    from scipy.special import ndtr

    resampled = differences[1:]
    error = float(np.std(resampled[np.isfinite(resampled)], ddof=1))
    if error == 0:
        return float(differences[0] == 0)
    return float(2 * ndtr(-abs(differences[0]) / error))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (m,) of p (m,): the chance of any false finding among them stays below the level."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _adjusted(gaps: Sequence[Gap]) -> tuple[Gap, ...]:
    """The gaps with `adjusted_p` and `flagged`; the comparisons of one figure belong together."""
    result = list(gaps)
    for figure in MARGINS:
        places = [i for i, gap in enumerate(gaps) if gap.figure == figure and gap.p is not None]
        adjusted = holm(np.array([gaps[i].p for i in places], dtype=np.float64))
        for i, p in zip(places, adjusted.tolist(), strict=True):
            found = gaps[i].difference
            apart = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
            large = found.value is not None and abs(found.value) > gaps[i].margin
            result[i] = replace(gaps[i], adjusted_p=p, flagged=apart and large and p <= LEVEL)
    return tuple(result)


def _summary(gaps: tuple[Gap, ...], compared: Sequence[_Pair]) -> Fairness:
    """What was found, in words."""
    flagged = [gap.words for gap in gaps if gap.flagged]
    auroc_gaps = [gap for gap in gaps if gap.figure == "auroc"]
    too_few = tuple(f"Too few to say of {g.first.name}: {g.difference.reason}." for g in auroc_gaps if g.p is None)
    said = len(auroc_gaps) - len(too_few)
    none = f"None of {said} comparisons of groups shows a gap by the rule below; small gaps may be there all the same."
    words = flagged or [none if said else "No group is large enough to be compared."]
    rule = (
        f"{len(compared)} comparisons of groups in {len(MARGINS)} figures. A gap is flagged where its 95 % interval "
        "excludes zero, Holm's adjusted p over the comparisons within the figure is at most "
        f"{LEVEL:g}, and it is larger than a margin: 5 points of a rate, 0.05 of AUROC, 0.2 of the calibration "
        f"intercept or of observed : expected. Nothing is said of fewer than {FEWEST_FOR_INTERVAL} patients with or "
        "without the outcome on either side. The adjustment is within a figure, not over the figures: where groups do "
        "not differ at all, up to a third of evaluations still flag one figure or another."
    )
    return Fairness(gaps, MARGINS, too_few, rule, (*words, CAUTION))
